"""From a table to model inputs, agreed between hospitals by sums alone.

Three exchanges at most, each a sum over hospitals of their training rows:

0. counts and sums of numeric columns, counts of binary and categorical values;
1. squared distances from the mean that phase 0 gave (so nothing cancels, whatever the unit);
2. histograms of K bins over mean +- std, for medians.

The median: every median m satisfies |m - mean| <= std (m minimises E|X - m|, hence
|mean - m| <= E|X - m| <= E|X - mean| <= std), so it lies in the histogram's range. The number of
values below the range is counted too; the bin where the count passes a rank holds the value of
that rank, and the bin's centre is within std/K of it. The values of the ranks ceil(n/2) and
floor(n/2) + 1 are both medians; so the mean of their bins' centres is within std/K of numpy's
median (which is the mean of the two), up to rounding.

Which columns there are is ``columns.py``, which categories ``categories.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import (
    WORDS,
    agreed_words,
    category_sums,
    indicators,
    vocabulary,
)
from wardround.common.tasks.columns import (
    check_columns,
    column_key,
    numeric_columns,
    numeric_names,
)
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.options import TabularOptions

Matrix = NDArray[np.float64]
NOT_A_NUMBER = ", or list the column under task.columns.categorical or ignore"
"""What else helps where an input isn't a number."""
NAMES_SITES = (
    ", or, as the column seems to name hospitals, list it under task.columns.ignore (in a "
    "simulation of one file, simulation.partition = 'column' makes a hospital of each)"
)
"""What helps where it is named like hospitals: as a category, the place would be an input."""
MEDIAN_BINS = 1024


@dataclass(frozen=True)
class Constants:
    """What ``features`` does to any row, as numbers: for whoever does the same elsewhere.

    fills : of each numeric and binary column, what stands for a gap; empty where no row may have
        one
    mean, std : D each, as inputs are standardised by (x - mean) / std; None where they aren't
    """

    fills: dict[str, float]
    mean: Matrix | None
    std: Matrix | None


def statistics(train: Table, options: TabularOptions, phase: int, totals: Sums) -> Sums:
    """This hospital's sums of one phase; see the module's docstring. Each of shape (1,), but for
    histograms (``MEDIAN_BINS``) and the table of words. Missing cells count nowhere."""
    sums: Sums = {}
    if phase > 0 and options.normalise != "federated":
        return sums
    if phase > 0:
        check_columns(train, totals, options)
    for name in numeric_names(totals) if phase > 0 else numeric_columns(train, options):
        values = train.numbers(name)
        values = values[~np.isnan(values)]
        key = column_key(train, "numeric", name)
        if phase == 0:
            sums[f"{key}/count"] = one(len(values))
            if options.normalise == "federated":
                sums[f"{key}/sum"] = one(values.sum())
        elif phase == 1:
            centred = values - mean_of(totals, key)
            sums[f"{key}/squares"] = one((centred**2).sum())
        else:
            sums |= _histogram(values, key, totals)
    if phase == 0:
        sums |= _counts(train, options) | category_sums(train, options)
    return sums


def condense(totals: Sums, options: TabularOptions) -> Sums:
    """What hospitals need to prepare their rows: means, deviations, medians, vocabularies.

    Of each numeric column ``numeric/NAME/count`` (which columns there are is read from it) and,
    where federated, ``mean``, ``std`` and ``median``, in the column's unit; counts of rows, binary
    values and categories. The words of ``WORDS`` become a key each.
    """
    condensed: Sums = {
        key: value
        for key, value in totals.items()
        if not key.startswith("numeric/") and key != WORDS
    }
    if WORDS in totals:
        condensed |= {key: one(count) for key, count in agreed_words(totals).items()}
    for name in numeric_names(totals):
        key = f"numeric/{quote(name, safe='')}"
        condensed[f"{key}/count"] = totals[f"{key}/count"]
        if options.normalise != "federated":
            continue
        condensed[f"{key}/mean"] = one(mean_of(totals, key))
        condensed[f"{key}/std"] = one(std_of(totals, key))
        if options.missing == "median":
            known = f"{key}/histogram" in totals  # not for a constant column
            condensed[f"{key}/median"] = one(
                _median(totals, key) if known else mean_of(totals, key)
            )
    return condensed


def feature_names(totals: Sums, options: TabularOptions) -> list[str]:
    """Names of the model's inputs, in order: numeric, binary, then indicators.

    Sorted within each kind, so the order is every hospital's, whatever its file's: weights of one
    input are averaged with those of the same input.
    """
    first = 1 if options.encoding == "dummy" else 0
    return [
        *numeric_names(totals),
        *sorted(options.columns.binary),
        *(
            f"{column}={category}"
            for column in sorted(options.columns.categorical)
            for category in vocabulary(totals, column, options)[first:]
        ),
    ]


def features(table: Table, totals: Sums, train: Table, options: TabularOptions) -> Matrix:
    """The prepared inputs of a table's rows, N x D, in the order of ``feature_names``."""
    check_columns(table, totals, options)
    matrix = _encode(table, totals, train, options)
    if options.normalise == "none":
        return matrix
    mean, std = _scale(matrix.shape[1], totals, train, options)
    matrix -= mean
    matrix /= std
    return matrix


def constants(totals: Sums, options: TabularOptions, train: Table | None) -> Constants:
    """The constants of ``features``; ``train`` may be None where no hospital's own rows have a say
    (``TabularTask.own_statistics``)."""
    fills: dict[str, float] = {}
    for name in numeric_names(totals) if options.missing == "median" else ():
        fills[name] = _median_of(name, totals, train)
    for name in options.columns.binary if options.missing == "median" else ():
        fills[name] = _mode(name, totals, train, options)
    if options.normalise == "none":
        return Constants(fills, None, None)
    mean, std = _scale(len(feature_names(totals, options)), totals, train, options)
    return Constants(fills, mean, std)


def _encode(table: Table, totals: Sums, train: Table, options: TabularOptions) -> Matrix:
    names = feature_names(totals, options)
    matrix, at = np.empty((len(table), len(names))), 0
    for name in numeric_names(totals):
        values = table.numbers(name)
        gaps = np.isnan(values)
        if gaps.any():
            values[gaps] = _fill(table, name, gaps, totals, train, options)
        matrix[:, at] = values
        at += 1
    for name in sorted(options.columns.binary):
        values = options.binary_values(name).read(table, name)
        gaps = np.isnan(values)
        if gaps.any():
            _refuse_gap(table, name, gaps, options)
            values[gaps] = _mode(name, totals, train, options)
        matrix[:, at] = values
        at += 1
    for name in sorted(options.columns.categorical):
        if (gaps := table.missing(name)).any():
            _refuse_gap(table, name, gaps, options)
        found = indicators(table, name, totals, options)
        matrix[:, at : at + found.shape[1]] = found
        at += found.shape[1]
    return matrix


def agreed_scale(width: int, totals: Sums, options: TabularOptions) -> tuple[Matrix, Matrix]:
    """Mean and standard deviation of each of ``width`` inputs as all hospitals have them; not for
    ``normalise = "local"``, where each has its own."""
    return _scale(width, totals, None, options)


def _scale(
    width: int, totals: Sums, train: Table | None, options: TabularOptions
) -> tuple[Matrix, Matrix]:
    """Mean and standard deviation per input; 0 and 1 where it isn't standardised."""
    numeric = numeric_names(totals)
    mean, std = np.zeros(width), np.ones(width)
    scaled = width if options.normalise_encoded else len(numeric)
    if options.normalise == "local":
        assert train is not None  # see ``constants``
        own = _encode(train, totals, train, options)[:, :scaled]
        mean[:scaled], std[:scaled] = own.mean(axis=0), own.std(axis=0)
        std[_is_constant(np.abs(mean), std)] = 0.0
    else:
        for index, name in enumerate(numeric):
            key = f"numeric/{quote(name, safe='')}"
            mean[index], std[index] = totals[f"{key}/mean"][0], totals[f"{key}/std"][0]
        if options.normalise_encoded:
            share = _shares(totals, options)
            mean[len(numeric) :], std[len(numeric) :] = share, np.sqrt(share * (1 - share))
    std[std == 0] = 1.0  # a constant column carries nothing: leave it at zero
    return mean, std


def _shares(totals: Sums, options: TabularOptions) -> Matrix:
    """Share of ones of each binary and indicator input, from counts."""
    rows = max(1.0, float(totals["rows"][0]))
    shares = []
    for name in sorted(options.columns.binary):
        key = f"binary/{quote(name, safe='')}"
        shares.append(totals[f"{key}/ones"][0] / max(1.0, totals[f"{key}/count"][0]))
    first = 1 if options.encoding == "dummy" else 0
    for name in sorted(options.columns.categorical):
        prefix = f"category/{quote(name, safe='')}/"
        for category in vocabulary(totals, name, options)[first:]:
            count = totals.get(prefix + quote(category, safe=""), np.zeros(1))
            shares.append(count[0] / rows)
    return np.array(shares)


def _fill(
    table: Table,
    name: str,
    gaps: NDArray[np.bool_],
    totals: Sums,
    train: Table,
    options: TabularOptions,
) -> float:
    """The value that stands for a missing number: the federation's median where one is agreed, else
    that of this hospital's training rows; 0 where they have none."""
    _refuse_gap(table, name, gaps, options)
    return _median_of(name, totals, train)


def _median_of(name: str, totals: Sums, train: Table | None) -> float:
    key = f"{_column_key(name)}/median"
    if key in totals:
        return float(totals[key][0])
    assert train is not None  # see ``constants``
    known = train.numbers(name)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if len(known) else 0.0


def _column_key(name: str) -> str:
    return f"numeric/{quote(name, safe='')}"


def _mode(name: str, totals: Sums, train: Table | None, options: TabularOptions) -> float:
    """The more frequent value of a binary column, over the federation, or with ``normalise =
    "local"`` at this hospital; a tie is 0."""
    if options.normalise == "local":
        assert train is not None  # see ``constants``
        known = options.binary_values(name).read(train, name)
        known = known[~np.isnan(known)]
        return float(known.mean() > 0.5) if len(known) else 0.0
    key = f"binary/{quote(name, safe='')}"
    return float(totals[f"{key}/ones"][0] > totals[f"{key}/count"][0] / 2)


def _refuse_gap(table: Table, name: str, gaps: NDArray[np.bool_], options: TabularOptions) -> None:
    if options.missing == "refuse":
        raise DataError(
            f"{table.place(int(np.argmax(gaps)), name)}: the value is missing; fill it in, or set "
            "task.missing = 'median' or 'drop'"
        )


def _counts(train: Table, options: TabularOptions) -> Sums:
    """Rows, and the values of binary columns."""
    sums: Sums = {"rows": one(len(train))}
    for name in options.columns.binary:
        values = options.binary_values(name).read(train, name)
        key = column_key(train, "binary", name)
        sums[f"{key}/count"] = one((~np.isnan(values)).sum())
        sums[f"{key}/ones"] = one(np.nansum(values))
    return sums


def _histogram(values: Matrix, key: str, totals: Sums) -> Sums:
    """Counts below mean - std, and in K bins up to mean + std; values above count nowhere, as no
    median is there. None for a constant column."""
    mean, std = mean_of(totals, key), std_of(totals, key)
    if std == 0 or not np.isfinite(std):
        return {}
    low, width = mean - std, 2 * std / MEDIAN_BINS
    bins = np.clip(np.floor((values - low) / width), -1, MEDIAN_BINS).astype(np.int64)
    # the upper edge belongs to the last bin: a median may lie exactly on it
    bins[(bins >= MEDIAN_BINS) & (values <= mean + std)] = MEDIAN_BINS - 1
    inside = bins[(bins >= 0) & (bins < MEDIAN_BINS)]
    return {
        f"{key}/below": one((bins < 0).sum()),
        f"{key}/histogram": np.bincount(inside, minlength=MEDIAN_BINS).astype(np.float64),
    }


def _median(totals: Sums, key: str) -> float:
    """The mean of the two middle values, each taken as its bin's centre: within std / K of it."""
    mean, std = mean_of(totals, key), std_of(totals, key)
    count = totals[f"{key}/count"][0]
    ranks = [np.ceil(count / 2), np.floor(count / 2) + 1]  # equal if the count is odd
    reached = totals[f"{key}/below"][0] + np.cumsum(totals[f"{key}/histogram"])
    bins = np.minimum(np.searchsorted(reached, ranks), MEDIAN_BINS - 1)
    return float(mean - std + (bins.mean() + 0.5) * 2 * std / MEDIAN_BINS)


def mean_of(totals: Sums, key: str) -> float:
    """Mean of what phase 0 summed under a key, or of what ``condense`` made of it; 0 of nothing."""
    if f"{key}/mean" in totals:
        return float(totals[f"{key}/mean"][0])
    return float(totals[f"{key}/sum"][0] / max(1.0, totals[f"{key}/count"][0]))


def std_of(totals: Sums, key: str) -> float:
    """Standard deviation (of the population: divided by n) from phases 0 and 1; 0 where it is but
    the mean's rounding."""
    std = float(np.sqrt(totals[f"{key}/squares"][0] / max(1.0, totals[f"{key}/count"][0])))
    return 0.0 if _is_constant(abs(mean_of(totals, key)), std) else std


def _is_constant(mean: Any, std: Any) -> Any:
    """Whether a deviation is only the rounding of the mean, whatever the unit; vectorised.

    float64 has a relative step of 2e-16, and a sum over many rows loses some digits more; what
    really varies, but by less than 1e-12 of its mean, counts as constant too.
    """
    return std <= 1e-12 * mean


def one(value: float | np.floating | np.integer) -> NDArray[np.float64]:
    """A lone number in the form that sums have."""
    return np.array([float(value)])
