"""Gradient-boosted trees and random forests as sums over hospitals: the arithmetic alone.

    features     the columns, and what a tree may do with each
    agreeing     where a column is cut, from counts over hospitals
    bins         those cuts, and each row's place between them
    grid         gradients as whole numbers, whose sums are exact in any order
    objectives   what is minimised: gradients, hessians, where it starts; ``cox`` its risk sets
    plan         how trees are grown
    sampling     which rows and columns a tree sees
    tree         one tree, and the leaf that a row ends in
    histograms   a hospital's sums of a level
    gains, splits, category_splits   which split is best, as xgboost's ``hist`` finds it
    growing      a round of trees, level by level, from those sums
    model        finished trees, and what they predict
    codec        trees as arrays and back
    xgboost_file, xgboost_read   the JSON that plain xgboost loads
    private      trees whose splits need no data and whose leaves carry noise

It knows no transport, no mask and no procedure: ``common/procedures/trees`` asks for these sums.
The reference is xgboost (Chen and Guestrin 2016), ``tree_method = "hist"``, over all rows at once.
"""
