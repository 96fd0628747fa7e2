"""Questions that aren't training, drawn from the procedures' own models and asked of hospitals that
differ: statistics, trees, descriptions, figures of finished models, vertical models, a procedure
of one's own.

    draw      a question of a seed
    ask       asked as a user would, with the advice of refusals followed
    judges    statistics against statsmodels, scipy, scikit-learn, lifelines on all rows together
    others    the other procedures against xgboost, statsmodels, numpy
"""
