"""Curves of a model of two classes, or of one class against the rest, from two score histograms.

Bins are joined into groups of at least so many rows of each class, so that a curve may be shown to
others: then no step of it is of few persons. What a group holds at a cut is exact, as the cut is a
bin's edge; only a mean score within a group is of the bins' middles.

ROC; precision and recall; calibration (Wilson's interval of each tenth); net benefit (Vickers and
Elkin, Medical Decision Making 26, 2006): TP / n - FP / n * t / (1 - t) at a threshold t.

Shapes: K bins, G groups in rising order of scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.common.figures.areas import bin_ends, wilson
from wardround.common.figures.sums import Floats

Points = tuple[list[float], list[float]]
_STEPS = 250
"""Groups of a curve that is drawn as fine as it can be seen."""
_TENTHS = 10
_LEAST_SHARE, _MOST_SHARE = 0.01, 0.99


@dataclass(frozen=True)
class Groups:
    """Rows by score.

    low : the lowest score of each group: a cut, from which on a row counts as positive
    positives, negatives : rows of either class in each
    score : mean score in each
    """

    low: list[float]
    positives: list[float]
    negatives: list[float]
    score: list[float]

    @property
    def rows(self) -> float:
        """Rows of both classes, in all."""
        return sum(self.positives) + sum(self.negatives)

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Groups:
        """Of JSON. Raises KeyError, TypeError or ValueError for what isn't such."""
        columns = [
            [float(x) for x in stored[k]] for k in ("low", "positives", "negatives", "score")
        ]
        if len({len(column) for column in columns}) != 1:
            raise ValueError("columns of different lengths")
        return cls(*columns)


def groups_of(positives_K: Floats, negatives_K: Floats, smallest: int = 0) -> Groups | None:
    """Of two histograms; None where a class has no rows.

    smallest : fewest rows of each class in a group; 0: as fine as can be seen. None is shown of
        fewer than two groups. Groups end at a score of 1/2, where figures of classes are cut too:
        whichever side has too few rows is one group, which those figures tell anyway.
    """
    rows_K = positives_K + negatives_K
    if not (positives_K.sum() > 0 and negatives_K.sum() > 0):
        return None
    low_K, high_K = bin_ends(len(rows_K))
    sides = [(0, len(rows_K))]
    if smallest:
        if not (half := int(np.searchsorted(low_K, 0.5))) or low_K[half % len(low_K)] != 0.5:
            return None  # an odd number of bins: figures cut within one
        sides = [(0, half), (half, len(rows_K))]
    starts: list[int] = []
    for begin, end in sides:
        starts += _starts(positives_K, negatives_K, begin, end, smallest)
    if len(starts) < 2:
        return None
    with np.errstate(all="ignore"):
        middle_K = rows_K * (low_K + high_K) / 2
        parts = [np.add.reduceat(x, starts) for x in (positives_K, negatives_K, middle_K, rows_K)]
    score = np.where(parts[3] > 0, parts[2] / np.maximum(parts[3], 1), low_K[starts])
    columns = (low_K[starts], parts[0], parts[1], score)
    return Groups(*([float(x) for x in column] for column in columns))


def _starts(
    positives_K: Floats, negatives_K: Floats, begin: int, end: int, smallest: int
) -> list[int]:
    """First bins of the groups between two bins; what is left over joins the last group."""
    few = (positives_K.sum() + negatives_K.sum()) / _STEPS
    starts, positive, negative = [begin], 0.0, 0.0
    for k in range(begin, end):
        positive, negative = positive + positives_K[k], negative + negatives_K[k]
        full = min(positive, negative) >= smallest if smallest else positive + negative >= few
        if full and k + 1 < end:
            starts.append(k + 1)
            positive = negative = 0.0
    if len(starts) > 1 and smallest and min(positive, negative) < smallest:
        starts.pop()
    return starts


def roc(groups: Groups) -> Points:
    """False positive rate and sensitivity at each cut, from (0, 0) to (1, 1)."""
    true, false = _above(groups)
    return (false / false[-1]).tolist(), (true / true[-1]).tolist()


def precision_recall(groups: Groups) -> Points:
    """Recall and precision at each cut, highest first."""
    true, false = (column[1:] for column in _above(groups))
    there = true + false > 0
    return (true[there] / true[-1]).tolist(), (true[there] / (true + false)[there]).tolist()


def net_benefit(groups: Groups) -> tuple[list[float], list[float], list[float]]:
    """Threshold, net benefit of the model, and that of treating everybody; nobody's is 0."""
    true, false = (column[1:][::-1] for column in _above(groups))
    rows, cuts = groups.rows, np.asarray(groups.low)
    shown = (cuts >= _LEAST_SHARE) & (cuts <= _MOST_SHARE)
    odds = cuts[shown] / (1 - cuts[shown])
    model = true[shown] / rows - false[shown] / rows * odds
    everyone = sum(groups.positives) / rows - sum(groups.negatives) / rows * odds
    return cuts[shown].tolist(), model.tolist(), everyone.tolist()


def calibration(groups: Groups) -> list[tuple[float, float, float, float]]:
    """(mean score, share of positives, its interval) of up to ten parts of about as many rows."""
    found, target = [], groups.rows / _TENTHS
    positive = rows = scores = 0.0
    last = len(groups.low) - 1
    for number, (p, n, score) in enumerate(
        zip(groups.positives, groups.negatives, groups.score, strict=True)
    ):
        positive, rows, scores = positive + p, rows + p + n, scores + (p + n) * score
        if rows and (rows >= target or number == last):
            low, high = wilson(positive, rows) or (0.0, 1.0)
            found.append((scores / rows, positive / rows, low, high))
            positive = rows = scores = 0.0
    return found


def confusion(positives_K: Floats, negatives_K: Floats, threshold: float) -> tuple[float, ...]:
    """True and false positives, false and true negatives at a cut that is a bin's edge."""
    above = bin_ends(len(positives_K))[0] >= threshold - 1e-12
    true, false = float(positives_K[above].sum()), float(negatives_K[above].sum())
    return true, false, float(positives_K.sum()) - true, float(negatives_K.sum()) - false


def _above(groups: Groups) -> tuple[Floats, Floats]:
    """Rows of either class at or above each cut, highest cut first, after 0."""
    true = np.concatenate([[0.0], np.cumsum(groups.positives[::-1])])
    false = np.concatenate([[0.0], np.cumsum(groups.negatives[::-1])])
    return true, false
