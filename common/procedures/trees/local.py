"""A hospital's rows against the trees so far: margins are kept from step to step.

What is kept is worked out again where the trees that come aren't those with more behind them, or
where the process was started anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.figures.sums import Sums, scalar
from wardround.common.procedures.procedure import Parts, Shapes
from wardround.common.procedures.trees.agreed import Agreed
from wardround.common.procedures.trees.rows import tree_rows
from wardround.common.tasks.classes import loss_sum
from wardround.common.tasks.tabular import TabularTask
from wardround.common.tasks.targets import no_targets
from wardround.common.trees.features import Floats32
from wardround.common.trees.histograms import Units
from wardround.common.trees.local import LocalRows
from wardround.common.trees.objectives import Objective, Squared
from wardround.common.trees.tree import Tree

Trees = tuple[Tree, ...]
HELD_OUT = ("validation", "test")
_ROWS = "rows"


class HospitalRows:
    """The rows of one hospital.

    Parameters
    ----------
    parallel : trees of a round for each output
    working : where they are kept
    """

    def __init__(
        self, task: TabularTask, agreed: Agreed, parallel: int, working: dict[str, Any]
    ) -> None:
        self._task, self._agreed, self._parallel = task, agreed, parallel
        self._working = working

    def at(self, parts: Parts, split: str, trees: Trees, rounds: int) -> LocalRows:
        """The rows of a split after so many rounds of these trees."""
        known = self._working.get(f"{_ROWS}/{split}")
        a_round = self._agreed.objective.outputs * self._parallel
        if known is not None:
            agreed, rows, before, _ = known
            same = agreed is self._agreed and rows.rounds <= rounds
            if not same or any(x is not y for x, y in zip(before, trees, strict=False)):
                known = None
        if known is None:
            found = tree_rows(
                parts[split], self._agreed.features, self._agreed.totals, self._task.options
            )
            bins, objective = self._agreed.bins, self._agreed.objective
            rows = LocalRows(bins, objective, found.matrix, found.target)
            known = self._agreed, rows, (), found.truth
        _, rows, _, truth = known
        for number in range(rows.rounds, rounds):
            rows.take_round(trees[number * a_round : (number + 1) * a_round], self._parallel)
        self._working[f"{_ROWS}/{split}"] = self._agreed, rows, trees[: rounds * a_round], truth
        found_rows: LocalRows = rows
        return found_rows

    def gradients(
        self, parts: Parts, trees: Trees, rounds: int, objective: Objective, units: Units
    ) -> NDArray[np.int64]:
        """Whole numbers of the round's gradients and hessians; worked out once."""
        rows = self.at(parts, "train", trees, rounds)
        known = self._working.get("gradients")
        if known is None or known[0] is not rows or known[1] != rounds:
            rows.objective = objective
            known = rows, rounds, rows.gradients(units)
            self._working["gradients"] = known
        found: NDArray[np.int64] = known[2]
        return found

    def score(self, parts: Parts, trees: Trees, rounds: int) -> Sums:
        """The summed loss of the validation rows, and how many they are."""
        if "validation" not in parts:
            return {"score/loss": scalar(0.0), "score/examples": scalar(0.0)}
        outputs, truth = self._outputs(parts, "validation", trees, rounds)
        loss = loss_sum(self._task.loss(outputs, truth))["loss"] if len(truth) else scalar(0.0)
        return {"score/loss": loss, "score/examples": scalar(float(len(truth)))}

    def figures(self, parts: Parts, trees: Trees, rounds: int) -> Sums:
        """Figure sums of the rows that were held out, by split."""
        found: Sums = {}
        for split in self._splits():
            if split in parts:
                sums = self._task.metrics(*self._outputs(parts, split, trees, rounds))
            else:
                sums = self._task.metrics(*self._none())
            found |= {f"{split}/{key}": value for key, value in sums.items()}
        return found

    def figure_shapes(self) -> Shapes:
        """Of ``figures``, worked out on no row."""
        sums = self._task.metrics(*self._none())
        return {
            f"{split}/{key}": value.shape for split in self._splits() for key, value in sums.items()
        }

    def _splits(self) -> list[str]:
        return [split for split in HELD_OUT if self._agreed.held_out[split]]

    def _none(self) -> tuple[Tensor, Tensor]:
        margins = np.zeros((0, self._agreed.objective.outputs), np.float32)
        return self._scaled(margins), no_targets(0, self._task.options)

    def _outputs(
        self, parts: Parts, split: str, trees: Trees, rounds: int
    ) -> tuple[Tensor, Tensor]:
        rows = self.at(parts, split, trees, rounds)
        return self._scaled(rows.margins), self._working[f"{_ROWS}/{split}"][3]

    def _scaled(self, margins: Floats32) -> Tensor:
        """As the task's figures take outputs: a number standardised."""
        objective = self._agreed.objective
        if isinstance(objective, Squared):
            margins = ((margins - objective.mean) / objective.deviation).astype(np.float32)
        return torch.from_numpy(margins)
