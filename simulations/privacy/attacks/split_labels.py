"""Outcomes read from the gradients that go back to a feature party (Li et al. 2022, 2102.08504).

*By length*: a person of the rarer class is predicted worse, so its gradient is longer. *By
direction*: gradients of the two classes point opposite ways, so the first direction of the
gradients of some batches parts them; which side is which a few persons tell whose outcome is known.
Both are of a party that only looks at what it is sent, and adds up what it sees of a person in all
batches, which noise of each batch is averaged by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Batch = tuple[Rows, Floats]
"""Persons of a batch, and their gradients, B x width."""
_KNOWN = 5
_TOGETHER = 20
"""Batches in which a head's direction is taken for the same: more find it under more noise."""


@dataclass(frozen=True)
class Leak:
    """Areas under the curve of what an attacker takes for the outcome; 0.5 is guessing."""

    length: float
    direction: float


def read_outcomes(batches: Sequence[Batch], outcome: Floats) -> Leak:
    """Both attacks on all batches. The rarer class is known to be the rarer, and of five of its
    persons the outcome is known; these aren't counted.

    outcome : 0 or 1, of all linked persons
    """
    seen = np.unique(np.concatenate([rows for rows, _ in batches]))
    rarer = float(outcome[seen].mean() <= 0.5)
    truth = (outcome == rarer).astype(np.float64)
    known = seen[truth[seen] == 1][:_KNOWN]
    asked = np.setdiff1d(seen, known)
    if len(np.unique(truth[asked])) < 2:
        return Leak(float("nan"), float("nan"))
    by_direction = directions(batches, len(outcome), known)
    if by_direction[known].mean() < by_direction[asked].mean():
        by_direction = -by_direction
    found = [lengths(batches, len(outcome)), by_direction]
    return Leak(*(float(roc_auc_score(truth[asked], one[asked])) for one in found))


def lengths(batches: Sequence[Batch], persons: int) -> Floats:
    """Each person's mean length over the batches that it is in, standardised within each."""
    total, count = np.zeros(persons), np.zeros(persons)
    for rows, gradients in batches:
        total[rows] += _standard(np.linalg.norm(gradients, axis=1))
        count[rows] += 1
    return total / np.maximum(count, 1)


def directions(batches: Sequence[Batch], persons: int, known: Rows) -> Floats:
    """Each person's mean cosine with the first direction of the batches around it. A direction's
    sign is that with which it says of these persons what those before said."""
    total, count = np.zeros(persons), np.zeros(persons)
    for start in range(0, len(batches), _TOGETHER):
        some = batches[start : start + _TOGETHER]
        rows = np.concatenate([one for one, _ in some])
        gradients = np.concatenate([one for _, one in some])
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        units = gradients / np.maximum(norms, 1e-12)
        scores = _standard(units @ np.linalg.svd(units, full_matrices=False)[2][0])
        alike = scores @ total[rows] if start else scores[np.isin(rows, known)].sum()
        np.add.at(total, rows, scores if alike >= 0 else -scores)
        np.add.at(count, rows, 1)
    return total / np.maximum(count, 1)


def _standard(values: Floats) -> Floats:
    spread = max(float(values.std()), 1e-12)
    return np.asarray((values - values.mean()) / spread)
