"""Figures of one of two or several classes from histograms of scores that carry noise.

*Two classes.* One histogram of the score for each class: a row is one 1 in it, so that all figures
together have the sensitivity 1. Bins are those of ``sums.score_edges``, few of them (``bins_for``):
each has noise, and more of them say little more. Scores are as if rounded to their bins, so areas
count a pair within a bin one half, and Brier and loss take a bin's middle.

*Several.* The confusion (one 1 a row) and of each class such a pair of histograms of its own score
(one 1 a row each): sensitivity sqrt(C + 1).

*The area under the ROC curve.* T(a) = sum over pairs of bins of p_i (n_j below i, half of i's own,
minus a n_j) has the mean 0 for the true area, whatever the noise is on both; its variance by noise
is a quadratic in a with known coefficients, that by chance is Newcombe's (``areas.py``). The
interval is where |T(a)| is within 1.96 of its own deviations: Newcombe's without noise.

*Average precision* isn't a share: the histograms are put to at least 0 (``projected``), and how far
noise and chance move it is drawn, again and again from the same seed.

Shapes: C classes, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.areas import Z, bin_ends
from wardround.common.figures.noised import (
    Found,
    Measured,
    Share,
    in_range,
    narrow,
    positive,
    projected,
    stands_out,
)
from wardround.common.figures.sums import Floats, Sums, ratio

MOST_LOSS_LOGIT = 4.0
"""The loss is of logits cut off at plus and minus this: at most 4.02 a row."""
_GRID = np.linspace(-1.0, 2.0, 6001)
"""Areas that are tried: noise may put an estimate outside of [0, 1]."""
_DRAWS = 400
_BINS = ((1.0, 64), (4.0, 32), (math.inf, 16))


def bins_for(noise: float) -> int:
    """K, by the standard deviation of the noise on a cell: an area's error by noise grows with
    sqrt(K), that by few bins falls with K squared. Even, so that 0.5 is where a bin begins.

    >>> [bins_for(noise) for noise in (0.5, 3.0, 20.0)]
    [64, 32, 16]
    """
    return next(bins for most, bins in _BINS if noise <= most)


def binary_measured(sums: Mapping[str, NDArray[Any]], noise: float) -> Measured:
    """Figures of noised ``positives`` and ``negatives``, K each.

    noise : standard deviation on each number. Raises ValueError for sums of another form.
    """
    positives, negatives = _histograms(sums, ndim=1)
    cells = np.concatenate([positives, negatives])
    bins, found = len(positives), Measured()
    none, every, high = np.zeros(bins), np.ones(bins), np.zeros(bins)
    high[bins // 2 :] = 1.0

    def share(above: tuple[Floats, Floats], below: tuple[Floats, Floats]) -> Found:
        return narrow(Share(np.concatenate(above), np.concatenate(below)).found(cells, noise))

    sensitivity = share((high, none), (every, none))
    specificity = share((none, 1 - high), (none, every))
    found.add("auc", narrow(area_found(positives, negatives, noise)))
    found.add("average_precision", _precision_found(positives, negatives, noise))
    found.add("accuracy", share((high, 1 - high), (every, every)))
    found.add("balanced_accuracy", narrow(mean_of([sensitivity, specificity], independent=True)))
    found.add("sensitivity", sensitivity)
    found.add("specificity", specificity)
    found.add("precision", share((high, none), (high, high)))
    found.add("f1", f1_found(share((high, none), (every, high))))
    squares, losses = _row_weights(bins)
    found.add("brier", narrow(_mean(cells, squares, noise)))
    found.add("prevalence", share((every, none), (every, every)))
    found.add("examples", rows_found(cells, noise))
    found.add("loss", positive(_mean(cells, losses, noise, clipped=False)))
    return found


def multiclass_measured(sums: Mapping[str, NDArray[Any]], noise: float) -> Measured:
    """Figures of noised ``confusion`` (C, C), ``positives`` and ``negatives`` (C, K).

    ``auc``, ``balanced_accuracy`` and ``macro_f1`` are means of the classes of which they are
    measurable; ``measured_classes`` says of how many ``auc`` is. Their intervals are as if all went
    astray together. Raises ValueError as ``binary_measured``.
    """
    positives, negatives = _histograms(sums, ndim=2)
    classes, bins = positives.shape
    confusion = np.asarray(sums["confusion"], dtype=np.float64)
    if confusion.shape != (classes, classes):
        raise ValueError(f"confusion: found shape {confusion.shape}, expected {(classes,) * 2}")
    found, flat = Measured(), confusion.ravel()
    diagonal = np.eye(classes)
    found.add("accuracy", narrow(Share(diagonal.ravel(), np.ones(classes**2)).found(flat, noise)))
    recalls, f1s, areas = [], [], []
    for one in range(classes):
        hit, true, guessed = (np.zeros((classes, classes)) for _ in range(3))
        hit[one, one] = true[one] = guessed[:, one] = 1.0
        either = np.minimum(1.0, true + guessed).ravel()
        recalls.append(narrow(Share(hit.ravel(), true.ravel()).found(flat, noise)))
        f1s.append(f1_found(narrow(Share(hit.ravel(), either).found(flat, noise))))
        areas.append(narrow(area_found(positives[one], negatives[one], noise)))
    found.add("balanced_accuracy", narrow(mean_of(recalls)))
    found.add("macro_f1", narrow(mean_of(f1s)))
    found.add("auc", narrow(mean_of(areas)))
    found.figures["measured_classes"] = float(sum(one is not None for one in areas))
    squares, losses = _row_weights(bins)
    none = np.zeros(bins)
    every = np.concatenate([positives, negatives], axis=1).ravel()  # each row is in C cells
    square = np.tile(squares, classes)
    found.add("brier", narrow(_mean(every, square, noise, per_row=classes, most=2.0)))
    loss = np.tile(np.concatenate([losses[:bins], none]), classes)
    found.add("loss", positive(_mean(every, loss, noise, per_row=classes, clipped=False)))
    found.add("examples", rows_found(flat, noise))
    return found


def area_found(positives_K: Floats, negatives_K: Floats, noise: float) -> Found:
    """The area under the ROC curve and its interval; None where a class doesn't stand out."""
    bins, s2 = len(positives_K), noise * noise
    some, others = float(positives_K.sum()), float(negatives_K.sum())
    least = noise * math.sqrt(bins)
    if not (stands_out(some, least) and stands_out(others, least)):
        return None
    below_K = np.cumsum(negatives_K) - negatives_K / 2
    above_K = some - np.cumsum(positives_K) + positives_K / 2
    pairs, ordered = some * others, float(positives_K @ below_K)
    a = _GRID
    # M = L - a 1 1': L has 1 below the diagonal and 1/2 on it
    of_negatives = (
        float(below_K @ below_K) - 2 * a * others * below_K.sum() + bins * (a * others) ** 2
    )
    of_positives = float(above_K @ above_K) - 2 * a * some * above_K.sum() + bins * (a * some) ** 2
    frobenius = bins * (bins - 1) / 2 + bins / 4 - a * bins**2 + (a * bins) ** 2
    by_noise = s2 * (of_negatives + of_positives) - s2 * s2 * frobenius
    by_noise = np.maximum(by_noise, s2 * s2 * frobenius)
    inner = np.clip(a, 0.0, 1.0)
    star = max(0.0, (some + others) / 2 - 1)
    spread = 1 + star * ((1 - inner) / (2 - inner) + inner / (1 + inner))
    by_chance = pairs * inner * (1 - inner) * spread
    inside = np.abs(ordered - a * pairs) <= Z * np.sqrt(by_noise + by_chance)
    if not inside.any():
        return None
    area, low, high = ordered / pairs, float(a[inside][0]), float(a[inside][-1])
    return in_range(area, (min(area, low), max(area, high)))


def mean_of(found: list[Found], *, independent: bool = False) -> Found:
    """Mean of those that are measurable; of independent ones (all must be) by MOVER (Zou and Donner
    2008), else as if all went astray together."""
    known = [one for one in found if one is not None]
    if not known or (independent and len(known) < len(found)):
        return None
    value = float(np.mean([one[0] for one in known]))
    down = [one[0] - one[1][0] for one in known]
    up = [one[1][1] - one[0] for one in known]
    size = math.hypot if independent else lambda *parts: math.fsum(parts)
    span = value - size(*down) / len(known), value + size(*up) / len(known)
    return value, (max(0.0, span[0]), min(1.0, span[1]))


def rows_found(cells: Floats, noise: float, per_row: float = 1.0) -> Found:
    """How many rows there are, by the noise alone. ``per_row``: how many cells a row is in."""
    rows, error = float(cells.sum()) / per_row, Z * noise * math.sqrt(cells.size) / per_row
    if not stands_out(rows, error / Z):
        return None
    return rows, (max(0.0, rows - error), rows + error)


def shown_sums(sums: Mapping[str, NDArray[Any]], noise: float) -> Sums:
    """The histograms as curves can be drawn of them: nothing below 0, the same numbers of rows.
    Those of a class whose area isn't measurable are zeros; empty where none is."""
    pair = [np.asarray(sums[key], dtype=np.float64) for key in ("positives", "negatives")]
    each = zip(*(one.reshape(-1, one.shape[-1]) for one in pair), strict=True)
    known = np.array([narrow(area_found(p, n, noise)) is not None for p, n in each])
    if not known.any():
        return {}
    known = known.reshape(*pair[0].shape[:-1], 1)
    positives, negatives = (np.where(known, projected(one), 0.0) for one in pair)
    return {"positives": positives, "negatives": negatives}


def _histograms(sums: Mapping[str, NDArray[Any]], ndim: int) -> tuple[Floats, Floats]:
    found = []
    for key in ("positives", "negatives"):
        value = np.asarray(sums.get(key, np.zeros(0)), dtype=np.float64)
        if value.ndim != ndim or value.shape[-1] < 2 or value.shape[-1] % 2:
            raise ValueError(f"{key}: found shape {value.shape}, expected histograms")
        if not np.isfinite(value).all():
            raise ValueError(f"{key}: expected finite numbers")
        found.append(value)
    if found[0].shape != found[1].shape:
        raise ValueError("positives and negatives have different shapes")
    return found[0], found[1]


def _row_weights(bins: int) -> tuple[Floats, Floats]:
    """Squared error and loss of a row in each of the 2 K cells, at its bin's middle."""
    low_K, high_K = bin_ends(bins)
    middle_K = (low_K + high_K) / 2
    squares = np.concatenate([(1 - middle_K) ** 2, middle_K**2])
    with np.errstate(divide="ignore"):
        logit_K = np.clip(np.log(middle_K / (1 - middle_K)), -MOST_LOSS_LOGIT, MOST_LOSS_LOGIT)
    return squares, np.concatenate([np.log1p(np.exp(-logit_K)), np.log1p(np.exp(logit_K))])


def _mean(
    cells: Floats,
    weights: Floats,
    noise: float,
    *,
    per_row: float = 1.0,
    most: float = 1.0,
    clipped: bool = True,
) -> Found:
    """A row's mean weight, by which cells it is in; ``per_row`` of them.

    most : the largest value that ``clipped`` ones have
    """
    below = np.full(len(cells), 1.0 / per_row)
    there = projected(cells)
    mean = float(ratio(weights @ there, below @ there))
    if not math.isfinite(mean):
        return None
    # cells of one row go together: at most per_row times the variance of as many rows
    spread = float(there @ (weights - mean * below) ** 2) * per_row
    found = Share(weights / most, below, spread / most**2).found(cells, noise, clipped=clipped)
    if found is None:
        return None
    return found[0] * most, (found[1][0] * most, found[1][1] * most)


def f1_found(found: Found) -> Found:
    """F1 = 2 J / (1 + J) of J = TP / (TP + FP + FN)."""
    if found is None:
        return None

    def of(share: float) -> float:
        return 2 * share / (1 + share)

    return narrow((of(found[0]), (of(found[1][0]), of(found[1][1]))))


def _precision_found(positives_K: Floats, negatives_K: Floats, noise: float) -> Found:
    """Average precision, by draws of noise and rows around the projected histograms.

    Bins are joined, from the highest score down, until their rows stand out of the noise: of bins
    that are empty but for it, at the top, a precision would be the noise's own.
    """
    least = noise * math.sqrt(len(positives_K))
    if not (stands_out(float(positives_K.sum()), least) and negatives_K.sum() > 0):
        return None
    starts = _joined(positives_K + negatives_K, noise * math.sqrt(2))
    parts = [np.add.reduceat(one[::-1], starts) for one in (positives_K, negatives_K)]
    deviation = noise * np.sqrt(np.diff([*starts, len(positives_K)]))
    there = np.stack([projected(part) for part in parts])
    value = float(_precision(*there))
    generator = np.random.default_rng(0)
    shape = (_DRAWS, *there.shape)
    drawn = generator.poisson(there, shape) + generator.normal(0.0, 1.0, shape) * deviation
    found = _precision(*np.moveaxis(projected(drawn), 1, 0))
    known = found[np.isfinite(found)]
    if len(known) < 0.9 * _DRAWS:
        return None
    low, high = np.quantile(known, [0.01, 0.99])  # draws from few groups of bins are too alike
    off = float(np.mean(known)) - value  # what drawing once more did, was done before
    ends = low, high, low - 2 * off, high - 2 * off
    span = max(0.0, min(value, *map(float, ends))), min(1.0, max(value, *map(float, ends)))
    return narrow((value, span))


def _joined(rows_K: Floats, noise: float) -> list[int]:
    """Where groups of bins begin, counted from the highest score."""
    starts, rows, bins = [0], 0.0, 0
    for place, one in enumerate(rows_K[::-1].tolist()):
        if bins and stands_out(rows, noise * math.sqrt(bins)):
            starts.append(place)
            rows, bins = 0.0, 0
        rows, bins = rows + one, bins + 1
    if len(starts) > 1 and not stands_out(rows, noise * math.sqrt(bins)):
        starts.pop()
    return starts


def _precision(positives: Floats, negatives: Floats) -> Floats:
    """Average precision over the last axis, groups of bins from the highest score down; NaN without
    positives.

    Within a group of p positives and n negatives, with T and F before it, both come evenly: the
    mean of (T + x p) / (T + F + x (p + n)) over x in [0, 1].
    """
    p, both = positives, positives + negatives
    before, rows = np.cumsum(p, axis=-1) - p, np.cumsum(both, axis=-1) - both
    share = ratio(p, both)
    with np.errstate(divide="ignore", invalid="ignore"):
        growth = np.where(rows > 0, ratio(np.log1p(ratio(both, rows)), both), 0.0)
    weighted = np.where(p > 0, p * (share + (before - share * rows) * growth), 0.0)
    return np.asarray(ratio(weighted.sum(axis=-1), p.sum(axis=-1)))
