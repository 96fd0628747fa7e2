"""What a party's tower takes of its rows: images, or standardised columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import JointRefused
from wardround.common.split.schedule import Rows
from wardround.common.tasks.linked import LinkedRows

_FARTHEST = 10.0
"""Standardised values are cut off there: one wrong cell shouldn't rule a network."""


@dataclass(frozen=True)
class Inputs:
    """N rows, in the order that the parties agree on.

    rows : pixels, N x channels x size; or N x columns, float32, maybe of no column
    names : of the columns; none of images
    mean, deviation : of the columns, over the persons that are trained on
    """

    rows: Tensor
    names: tuple[str, ...]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def inputs_of(rows: LinkedRows, training: Rows) -> Inputs:
    """A party's own.

    rows : of the linked persons, in the order that the parties agree on
    training : places of those who are trained on

    Raises DataError, by place.
    """
    if rows.own.images is not None:
        nothing = np.zeros(0)
        return Inputs(rows.images, (), nothing, nothing)
    values = rows.matrix()
    mean, deviation = values[training].mean(0), values[training].std(0)
    deviation = np.where(deviation > 1e-12 * np.maximum(1.0, np.abs(mean)), deviation, 1.0)
    scaled = np.clip((values - mean) / deviation, -_FARTHEST, _FARTHEST).astype(np.float32)
    return Inputs(torch.from_numpy(scaled), rows.columns, mean, deviation)


def outcome_of(rows: LinkedRows, training: Rows) -> Tensor:
    """The outcome, 0 or 1, N. Raises JointRefused where it isn't of two classes, or those who are
    trained on are all of one; DataError, by place."""
    found = rows.outcome
    if not np.isin(found, (0.0, 1.0)).all() or len(np.unique(found[training])) < 2:
        raise JointRefused("a split network needs an outcome of two classes, and persons of both")
    return torch.from_numpy(found.astype(np.float32))
