"""Figures of a model by groups of patients, from sums alone, and none that tells of few.

    groups   by which columns, in which groups, and which group a row is in
    cells    groups are put together until nothing that is shown tells of few persons
    judge    a hospital's sums by group, and what is shown of their totals
    fairness gaps between groups, as fairlearn names them
    words    that, for people

What is published is of blocks of groups, and each block's figures are those of its rows pooled. The
server sees the exact sums of all hospitals by group, small ones too.
"""
