"""Outcomes read from the gradients that go back to a feature party (Li et al. 2022, 2102.08504).

*By length*: a person of the rarer class is predicted worse, so its gradient is longer. *By
direction*: gradients of the two classes point opposite ways, so the first direction of a batch's
gradients parts them; which side is which a few persons tell whose outcome is known. Both are of a
party that only looks at what it is sent, and adds up what it sees of a person in all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]
Batch = tuple[NDArray[np.int64], Floats]
"""Persons of a batch, and their gradients, B x width."""
_KNOWN = 5


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
    found = []
    for score in (by_length, by_direction()):
        scores = added(batches, score, len(outcome))
        if score is not by_length and scores[known].mean() < scores[asked].mean():
            scores = -scores
        found.append(float(roc_auc_score(truth[asked], scores[asked])))
    return Leak(*found)


def added(batches: Sequence[Batch], score: Callable[[Floats], Floats], persons: int) -> Floats:
    """Each person's mean score over the batches that it is in, standardised within each."""
    total, count = np.zeros(persons), np.zeros(persons)
    for rows, gradients in batches:
        values = score(gradients)
        total[rows] += (values - values.mean()) / max(float(values.std()), 1e-12)
        count[rows] += 1
    return total / np.maximum(count, 1)


def by_length(gradients: Floats) -> Floats:
    """The norm of each."""
    return np.asarray(np.linalg.norm(gradients, axis=1))


def by_direction() -> Callable[[Floats], Floats]:
    """The cosine of each with the batch's first direction, whose sign goes on from the batch
    before: the head changes little in a step."""
    before: list[Floats] = []

    def score(gradients: Floats) -> Floats:
        norms = np.linalg.norm(gradients, axis=1, keepdims=True)
        units = gradients / np.maximum(norms, 1e-12)
        first: Floats = np.linalg.svd(units, full_matrices=False)[2][0]
        if before and first @ before[-1] < 0:
            first = -first
        before[:] = [first]
        return np.asarray(units @ first)

    return score
