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

Keys are ``kind/column/...`` with column and category percent-encoded. Keys are never taken from
cells: categories that are not declared stand in a table of words (``vocabulary.py``), which the
server reads once it is added up. A category that fewer than ``min_category_count`` rows of a
hospital have is not sent: a rare value may point to a person.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.data.table import Table
from wardround.common.errors import DataError, TaskError
from wardround.common.tasks.base import Sums
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.vocabulary import (
    LONGEST_WORD_BYTES,
    MOST_WORDS,
    read_words,
    write_words,
)
from wardround.common.text import code

Matrix = NDArray[np.float64]
MEDIAN_BINS = 1024
_LONGEST_CATEGORY = 60
_LONGEST_KEY = LONGEST_WORD_BYTES
_WORDS = "words"
"""Key of the table of categories and classes that are agreed on, not declared."""


def numeric_columns(table: Table, options: TabularOptions) -> list[str]:
    """Names of the numeric columns of this table, sorted."""
    names = options.columns.numeric
    if names == ["*"]:
        named = set(options.columns.named())
        names = [name for name in table.columns if name not in named]
    return sorted(names)


def feature_cells_missing(table: Table, options: TabularOptions) -> NDArray[np.bool_]:
    """True for rows where any input column is missing."""
    columns = options.columns
    names = [*numeric_columns(table, options), *columns.binary, *columns.categorical]
    missing = np.zeros(len(table), dtype=np.bool_)
    for name in names:
        missing |= table.missing(name)
    return missing


def statistics(train: Table, options: TabularOptions, phase: int, totals: Sums) -> Sums:
    """This hospital's sums of one phase; see the module's docstring."""
    sums: Sums = {}
    names = numeric_columns(train, options)
    if phase > 0:
        _check_columns(train, totals, options)
    for name in names:
        values = train.numbers(name)
        values = values[~np.isnan(values)]
        key = _key(train, "numeric", name)
        if phase == 0:
            sums[f"{key}/count"] = _one(len(values))
            if options.normalise == "federated":
                sums[f"{key}/sum"] = _one(values.sum())
        elif phase == 1:
            centred = values - _mean(totals, key)
            sums[f"{key}/squares"] = _one((centred**2).sum())
        else:
            sums |= _histogram(values, key, totals)
    if phase == 0:
        sums |= _counts(train, options)
    return sums


def condense(totals: Sums, options: TabularOptions) -> Sums:
    """What hospitals need to prepare their rows: means, deviations, medians, vocabularies."""
    condensed: Sums = {
        key: value
        for key, value in totals.items()
        if not key.startswith("numeric/") and key != _WORDS
    }
    if _WORDS in totals:
        condensed |= {key: _one(count) for key, count in _read_words(totals).items()}
    for name in numeric_names(totals):
        key = f"numeric/{quote(name, safe='')}"
        condensed[f"{key}/count"] = totals[f"{key}/count"]
        if options.normalise != "federated":
            continue
        condensed[f"{key}/mean"] = _one(_mean(totals, key))
        condensed[f"{key}/std"] = _one(_std(totals, key))
        if options.missing == "median":
            known = f"{key}/histogram" in totals  # not for a constant column
            condensed[f"{key}/median"] = _one(_median(totals, key) if known else _mean(totals, key))
    return condensed


def numeric_names(totals: Sums) -> list[str]:
    """Numeric columns that the federation agreed on, sorted."""
    return sorted(unquote(k.split("/")[1]) for k in totals if _is(k, "numeric", "count"))


def vocabulary(totals: Sums, column: str, options: TabularOptions) -> list[str]:
    """Categories of a column, in the order of their indicator columns."""
    if column in options.columns.categories:
        return [code(text) for text in options.columns.categories[column]]
    prefix = f"category/{quote(column, safe='')}/"
    return sorted(unquote(k.removeprefix(prefix)) for k in totals if k.startswith(prefix))


def classes(totals: Sums, options: TabularOptions) -> list[str]:
    """Class names of a multi-class target, in index order."""
    if options.classes is not None:
        return list(options.classes)
    return sorted(unquote(key.removeprefix("class/")) for key in totals if key.startswith("class/"))


def feature_names(totals: Sums, options: TabularOptions) -> list[str]:
    """Names of the model's inputs, in order: numeric, binary, then indicators."""
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
    _check_columns(table, totals, options)
    matrix = _encode(table, totals, train, options)
    if options.normalise == "none":
        return matrix
    mean, std = _scale(matrix.shape[1], totals, train, options)
    return (matrix - mean) / std


def _encode(table: Table, totals: Sums, train: Table, options: TabularOptions) -> Matrix:
    blocks = []
    for name in numeric_names(totals):
        values = table.numbers(name)
        gaps = np.isnan(values)
        if gaps.any():
            values[gaps] = _fill(table, name, gaps, totals, train, options)
        blocks.append(values[:, None])
    for name in sorted(options.columns.binary):
        values = table.booleans(name)
        gaps = np.isnan(values)
        if gaps.any():
            _refuse_gap(table, name, gaps, options)
            values[gaps] = _mode(name, totals, train, options)
        blocks.append(values[:, None])
    for name in sorted(options.columns.categorical):
        blocks.append(_indicators(table, name, totals, options))
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(table), 0))


def _scale(
    width: int, totals: Sums, train: Table, options: TabularOptions
) -> tuple[Matrix, Matrix]:
    """Mean and standard deviation per input; 0 and 1 where it isn't standardised."""
    numeric = numeric_names(totals)
    mean, std = np.zeros(width), np.ones(width)
    scaled = width if options.normalise_encoded else len(numeric)
    if options.normalise == "local":
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
    """The value that stands for a missing number."""
    _refuse_gap(table, name, gaps, options)
    key = f"numeric/{quote(name, safe='')}/median"
    if key in totals:
        return float(totals[key][0])
    known = train.numbers(name)
    known = known[~np.isnan(known)]
    return float(np.median(known)) if len(known) else 0.0


def _mode(name: str, totals: Sums, train: Table, options: TabularOptions) -> float:
    """The more frequent value of a binary column, over the federation or at this hospital."""
    if options.normalise == "local":
        known = train.booleans(name)
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


def _indicators(table: Table, name: str, totals: Sums, options: TabularOptions) -> Matrix:
    """One column per category, 1 where it is the row's; all 0 where it is missing or rare."""
    known = {text: index for index, text in enumerate(vocabulary(totals, name, options))}
    declared = name in options.columns.categories
    matrix = np.zeros((len(table), len(known)))
    cells = table.categories(name)
    if options.missing == "refuse" and (gaps := table.missing(name)).any():
        _refuse_gap(table, name, gaps, options)
    for row, cell in enumerate(cells):
        if cell is None:
            continue
        if cell in known:
            matrix[row, known[cell]] = 1.0
        elif declared and options.unknown == "refuse":
            raise DataError(
                f"{table.place(row, name)}: the category is not in task.columns.categories; mend "
                "the cell, declare it, or set task.unknown = 'ignore'"
            )
    return matrix[:, 1 if options.encoding == "dummy" else 0 :]


def _counts(train: Table, options: TabularOptions) -> Sums:
    sums: Sums = {"rows": _one(len(train))}
    for name in options.columns.binary:
        values = train.booleans(name)
        key = _key(train, "binary", name)
        sums[f"{key}/count"] = _one((~np.isnan(values)).sum())
        sums[f"{key}/ones"] = _one(np.nansum(values))
    words: dict[str, int] = {}
    agreed = [
        name for name in options.columns.categorical if name not in options.columns.categories
    ]
    for name in options.columns.categorical:
        counts = Counter(c for c in train.categories(name) if c is not None)
        if name in agreed:
            least = options.min_category_count
            frequent = {text: count for text, count in counts.items() if count >= least}
            words |= {_key(train, "category", name, t): count for t, count in frequent.items()}
        elif options.normalise_encoded:  # else nothing needs these counts
            for text in vocabulary({}, name, options):
                sums[_key(train, "category", name, text)] = _one(counts[text])
    if options.kind == "multiclass" and options.classes is None:
        assert options.columns.target is not None  # checked by the options
        agreed.append(options.columns.target)
        for text, count in Counter(train.categories(options.columns.target)).items():
            key = _key(train, "category", options.columns.target, str(text))
            words["class/" + key.rsplit("/", 1)[1]] = count
    if agreed:
        sums[_WORDS] = write_words(words)
    return sums


def _read_words(totals: Sums) -> dict[str, int]:
    try:
        return read_words(totals[_WORDS])
    except ValueError:
        raise TaskError(
            f"the hospitals' undeclared categories can't be agreed on: more than {MOST_WORDS}? "
            "Declare them in task.columns.categories (or task.classes), or list columns of free "
            "text under task.columns.ignore"
        ) from None


def _key(train: Table, kind: str, column: str, text: str | None = None) -> str:
    """The key of a column's, or a category's, sums. Raises DataError if it would be too long."""
    key = f"{kind}/{quote(column, safe='')}"
    if len(key) > _LONGEST_KEY // 2:
        raise DataError(
            f"{train.files[0]}: column '{column[:20]}...' has too long a name; shorten it, or list "
            "it under task.columns.ignore"
        )
    if text is None:
        return key
    quoted = quote(text, safe="")
    if len(text) > _LONGEST_CATEGORY or len(key) + 1 + len(quoted) > _LONGEST_KEY:
        row = int(np.argmax(train.categories(column) == text))
        raise DataError(
            f"{train.place(row, column)}: a category longer than {_LONGEST_CATEGORY} characters "
            "(fewer if they aren't ASCII); is this free text? List the column under "
            "task.columns.ignore"
        )
    return f"{key}/{quoted}"


def _histogram(values: Matrix, key: str, totals: Sums) -> Sums:
    mean, std = _mean(totals, key), _std(totals, key)
    if std == 0 or not np.isfinite(std):
        return {}
    low, width = mean - std, 2 * std / MEDIAN_BINS
    bins = np.clip(np.floor((values - low) / width), -1, MEDIAN_BINS).astype(np.int64)
    # the upper edge belongs to the last bin: a median may lie exactly on it
    bins[(bins >= MEDIAN_BINS) & (values <= mean + std)] = MEDIAN_BINS - 1
    inside = bins[(bins >= 0) & (bins < MEDIAN_BINS)]
    return {
        f"{key}/below": _one((bins < 0).sum()),
        f"{key}/histogram": np.bincount(inside, minlength=MEDIAN_BINS).astype(np.float64),
    }


def _median(totals: Sums, key: str) -> float:
    mean, std = _mean(totals, key), _std(totals, key)
    count = totals[f"{key}/count"][0]
    ranks = [np.ceil(count / 2), np.floor(count / 2) + 1]  # equal if the count is odd
    reached = totals[f"{key}/below"][0] + np.cumsum(totals[f"{key}/histogram"])
    bins = np.minimum(np.searchsorted(reached, ranks), MEDIAN_BINS - 1)
    return float(mean - std + (bins.mean() + 0.5) * 2 * std / MEDIAN_BINS)


def _mean(totals: Sums, key: str) -> float:
    if f"{key}/mean" in totals:
        return float(totals[f"{key}/mean"][0])
    return float(totals[f"{key}/sum"][0] / max(1.0, totals[f"{key}/count"][0]))


def _std(totals: Sums, key: str) -> float:
    std = float(np.sqrt(totals[f"{key}/squares"][0] / max(1.0, totals[f"{key}/count"][0])))
    return 0.0 if _is_constant(abs(_mean(totals, key)), std) else std


def _is_constant(mean: Any, std: Any) -> Any:
    """Whether a deviation is only the rounding of the mean, whatever the unit; vectorised."""
    return std <= 1e-12 * mean


def _check_columns(table: Table, totals: Sums, options: TabularOptions) -> None:
    where = table.files[0] if table.files else "the shard"
    agreed, own = set(numeric_names(totals)), set(numeric_columns(table, options))
    if extra := sorted(own - agreed):
        raise DataError(
            f"{where}: column '{extra[0]}' is not in the federation; add it to task.columns.ignore"
        )
    if lacking := sorted(agreed - own):
        raise DataError(f"{where}: there is no column '{lacking[0]}', which other hospitals have")


def _is(key: str, kind: str, last: str) -> bool:
    parts = key.split("/")
    return len(parts) == 3 and parts[0] == kind and parts[2] == last


def _one(value: float | np.floating | np.integer) -> NDArray[np.float64]:
    return np.array([float(value)])
