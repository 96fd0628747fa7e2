"""A hospital's sums of a level: gradients and hessians in every bin of the nodes that are asked.

Nodes are *asked* in the order of trees, then of nodes. Of two children of a node only the one with
fewer rows' hessians is asked: the other's sums are the parent's less these, exactly. A node that is
too small to be divided is not asked at all, so its bins, which few rows would be in, don't leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.bins import Bins
from wardround.common.trees.grid import Unit
from wardround.common.trees.tree import NONE, Tree

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
GRADIENT, HESSIAN, ROWS = 0, 1, 2


@dataclass(frozen=True)
class Units:
    """Of the channels: gradients, hessians, and rows where these are counted.

    counted : whether they are (``Objective.counts_rows``)
    """

    gradient: Unit
    hessian: Unit
    counted: bool = False

    @property
    def channels(self) -> int:
        """C, how many numbers a bin has."""
        return 3 if self.counted else 2

    def whole(self, gradients: NDArray[np.floating], hessians: NDArray[np.floating]) -> Ints:
        """N x K x C whole numbers of gradients and hessians, each N x K."""
        found = [self.gradient.whole(gradients), self.hessian.whole(hessians)]
        if self.counted:
            found.append(np.ones_like(found[0]))
        return np.stack(found, axis=-1)

    def numbers(self, whole: Ints) -> Floats:
        """What whole numbers (..., C) stand for, ... x 2; exact."""
        return np.stack(
            [
                self.gradient.numbers(whole[..., GRADIENT]),
                self.hessian.numbers(whole[..., HESSIAN]),
            ],
            axis=-1,
        )


def asked_nodes(tree: Tree, level: int, min_child_weight: float) -> list[int]:
    """Nodes of this level whose sums are asked of hospitals.

    Both sides work it out on the same float32 hessians.
    """
    if level == 0:
        return [0]
    least, asked = 2 * float(np.float32(min_child_weight)), list[int]()
    for parent in np.flatnonzero(tree.depth == level - 1).tolist():
        children = [int(tree.left[parent]), int(tree.right[parent])]
        if children[0] == NONE:
            continue
        may = [one for one in children if float(tree.hessian[one]) >= least]
        if len(may) == 2:
            may = [min(may, key=lambda one: (float(tree.hessian[one]), one))]
        asked += may
    return asked


def width(bins: Bins) -> int:
    """How many numbers a node has in a channel: one for each place, then one for all its rows."""
    return bins.places + 1


def level_sums(places: Ints, members: Sequence[Ints], whole: Sequence[Ints], bins: Bins) -> Ints:
    """Of several nodes: nodes x ``width(bins)`` x C.

    Parameters
    ----------
    places : P x N, as ``Bins.place`` gives them
    members : of each node, which rows are in it, as numbers among the N
    whole : of each node, N x C whole numbers: its tree's
    """
    features, size = len(places), width(bins)
    channels = whole[0].shape[1] if len(whole) else 2
    found = np.zeros((len(members), size, channels), np.int64)
    for number, rows in enumerate(members):
        if not len(rows):
            continue
        here = (places[:, rows] if len(rows) < places.shape[1] else places).ravel()
        for channel in range(channels):
            # float64 adds whole numbers below 2^53 exactly: grid.py keeps every sum there
            values = whole[number][rows, channel].astype(np.float64)
            sums = np.bincount(here, np.tile(values, features), size)
            sums[bins.places] = values.sum()
            found[number, :, channel] = sums.astype(np.int64)
    return found
