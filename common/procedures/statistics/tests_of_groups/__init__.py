"""Whether groups differ: t-tests, analysis of variance, tests by ranks.

formulas  the tests themselves, of exact totals
means     of means, by counts, means and variances
ranks     of ranks, by a histogram over all groups
"""
