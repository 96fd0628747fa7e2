"""Regressions: what depends on what, by a formula.

    factors     what may stand between a formula's operators
    formula     its terms
    splines     curves as columns
    facts       what is agreed on first: levels, means, knots
    design      the design matrix
    rows        before the search: scales, and what is of few persons
    few         numbers that are categories in disguise, and which cells are few
    solve       symmetric equations, to the last bit alike everywhere
    families    likelihoods of generalised linear models
    newton      where a search stands, by totals
    by_formula  what analyses by a formula share
    glm         generalised linear models
    penalty     coordinate descent on summed products
    penalised   ridge, lasso, elastic net
    meta        each hospital's own model, pooled
    mixed       a random intercept by hospital
    shown       tables, forest plots, figures of fit

A formula is text from elsewhere: nothing of it is ever handed to Python.
"""
