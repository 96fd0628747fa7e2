"""Figures of classification and regression from sums that hospitals can add.

Each ``*_sums`` function reduces predictions to named float64 arrays; ``add_sums`` adds those of any
number of hospitals; the matching ``*_figures`` function turns the total into figures. Invariants:

- Additive: over any split of the rows into shards, the added sums equal those of all rows, counts
  exactly (below 2**53), the rest up to rounding. So a global figure is the pooled figure, up to the
  bin error that ``*_error_bound`` states for the areas under a curve.
- Shapes depend on ``bins`` and the number of classes, never on the data; a lone number has shape
  (1,). Only ``residual_sum``, ``target_sum`` and ``calibration`` can be negative.
- An undefined figure (no rows, one class only, ...) is NaN: no exception, no warning.
- No message carries a value of a row: it says how many rows are wrong.

The ROC area over tied groups is the Mann-Whitney form of Hanley and McNeil (Radiology 143, 1982);
calibration error is that of Naeini et al. (AAAI 2015) with ten groups of equal width.
Survival has its own module, ``survival.py``, because its pairs do not add over hospitals.

Shapes: N rows, C classes, K bins that follow the scores: cut in the logit from -16 to 16, open at
both ends. Of 1,000, the one at probability 1/2 is .011 wide, at 1/500 .037.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sums = dict[str, NDArray[np.float64]]
"""Named float64 arrays that mean the same when added over shards: counts, sums, histograms."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CALIBRATION_GROUPS = 10
MOST_LOGIT, _MIDDLE = 16.0, 2.0  # beyond the second, bins get wider
PROBABILITY_TOLERANCE = 1e-6
MAX_ABS_INPUT = 1e100
"""Larger magnitudes are refused, so that the square of any input stays finite."""
_LEAST_VARIANCE = 1e-12
"""Variance over mean square of the targets below which r2 would be mostly rounding error."""
_LONE = {"squared_error": "1", "examples": "1"}
_BINARY_AXES = {"confusion": "22", "positives": "K", "negatives": "K", "calibration": "T"} | _LONE
_MULTICLASS_AXES = {"confusion": "CC", "positives": "CK", "negatives": "CK"} | _LONE
_REGRESSION_AXES = {"residual_sum": "1", "absolute_error": "1"} | _LONE
_REGRESSION_AXES |= {"target_sum": "1", "target_square_sum": "1"}


# --- shared with survival.py --------------------------------------------------------------------
def refuse(name: str, wrong: NDArray[np.bool_], expected: str) -> None:
    """Raise ValueError, saying how many but not which or what, if any are wrong."""
    if wrong.any():
        count = np.count_nonzero(wrong)
        raise ValueError(f"{name}: found {count} of {wrong.size} wrong, expected {expected}")


def finite_array(name: str, values: ArrayLike, ndim: int = 1, rows: int | None = None) -> Floats:
    """``values`` as float64. Raises ValueError for a wrong rank or length, or what isn't finite."""
    raw = np.asarray(values)
    if raw.dtype.kind not in "fiub":
        raise ValueError(f"{name}: found dtype {raw.dtype}, expected numbers")
    array = raw.astype(np.float64)
    if array.ndim != ndim:
        raise ValueError(f"{name}: found shape {array.shape}, expected {ndim} dimension(s)")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{name}: found {len(array)} rows, expected {rows}")
    # Written so that NaN counts as wrong.
    refuse(name, ~(np.abs(array) <= MAX_ABS_INPUT), f"finite numbers up to {MAX_ABS_INPUT:g}")
    return array


def class_array(name: str, values: ArrayLike, rows: int, classes: int) -> Ints:
    """``values`` as int64 of shape (rows,), each in 0..classes-1. Raises ValueError if not."""
    array = finite_array(name, values, rows=rows)
    wrong = (array < 0) | (array >= classes) | (array != np.floor(array))
    refuse(name, wrong, f"whole numbers from 0 to {classes - 1}")
    return array.astype(np.int64)


def checked(sums: Mapping[str, NDArray[Any]], axes: Mapping[str, str]) -> Sums:
    """The entries named in ``axes`` as float64; others are ignored.

    ``axes`` gives the shape of each, one character per axis: a digit is that length, a letter any
    length of at least 1, the same wherever the letter occurs (T: ten groups of calibration). Raises
    ValueError if an entry is missing, has another shape, or isn't finite.
    """
    lengths = {"T": CALIBRATION_GROUPS}
    found: Sums = {}
    for name, letters in axes.items():
        if name not in sums:
            raise ValueError(f"sum '{name}': found none, expected one; sums are {sorted(sums)}")
        value = np.asarray(sums[name])
        if value.ndim == len(letters):
            for letter, length in zip(letters, value.shape, strict=True):
                lengths.setdefault(letter, int(letter) if letter.isdigit() else max(length, 1))
        expected = tuple(lengths.get(letter, letter) for letter in letters)
        if value.shape != expected:
            raise ValueError(f"sum '{name}': found shape {value.shape}, expected {expected}")
        if value.dtype.kind not in "fiub" or not np.isfinite(value).all():
            raise ValueError(f"sum '{name}': found what isn't a finite number, expected only such")
        found[name] = value.astype(np.float64)
    return found


def ratio(numerator: Any, denominator: Any) -> Any:
    """``numerator / denominator`` where the denominator is positive, elsewhere NaN; vectorised."""
    positive = np.asarray(denominator) > 0
    return np.where(positive, numerator, np.nan) / np.where(positive, denominator, 1.0)


def scalar(value: Any) -> Floats:
    """A lone number in the form that sums have: float64 of shape (1,)."""
    return np.array([value], dtype=np.float64)


def add_sums(parts: Iterable[Mapping[str, NDArray[Any]]]) -> Sums:
    """Add sums key by key, as new arrays; a key that a part lacks counts as zero there.

    Raises ValueError, naming key and both shapes, when shapes differ. No parts give an empty dict.
    """
    totals: Sums = {}
    with np.errstate(all="ignore"):  # infinities are refused where figures are made
        for part in parts:
            for key, value in part.items():
                found, total = np.shape(value), totals.setdefault(key, np.zeros(np.shape(value)))
                if found != total.shape:
                    raise ValueError(f"sum '{key}': found shape {found}, expected {total.shape}")
                # In place, because a sum of 0-d arrays would no longer be an ndarray.
                np.add(total, value, out=total)
    return totals


# --- two classes --------------------------------------------------------------------------------
def binary_sums(probabilities_N: ArrayLike, targets_N: ArrayLike, bins: int = 1000) -> Sums:
    """Sums for a yes-or-no prediction. Raises ValueError for input that isn't as stated here.

    Parameters
    ----------
    probabilities_N : probability of class 1, in [0, 1] (rounding of up to 1e-6 is clipped)
    targets_N : 0 or 1
    bins : K, at least 1; hospitals must agree on it

    Returns
    -------
    ``confusion`` (2, 2) [true, predicted], where 1 is predicted iff probability >= 0.5;
    ``positives`` and ``negatives`` (K,), rows of that class per bin; ``calibration`` (10,), summed
    probability minus positives per tenth of [0, 1]; ``squared_error`` and ``examples`` (1,).
    """
    scores_N = _probabilities(probabilities_N, ndim=1)
    truth_N = class_array("targets", targets_N, len(scores_N), classes=2)
    bins_N = _bin_index(scores_N, bins)
    all_K = np.bincount(bins_N, minlength=bins)
    positives_K = np.bincount(bins_N[truth_N == 1], minlength=bins)
    tenth_N = np.minimum((scores_N * CALIBRATION_GROUPS).astype(np.int64), CALIBRATION_GROUPS - 1)
    gaps_T = np.bincount(tenth_N, scores_N - truth_N, CALIBRATION_GROUPS)
    return {
        "confusion": _confusion(truth_N, (scores_N >= 0.5).astype(np.int64), classes=2),
        "positives": positives_K.astype(np.float64),
        "negatives": (all_K - positives_K).astype(np.float64),
        "calibration": gaps_T.astype(np.float64),
        "squared_error": scalar(np.sum((scores_N - truth_N) ** 2)),
        "examples": scalar(len(scores_N)),
    }


def binary_figures(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Figures from (added) ``binary_sums``. Raises ValueError as ``checked`` does.

    ``auc`` counts a pair within one bin as one half. Its distance from the exact area (ties one
    half, as scikit-learn) is at most ``auc_error_bound`` = 0.5 * sum_b pos_b * neg_b / (P * N).
    Proof: the bin of a score never decreases with the score, so a pair in different bins is
    ordered as its scores are and counts as in the exact area; a pair within a bin counts one half
    instead of 0, one half or 1, an error of at most one half; bin b holds pos_b * neg_b of the
    P * N pairs.
    ``average_precision`` treats each bin as one threshold; ``average_precision_error_bound`` is
    proved at ``_average_precision``.

    ``sensitivity``, ``specificity``, ``precision`` and ``f1`` are scikit-learn's with
    ``zero_division=nan``: ``precision`` is NaN when nothing was predicted positive, ``f1`` only
    when besides no row is positive. ``balanced_accuracy`` is the mean of sensitivity and
    specificity and NaN where one class is absent; scikit-learn would give the other's recall alone.
    ``calibration_error`` is sum_g |summed probability - positives| / examples over ten groups of
    equal width, exactly: no bins are in it. ``brier`` is in [0, 1].
    """
    entries = checked(sums, _BINARY_AXES)
    with np.errstate(all="ignore"):  # absurd magnitudes from elsewhere may overflow to inf or NaN
        (tn, fp), (fn, tp) = entries["confusion"]
        positives_K, negatives_K = entries["positives"], entries["negatives"]
        area, area_bound = _roc_area(positives_K, negatives_K)
        precision, precision_bound = _average_precision(positives_K, negatives_K)
        sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
        examples = entries["examples"][0]
        figures = {
            "auc": area,
            "auc_error_bound": area_bound,
            "average_precision": precision,
            "average_precision_error_bound": precision_bound,
            "accuracy": ratio(tn + tp, tn + fp + fn + tp),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
            "precision": ratio(tp, tp + fp),
            "f1": ratio(2 * tp, 2 * tp + fp + fn),
            "brier": ratio(entries["squared_error"][0], examples),
            "calibration_error": ratio(np.sum(np.abs(entries["calibration"])), examples),
            "prevalence": ratio(fn + tp, tn + fp + fn + tp),
            "examples": examples,
        }
    return {name: float(value) for name, value in figures.items()}


# --- several classes ----------------------------------------------------------------------------
def multiclass_sums(probabilities_NC: ArrayLike, targets_N: ArrayLike, bins: int = 1000) -> Sums:
    """Sums for one of C >= 2 classes. Raises ValueError for input that isn't as stated here.

    Parameters
    ----------
    probabilities_NC : each in [0, 1] (rounding of up to 1e-6 is clipped); that a row sums to one
        is not checked. An empty shard still says C: shape (0, C).
    targets_N : whole numbers from 0 to C-1
    bins : K, at least 1; hospitals must agree on it

    Returns
    -------
    ``confusion`` (C, C) [true, predicted], the predicted class being the first of the largest;
    ``positives`` and ``negatives`` (C, K), rows of and not of class c per bin of its probability;
    ``squared_error`` (1,), summed over classes too; ``examples`` (1,).
    """
    scores_NC = _probabilities(probabilities_NC, ndim=2)
    rows, classes = scores_NC.shape
    if classes < 2:
        raise ValueError(f"probabilities: found {classes} class(es), expected at least 2")
    truth_N = class_array("targets", targets_N, rows, classes)
    cells_NC = np.arange(classes) * bins + _bin_index(scores_NC, bins)
    row_N = np.arange(rows)
    all_CK = np.bincount(cells_NC.ravel(), minlength=classes * bins)
    positives_CK = np.bincount(cells_NC[row_N, truth_N], minlength=classes * bins)
    error_NC = scores_NC.copy()
    error_NC[row_N, truth_N] -= 1
    return {
        "confusion": _confusion(truth_N, scores_NC.argmax(axis=1).astype(np.int64), classes),
        "positives": positives_CK.reshape(classes, bins).astype(np.float64),
        "negatives": (all_CK - positives_CK).reshape(classes, bins).astype(np.float64),
        "squared_error": scalar(np.sum(error_NC**2)),
        "examples": scalar(rows),
    }


def multiclass_figures(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Figures from (added) ``multiclass_sums``. Raises ValueError as ``checked`` does.

    ``balanced_accuracy`` is the mean recall of the classes that occur as targets, ``macro_f1`` the
    mean f1 of those that occur as targets or predictions, both as scikit-learn by default. ``auc``
    is the mean one-vs-rest area of the classes that have rows on both sides (scikit-learn refuses
    if one hasn't); ``auc_error_bound`` is the mean of their bounds, proved at ``binary_figures``.
    ``brier`` is summed over classes, in [0, 2] (scikit-learn's ``scale_by_half=False``).
    """
    entries = checked(sums, _MULTICLASS_AXES)
    with np.errstate(all="ignore"):
        confusion_CC = entries["confusion"]
        hits_C = np.diagonal(confusion_CC)
        true_C, predicted_C = confusion_CC.sum(axis=1), confusion_CC.sum(axis=0)
        area_C, bound_C = _roc_area(entries["positives"], entries["negatives"])
        examples = entries["examples"][0]
        figures = {
            "auc": _mean_defined(area_C),
            "auc_error_bound": _mean_defined(bound_C),
            "accuracy": ratio(hits_C.sum(), confusion_CC.sum()),
            "balanced_accuracy": _mean_defined(ratio(hits_C, true_C)),
            "macro_f1": _mean_defined(ratio(2 * hits_C, true_C + predicted_C)),
            "brier": ratio(entries["squared_error"][0], examples),
            "examples": examples,
        }
    return {name: float(value) for name, value in figures.items()}


# --- regression ---------------------------------------------------------------------------------
def regression_sums(
    predictions_N: ArrayLike, targets_N: ArrayLike, target_shift: float = 0.0
) -> Sums:
    """Sums for a predicted number. Raises ValueError for input that isn't as stated here.

    Parameters
    ----------
    predictions_N, targets_N : finite, magnitude at most 1e100
    target_shift : subtracted from the targets in ``target_sum`` and ``target_square_sum`` only,
        against cancellation in r2 (see ``regression_figures``). It cancels out of every figure,
        provided that all hospitals use the same one, such as the agreed mean.

    Returns
    -------
    All of shape (1,): ``examples``, ``residual_sum`` (prediction - target), ``absolute_error``,
    ``squared_error``, ``target_sum``, ``target_square_sum``.
    """
    guess_N = finite_array("predictions", predictions_N)
    truth_N = finite_array("targets", targets_N, rows=len(guess_N))
    shift = finite_array("target_shift", target_shift, ndim=0)
    residual_N, shifted_N = guess_N - truth_N, truth_N - shift
    return {
        "examples": scalar(len(truth_N)),
        "residual_sum": scalar(np.sum(residual_N)),
        "absolute_error": scalar(np.sum(np.abs(residual_N))),
        "squared_error": scalar(np.sum(residual_N**2)),
        "target_sum": scalar(np.sum(shifted_N)),
        "target_square_sum": scalar(np.sum(shifted_N**2)),
    }


def regression_figures(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Figures from (added) ``regression_sums``. Raises ValueError as ``checked`` does.

    ``bias`` is the mean of prediction - target. ``r2`` is 1 - squared error / (sum y^2 -
    (sum y)^2 / n), and that difference cancels: the relative error of 1 - r2 is a few times
    2.2e-16 * (mean^2 + variance) / variance, with mean and variance of the (shifted) targets. A
    mean of a thousand standard deviations leaves nine digits. Where variance is below 1e-12 of the
    mean square r2 is NaN, as for constant targets, for which scikit-learn gives 0 or 1.
    """
    lone = {name: value[0] for name, value in checked(sums, _REGRESSION_AXES).items()}
    examples, squared, squares = lone["examples"], lone["squared_error"], lone["target_square_sum"]
    with np.errstate(all="ignore"):
        spread = squares - ratio(lone["target_sum"] ** 2, examples)
        figures = {
            "rmse": np.sqrt(ratio(squared, examples)),
            "mae": ratio(lone["absolute_error"], examples),
            "r2": 1 - ratio(squared, spread) if spread > _LEAST_VARIANCE * squares else np.nan,
            "bias": ratio(lone["residual_sum"], examples),
            "examples": examples,
        }
    return {name: float(value) for name, value in figures.items()}


# --- parts --------------------------------------------------------------------------------------
def _probabilities(values: ArrayLike, ndim: int) -> Floats:
    array = finite_array("probabilities", values, ndim)
    outside = (array < -PROBABILITY_TOLERANCE) | (array > 1 + PROBABILITY_TOLERANCE)
    refuse("probabilities", outside, "numbers in [0, 1]")
    return np.clip(array, 0.0, 1.0)


def _bin_index(scores: Floats, bins: int) -> Ints:
    """Bin 0..K-1 of each score in [0, 1]; never decreases with the score, even after rounding."""
    return np.searchsorted(score_edges(bins), scores, side="right").astype(np.int64)


@lru_cache(maxsize=8)
def score_edges(bins: int) -> Floats:
    """Probabilities at which the next bin begins, K - 1 of them; K is at least 1."""
    if bins < 1:
        raise ValueError(f"bins: found {bins}, expected at least 1")
    end = np.arcsinh(MOST_LOGIT / _MIDDLE)
    logits_K: Floats = _MIDDLE * np.sinh(np.linspace(-end, end, bins + 1)[1:-1])
    return np.asarray(1 / (1 + np.exp(-logits_K)), dtype=np.float64)


def _confusion(truth_N: Ints, predicted_N: Ints, classes: int) -> Floats:
    cells = np.bincount(truth_N * classes + predicted_N, minlength=classes**2)
    return cells.reshape(classes, classes).astype(np.float64)


def _roc_area(positives: Floats, negatives: Floats) -> tuple[Any, Any]:
    """Area and its error bound over the last axis, K bins; NaN where a side is empty."""
    below = np.cumsum(negatives, axis=-1) - negatives
    pairs = positives.sum(axis=-1) * negatives.sum(axis=-1)
    within = 0.5 * np.sum(positives * negatives, axis=-1)
    return ratio(np.sum(positives * below, axis=-1) + within, pairs), ratio(within, pairs)


def _average_precision(positives_K: Floats, negatives_K: Floats) -> tuple[Any, Any]:
    """Average precision with a threshold per bin, and a bound on its error; NaN if no positives.

    scikit-learn's figure is the mean over positives of the precision TP / (TP + FP) at the score of
    each. For the k-th best positive of a bin, with T and F the true and false positives of the bins
    above, TP is from T + k to T + pos and FP from F to F + neg. So its precision is at most
    u = (T + pos) / (T + pos + F), and at least f(T + k) with f(x) = x / (x + F + neg). As f is
    concave, the mean of f(T + 1) .. f(T + pos) is at least l = (f(T + 1) + f(T + pos)) / 2, the
    mean of the chord. The figure given here uses f(T + pos), which lies between l and u, and so
    differs from the exact one by at most the weighted mean of u - f(T + pos) or of f(T + pos) - l,
    whichever is larger.
    """
    true_K = np.cumsum(positives_K[::-1])[::-1]
    false_K = np.cumsum(negatives_K[::-1])[::-1]
    first_K = np.minimum(true_K - positives_K + 1, true_K)
    given_K = ratio(true_K, true_K + false_K)
    low_K = (ratio(first_K, first_K + false_K) + given_K) / 2
    high_K = ratio(true_K, true_K + false_K - negatives_K)
    found = positives_K > 0  # elsewhere the precision has no weight and may be NaN
    weights = positives_K[found]

    def mean(values_K: Floats) -> Any:
        return ratio(np.sum(weights * values_K[found]), np.sum(weights))

    return mean(given_K), np.maximum(mean(high_K - given_K), mean(given_K - low_K))


def _mean_defined(values: Floats) -> Any:
    """Mean of what isn't NaN; NaN if all is."""
    defined = values[~np.isnan(values)]
    return ratio(np.sum(defined), len(defined))
