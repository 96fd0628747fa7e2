"""Splits by categories, as xgboost's ``hist`` finds them.

With few levels (fewer than ``max_cat_to_onehot``) one of them goes right and all others left.
With more, levels are ordered by the weight that each would have alone, and a first part of that
order goes right (Fisher 1958): scanned from its start with what is missing on the left, then from
its end with it on the right.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.candidates import Best, Parents
from wardround.common.trees.histograms import GRADIENT, HESSIAN
from wardround.common.trees.plan import Growth

Ints = NDArray[np.int64]


def by_category(place: int, cells: Ints, parents: Parents, growth: Growth, best: Best) -> None:
    """The best for one feature of each node, into ``best``.

    Parameters
    ----------
    place : the feature's
    cells : M x K x C, whole sums of its levels
    """
    if cells.shape[1] < growth.max_cat_to_onehot:
        _one_against_all(place, cells, parents, best)
    else:
        _parts(place, cells, parents, growth.max_cat_threshold, best)


def _one_against_all(place: int, cells: Ints, parents: Parents, best: Best) -> None:
    nodes, levels, channels = cells.shape
    missing = parents.total - cells.sum(axis=1)
    order = np.zeros((nodes, levels), np.int64)
    # each level twice: what is missing left, then right; of equal gains the first counts
    right = np.stack([cells, cells + missing[:, None]], axis=2).reshape(nodes, 2 * levels, channels)
    left = parents.total[:, None] - right
    gain = parents.scored(left)
    chosen, every = gain.argmax(axis=1), np.arange(nodes)
    order[:, 0] = chosen // 2
    best.take(
        [place], gain[every, chosen][:, None], left[every, chosen][:, None], _zeros(nodes), True
    )
    best.default_left[:, place] = chosen % 2 == 0
    best.right[place] = order, np.ones(nodes, np.int64)


def _parts(place: int, cells: Ints, parents: Parents, most: int, best: Best) -> None:
    nodes, levels, _ = cells.shape
    sums, every = parents.units.numbers(cells), np.arange(nodes)
    weight = parents.rules.free_weight(sums[..., GRADIENT], sums[..., HESSIAN])
    order = np.argsort(weight, axis=1, kind="stable").astype(np.int64)
    added = np.cumsum(np.take_along_axis(cells, order[..., None], axis=1), axis=1)
    steps = min(most, levels) - 1
    counts = np.ones(nodes, np.int64)
    if steps:
        # the first 1, 2, ... of the order go right, and what is missing left
        left = parents.total[:, None] - added[:, :steps]
        gain = parents.scored(left)
        at = gain.argmax(axis=1)
        best.take([place], gain[every, at][:, None], left[every, at][:, None], _zeros(nodes), True)
        counts = at + 1
        # the last 1, 2, ... go left alone, and what is missing right
        ends = levels - 1 - np.arange(steps)
        left = added[:, -1:] - added[:, ends - 1]
        gain = parents.scored(left)
        at = gain.argmax(axis=1)
        more = best.take(
            [place], gain[every, at][:, None], left[every, at][:, None], _zeros(nodes), False
        )
        counts = np.where(more[:, 0], ends[at], counts)
    best.right[place] = order, counts


def _zeros(nodes: int) -> Ints:
    return np.zeros((nodes, 1), np.int64)
