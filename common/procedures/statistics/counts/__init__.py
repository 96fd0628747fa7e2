"""How many, how much, and together with what.

groups       rows by the levels of a column; counts of two columns together
numbers      means, deviations and quantiles of columns by groups, step after step
summary      of columns of numbers and of categories, by groups
crosstab     two columns of categories: counts, and tests of them
correlation  of columns of numbers
table_one    patients' characteristics by group
noised       counts with noise
"""
