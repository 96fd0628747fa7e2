"""Which rows and features a tree sees, by the plan's seed.

A hospital draws its own rows: nobody else learns which, and no list is sent. Row n of a tree is in
where a hash of (seed, tree, hospital, n) lies below the share, as xgboost's independent draws are.
Features are drawn from the seed alone, so both sides draw the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wardround.common import rng
from wardround.common.trees.plan import Growth

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


def rows_drawn(growth: Growth, round_number: int, tree: int, hospital: str, rows: int) -> Mask:
    """Which of a hospital's rows a tree sees.

    round_number, tree : of all rounds, and of the trees of a round
    hospital : its own name
    """
    if growth.subsample >= 1:
        return np.ones(rows, np.bool_)
    draws = rng.numpy_generator(growth.seed, "tree rows", round_number, tree, hospital)
    return draws.random(rows) < growth.subsample


def features_drawn(growth: Growth, round_number: int, tree: int, level: int, count: int) -> Mask:
    """Which of so many features may split a node of this level."""
    of_tree = _drawn(growth, growth.colsample_bytree, np.arange(count), round_number, tree, -1)
    chosen = _drawn(growth, growth.colsample_bylevel, of_tree, round_number, tree, level)
    found = np.zeros(count, np.bool_)
    found[chosen] = True
    return found


def _drawn(growth: Growth, share: float, among: Ints, *where: int) -> Ints:
    """As xgboost: the share of those there are, one at least."""
    if share >= 1:
        return among
    draws = rng.numpy_generator(growth.seed, "tree features", *where)
    return np.sort(draws.permutation(among)[: max(1, int(share * len(among)))])
