"""How trees are grown: xgboost's parameters under their own names, and what is ours.

All of it stands in a study's settings, so hospitals know it before the first sum.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_DEPTH = 12


@dataclass(frozen=True)
class Growth:
    """xgboost's meaning and defaults, but where said.

    learning_rate : a leaf's weight is taken times this, over ``num_parallel_tree``
    max_depth : of a tree, 1 to 12
    min_child_weight : smallest sum of hessians of a child
    gamma : smallest gain of a split
    reg_lambda, reg_alpha : L2 and L1 of a leaf's weight
    max_delta_step : largest weight of a leaf; 0 for none
    max_cat_to_onehot : with fewer categories than this, one is told from all others
    max_cat_threshold : at most so many categories (less one) stand on one side of a split
    num_parallel_tree : trees of a round and class: a random forest
    subsample : the share of rows that a tree sees; each hospital draws its own
    colsample_bytree, colsample_bylevel : the share of features, drawn from the seed
    """

    learning_rate: float = 0.3
    max_depth: int = 6
    min_child_weight: float = 1.0
    gamma: float = 0.0
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    max_delta_step: float = 0.0
    max_cat_to_onehot: int = 4
    max_cat_threshold: int = 64
    num_parallel_tree: int = 1
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    colsample_bylevel: float = 1.0
    seed: int = 0

    @property
    def rate(self) -> float:
        """Of one tree."""
        return self.learning_rate / self.num_parallel_tree


def least_hessian(
    min_child_weight: float, fewest_rows: int, largest: float, counted: bool = False
) -> float:
    """``min_child_weight`` that leaves no leaf with fewer rows than that: a row's hessian is at
    most ``largest``, so hessians of w need w / largest rows. No counts are sent for it, but where
    rows are counted anyway (``Objective.counts_rows``)."""
    return min_child_weight if counted else max(min_child_weight, fewest_rows * largest)
