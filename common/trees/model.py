"""Finished trees, and what they predict, in float32 and in xgboost's order of adding.

Trees stand in rounds: round after round, in each the trees of output 0, then of output 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.bins import checked_rows
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.objectives import Objective
from wardround.common.trees.tree import Tree

_AT_ONCE = 8192


@dataclass(frozen=True, eq=False)
class TreeModel:
    """Trees over features.

    parallel : trees of a round for each output (``num_parallel_tree``)
    """

    features: tuple[Feature, ...]
    objective: Objective
    trees: tuple[Tree, ...]
    parallel: int = 1

    @property
    def trees_a_round(self) -> int:
        """Of all outputs."""
        return self.objective.outputs * self.parallel

    @property
    def rounds(self) -> int:
        """How many there are."""
        return len(self.trees) // self.trees_a_round

    def first(self, rounds: int) -> TreeModel:
        """The same, of its first rounds."""
        kept = self.trees[: rounds * self.trees_a_round]
        return TreeModel(self.features, self.objective, kept, self.parallel)

    def margins(self, rows: Floats32) -> Floats32:
        """N x K, of rows N x P."""
        checked_rows(rows, self.features)
        found = start(self.objective, len(rows))
        for first in range(0, len(rows), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            for number, tree in enumerate(self.trees):
                output = (number % self.trees_a_round) // self.parallel
                found[part, output] += tree.value[tree.reached(rows[part])]
        return found

    def predict(self, rows: Floats32) -> Floats32:
        """In the outcome's unit: as ``Objective.predicted``."""
        return self.objective.predicted(self.margins(rows))


def start(objective: Objective, rows: int) -> Floats32:
    """Margins before the first tree, N x K."""
    return np.full((rows, objective.outputs), objective.base_margin, np.float32)


def added(
    margins: Floats32, rows: Floats32, trees: NDArray[np.object_] | tuple[Tree, ...], parallel: int
) -> Floats32:
    """Margins with the trees of one round more; those that were there stay as they are."""
    found = margins.copy()
    for number, tree in enumerate(trees):
        found[:, number // parallel] += tree.value[tree.reached(rows)]
    return found
