"""The 95 % interval of each figure, from the sums that the figure itself is made of.

| figure | interval |
|---|---|
| accuracy, sensitivity, specificity, precision, recall, prevalence | Wilson's score interval |
| balanced accuracy (two classes) | of two Wilson intervals (MOVER: Zou and Donner 2008) |
| balanced accuracy, macro F1 (several) | delta method on the confusion (Takahashi et al. 2022) |
| F1 | 2J / (1 + J) of Wilson's interval of J = TP / (TP + FP + FN) |
| AUC, average precision | ``areas.py``; of several classes at most the mean of their errors |
| Brier | normal, by the spread of squared errors over the bins' middles |
| RMSE, R2 | as of normal errors (chi-squared; 4 R2 / n for ln(1 - R2): Olkin and Finn 1995) |
| MAE, bias | normal, by their own squares, which the sums hold |
| c-index | normal in the logit, infinitesimal jackknife over rows (``survival.py``) |

Losses, calibration error and counts have none. Rows count as independent, and these hospitals as
the ones there are: how far others would differ is told by the interval over hospitals
(``compared.py``).

Shapes: C classes, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.areas import (
    Interval,
    Z,
    around,
    bin_ends,
    precision_variance,
    roc_interval,
    roc_variance,
    wilson,
)
from wardround.common.figures.figure import is_number
from wardround.common.figures.sums import Floats, binary_figures, ratio

Intervals = dict[str, Interval]
_SLACK = 1e-6
"""Rounding that may put a figure beside its own interval."""


def figure_intervals(
    figures: Mapping[str, float | None], sums: Mapping[str, NDArray[Any]]
) -> Intervals:
    """The interval of each figure that has one, by its name.

    figures : what the task made of ``sums``. An interval that doesn't hold its figure is left out:
        a task of one's own may call something else by this name.
    """
    try:
        with np.errstate(all="ignore"):
            found = dict(_all(sums))
    except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError, OverflowError):
        return {}  # sums of a task's own, under a name of ours
    kept = {}
    for name, span in found.items():
        value = figures.get(name)
        if span is None or not is_number(value) or not all(map(math.isfinite, span)):
            continue
        if span[0] - _SLACK <= value <= span[1] + _SLACK:
            kept[name] = (float(min(span[0], value)), float(max(span[1], value)))
    return kept


def figure_variances(
    figures: Mapping[str, float | None], sums: Mapping[str, NDArray[Any]]
) -> dict[str, float]:
    """Sampling variance of the areas under curves, by figure; empty where there are none. Of
    several classes an upper bound."""
    found: dict[str, float | None] = {}
    try:
        with np.errstate(all="ignore"):
            positives, negatives = (np.asarray(sums[k], float) for k in ("positives", "negatives"))
            if positives.ndim == 2:
                found["auc"] = _mean_of_areas(positives, negatives)
            elif positives.ndim == 1:
                found["auc"] = roc_variance(positives, negatives)
                precision = figures.get("average_precision")
                if is_number(precision):
                    found["average_precision"] = precision_variance(positives, precision)
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: float(value) for name, value in found.items() if is_number(value)}


def _all(sums: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Interval | None]]:
    values = {name: np.asarray(value, dtype=np.float64) for name, value in sums.items()}
    if "confusion" in values:
        yield from _of_classes(values)
    elif "residual_sum" in values:
        yield from _of_numbers(values)
    elif "pair_squares" in values:
        yield "c_index", _concordance(values)
    elif "true_positives" in values:
        yield from _of_found(values)


# --- classes --------------------------------------------------------------------------------------
def _of_classes(sums: dict[str, Floats]) -> Iterator[tuple[str, Interval | None]]:
    confusion = sums["confusion"]
    yield "accuracy", wilson(float(np.trace(confusion)), float(confusion.sum()))
    if sums["positives"].ndim == 1:
        yield from _of_two(sums)
        return
    if not confusion.any():
        return  # rows of classes alone that nobody agreed on
    yield "balanced_accuracy", _delta(confusion, *_recalls(confusion))
    yield "macro_f1", _delta(confusion, *_f1s(confusion))
    variance = _mean_of_areas(sums["positives"], sums["negatives"])
    if variance is not None:
        areas = _areas(sums["positives"], sums["negatives"])
        yield "auc", around(float(np.mean(areas)), variance)
    classes = zip(sums["positives"], sums["negatives"], strict=True)
    error = math.fsum(_brier_error(*pair) for pair in classes)
    yield "brier", _normal(float(sums["squared_error"][0] / sums["examples"][0]), error, 0.0, 2.0)


def _of_two(sums: dict[str, Floats]) -> Iterator[tuple[str, Interval | None]]:
    (tn, fp), (fn, tp) = sums["confusion"]
    positives, negatives = sums["positives"], sums["negatives"]
    figures = binary_figures(sums)
    found, spared = wilson(tp, tp + fn), wilson(tn, tn + fp)
    yield "sensitivity", found
    yield "specificity", spared
    yield "precision", wilson(tp, tp + fp)
    yield "prevalence", wilson(tp + fn, tp + fn + tn + fp)
    yield "f1", _f1(tp, fp, fn)
    if found is not None and spared is not None:
        yield "balanced_accuracy", _mean_of_two(tp / (tp + fn), found, tn / (tn + fp), spared)
    yield "auc", roc_interval(positives, negatives, figures["auc"])
    precision, rows = figures["average_precision"], float(positives.sum())
    yield "average_precision", wilson(precision * rows, rows) if rows else None
    yield "brier", _normal(figures["brier"], _brier_error(positives, negatives), 0.0, 1.0)


def _f1(hits: float, extra: float, missed: float) -> Interval | None:
    """F1 grows with the share of hits among all that is a hit, extra or missed."""
    if (span := wilson(hits, hits + extra + missed)) is None:
        return None
    return 2 * span[0] / (1 + span[0]), 2 * span[1] / (1 + span[1])


def _mean_of_two(a: float, a_span: Interval, b: float, b_span: Interval) -> Interval:
    low = math.hypot(a - a_span[0], b - b_span[0]) / 2
    high = math.hypot(a_span[1] - a, b_span[1] - b) / 2
    return max(0.0, (a + b) / 2 - low), min(1.0, (a + b) / 2 + high)


def _recalls(confusion: Floats) -> tuple[float, Floats]:
    """Mean recall of the classes that occur, and its derivative by each cell."""
    rows, hits = confusion.sum(axis=1), np.diagonal(confusion)
    there = rows > 0
    recall = ratio(hits, rows)
    slope = np.where(there, -ratio(hits, rows**2), 0.0)[:, None] * np.ones_like(confusion)
    slope = slope + np.diag(np.where(there, ratio(1.0, rows), 0.0))
    return float(np.mean(recall[there])), slope / there.sum()


def _f1s(confusion: Floats) -> tuple[float, Floats]:
    """Mean F1 of the classes that occur or are predicted, and its derivative by each cell."""
    both, hits = confusion.sum(axis=1) + confusion.sum(axis=0), np.diagonal(confusion)
    there = both > 0
    fall = np.where(there, -2 * ratio(hits, both**2), 0.0)
    slope = fall[:, None] + fall[None, :] + np.diag(np.where(there, 2 * ratio(1.0, both), 0.0))
    return float(np.mean(ratio(2 * hits, both)[there])), slope / there.sum()


def _delta(confusion: Floats, value: float, slope: Floats) -> Interval | None:
    """Of a function of the cells of a multinomial: their variance along its derivative."""
    rows = confusion.sum()
    if not rows > 0:
        return None
    mean = np.sum(confusion * slope) / rows
    return around(value, float(np.sum(confusion * (slope - mean) ** 2)))


def _areas(positives_CK: Floats, negatives_CK: Floats) -> Floats:
    below_CK = np.cumsum(negatives_CK, axis=1) - negatives_CK / 2
    pairs = positives_CK.sum(axis=1) * negatives_CK.sum(axis=1)
    there = pairs > 0
    return np.asarray((positives_CK * below_CK).sum(axis=1)[there] / pairs[there])


def _mean_of_areas(positives_CK: Floats, negatives_CK: Floats) -> float | None:
    """Variance of the mean of the classes' areas, at most: as if all went astray together."""
    pairs = zip(positives_CK, negatives_CK, strict=True)
    known = [one for pair in pairs if (one := roc_variance(*pair)) is not None]
    return (math.fsum(map(math.sqrt, known)) / len(known)) ** 2 if known else None


def _brier_error(positives_K: Floats, negatives_K: Floats) -> float:
    """Standard error of the mean squared error of scores that lie at their bins' middles."""
    low_K, high_K = bin_ends(len(positives_K))
    middle_K = (low_K + high_K) / 2
    rows = positives_K.sum() + negatives_K.sum()
    fourth = np.sum(positives_K * (1 - middle_K) ** 4 + negatives_K * middle_K**4) / rows
    second = np.sum(positives_K * (1 - middle_K) ** 2 + negatives_K * middle_K**2) / rows
    return math.sqrt(max(0.0, float(fourth - second**2)) / float(rows))


# --- numbers, times, entities ---------------------------------------------------------------------
def _of_numbers(sums: dict[str, Floats]) -> Iterator[tuple[str, Interval | None]]:
    lone = {name: float(value[0]) for name, value in sums.items() if value.shape == (1,)}
    rows, squared = lone["examples"], lone["squared_error"]
    if not rows > 1:
        return
    square = squared / rows
    yield "rmse", _deviation(math.sqrt(square), rows)
    for name, key in (("mae", "absolute_error"), ("bias", "residual_sum")):
        mean = lone[key] / rows
        error = math.sqrt(max(0.0, square - mean**2) / (rows - 1))
        yield name, _normal(mean, error, 0.0 if name == "mae" else -math.inf, math.inf)
    spread = lone["target_square_sum"] - lone["target_sum"] ** 2 / rows
    if spread > 0 and squared > 0:
        share = squared / spread  # 1 - R2
        reach = Z * 2 * math.sqrt((1 - min(share, 1 / share)) / rows)
        yield "r2", (1 - share * math.exp(reach), 1 - share * math.exp(-reach))


def _deviation(value: float, rows: float) -> Interval:
    """Of the deviation of normal errors around a known middle, from so many rows."""
    from scipy.special import gammaincinv  # slow to import, and only needed here

    tail = (1 - math.erf(Z / math.sqrt(2))) / 2
    low, high = (2 * float(gammaincinv(rows / 2, p)) for p in (1 - tail, tail))
    return value * math.sqrt(rows / low), value * math.sqrt(rows / high)


def _concordance(sums: dict[str, Floats]) -> Interval | None:
    pairs = float(sums["comparable"][0])
    if not pairs > 0:
        return None
    index = float(sums["concordant"][0] + sums["tied"][0] / 2) / pairs
    hits, both, all_pairs = sums["pair_squares"]
    variance = (hits - 2 * index * both + index**2 * all_pairs) / pairs**2
    return around(index, max(0.0, float(variance)))


def _of_found(sums: dict[str, Floats]) -> Iterator[tuple[str, Interval | None]]:
    """Of entities of all types together; a type's own are in no sum by name."""
    names = ("true_positives", "false_positives", "false_negatives")
    hits, extra, missed = (float(sums[name].sum()) for name in names)
    yield "f1", _f1(hits, extra, missed)
    yield "precision", wilson(hits, hits + extra)
    yield "recall", wilson(hits, hits + missed)


def _normal(value: float, error: float, least: float, most: float) -> Interval:
    return max(least, value - Z * error), min(most, value + Z * error)
