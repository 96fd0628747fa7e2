"""A hospital's half: its rows against agreed bins, and the sums of a level of trees.

Margins of trees that are finished are kept as long as the same trees come again with more behind
them, which is said by the objects themselves or by the caller's digest of them; nothing else is
kept between two levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.bins import Bins, checked_rows
from wardround.common.trees.features import Floats32
from wardround.common.trees.growing import Asked
from wardround.common.trees.histograms import Units, level_sums
from wardround.common.trees.model import added, start
from wardround.common.trees.objectives import Objective
from wardround.common.trees.plan import Growth
from wardround.common.trees.sampling import rows_drawn
from wardround.common.trees.tree import Tree

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class LocalRows:
    """Rows of one hospital's one split.

    Parameters
    ----------
    rows : N x P float32, as ``features.as_rows`` makes them
    target : N, as the objective has it
    """

    def __init__(self, bins: Bins, objective: Objective, rows: Floats32, target: Floats) -> None:
        self.bins, self.objective, self.target = bins, objective, target
        self.rows = checked_rows(rows, bins.features)
        self.places = bins.place(self.rows)
        self.margins = start(objective, len(rows))
        self.rounds = 0

    def __len__(self) -> int:
        return len(self.target)

    def take_round(self, trees: Sequence[Tree], parallel: int = 1) -> None:
        """Add the trees of the next round to the margins."""
        self.margins = added(self.margins, self.rows, tuple(trees), parallel)
        self.rounds += 1

    def gradients(self, units: Units) -> Ints:
        """N x K x C whole numbers of this round's gradients and hessians."""
        return units.whole(*self.objective.gradients(self.margins, self.target))

    def level_sums(
        self,
        whole: Ints,
        trees: Sequence[Tree],
        asked: Sequence[Asked],
        growth: Growth,
        hospital: str,
    ) -> Ints:
        """Of the asked nodes of trees in growth: nodes x ``width(bins)`` x C, whole.

        Parameters
        ----------
        whole : as ``gradients`` gives them
        trees : of this round, as they are so far
        asked : trees and nodes, as ``growing.asked_of`` gives them
        hospital : its own name, for the rows that a tree sees
        """
        members, weights = list[Ints](), list[Ints]()
        at = dict[int, tuple[Ints, Ints]]()
        for tree, node in asked:
            if tree not in at:
                drawn = rows_drawn(growth, self.rounds, tree, hospital, len(self))
                kept = np.flatnonzero(drawn)
                at[tree] = kept, trees[tree].reached(self.rows[kept])
            kept, reached = at[tree]
            members.append(kept[reached == node])
            weights.append(whole[:, tree // growth.num_parallel_tree])
        return level_sums(self.places, members, weights, self.bins)
