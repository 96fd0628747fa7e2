"""Regressions: what depends on what, by a formula.

factors   what may stand between a formula's operators
formula   its terms
splines   curves as columns
facts     what is agreed on first: levels, means, knots
design    the design matrix
"""
