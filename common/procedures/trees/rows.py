"""A hospital's rows as trees take them: a matrix of the agreed columns, and the target.

Rows whose class nobody agreed on are left out, as training leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.figures.sums import Sums
from wardround.common.tasks.class_limits import UNLABELLED
from wardround.common.tasks.columns import numeric_columns
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.targets import read_targets
from wardround.common.trees.cox import coded
from wardround.common.trees.features import Feature, Floats32
from wardround.common.trees.table import matrix_of

Floats = NDArray[np.float64]
_SHORTEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class TreeRows:
    """Of one split.

    matrix : N x P float32
    target : N, as objectives have it
    truth : the same as the task's figures take it
    """

    matrix: Floats32
    target: Floats
    truth: Tensor

    def __len__(self) -> int:
        return len(self.target)


def tree_rows(
    table: Table, features: tuple[Feature, ...], totals: Sums, options: TabularOptions
) -> TreeRows:
    """A table's. ``totals``: those that targets are read by. Raises DataError by place."""
    own = {*numeric_columns(table, options), *options.columns.binary}
    for one in features:
        if one.number and one.name not in own:
            raise table.lacks(one.name, ", which other hospitals have")
    matrix = matrix_of(table, features, options)
    truth = read_targets(table, totals, options)
    target = _target(table, truth, options)
    if options.kind == "multiclass" and (lost := (truth == UNLABELLED).numpy()).any():
        kept = torch.from_numpy(~lost)
        return TreeRows(matrix[~lost], target[~lost], truth[kept])
    return TreeRows(matrix, target, truth)


def _target(table: Table, truth: Tensor, options: TabularOptions) -> Floats:
    if options.kind == "regression":
        return table.numbers(str(options.columns.target))
    values: Floats = truth.numpy().astype(np.float64)
    if options.kind == "survival":
        time = np.maximum(values[:, 0], _SHORTEST)  # the sign of a time says whether it ended
        return coded(time, values[:, 1] > 0)
    return values
