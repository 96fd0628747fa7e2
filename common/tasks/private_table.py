"""A table's preparation under differential privacy: ranges, means and deviations from noised sums.

*Declared ranges.* Where every column of numbers has one (``task.columns.expected``), one phase is
enough: a value x is clipped to its range, y = (x - centre) / half width, and summed are y and
y^2 - 1/2, which no row changes by more than (1, 1/2), beside half a one for the value being there.

*Other columns* take two phases more, on grids that depend on no row. First magnitudes |x| are
counted in powers of 4; the narrowest run of them with most of the rows gives a largest magnitude M.
Then values are counted in 64 cells of [-M, M], and again the narrowest run gives the range. It
takes many units: where noise hides the run, nobody goes on with a range that was guessed.

Means and deviations are drawn towards what a column within its range usually has, the more the
larger the noise is (the mean of two Gaussians): too much noise leaves a column scaled by its
range alone. A gap is filled with the mean. Sums are over units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.columns import (
    category_codes,
    check_columns,
    column_key,
    numeric_columns,
    numeric_names,
)
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import one
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.private import GRID, Bounded, Cells, Matrix, Parts, PrivatePreparation

_TARGET = "target"
_SMALLEST, _LARGEST = -12, 22
"""Powers of 4 that magnitudes are told apart by: 6e-8 to 2e13."""
_CELLS = 64
_MOST = 0.75
"""Of the rows lie in a column's run of cells."""
_SURE, _SEEN = 4.0, 4.5
"""Standard deviations of noise that a run must have, and a single cell."""
_THERE = 0.5
"""What a value's being there adds: less than 1, as it is known well from all columns together."""
_LAST = {"count": _THERE, "sum": 1.0, "squares": 0.5, "ones": 0.5, "magnitude": 1.0, "place": 1.0}
"""The most that a row adds to a sum, by the end of its name."""
_MEAN, _VARIANCE = (0.0, 0.5), (0.1, 0.15)
"""Of y before anything is known: what it usually is, and how far from that."""
_NARROWEST = 0.02
_WIDER = 1.5
"""A run has most of the rows, a range nearly all."""


@dataclass(frozen=True)
class _Range:
    """Values are y * half + centre."""

    centre: float
    half: float


class PrivateTable(PrivatePreparation):
    """Of a table with these options; ``why_not`` says which have none."""

    def __init__(self, options: TabularOptions) -> None:
        self._options = options
        self._declared = ranges(options)
        self._scaled = options.normalise == "federated"
        self.phases = 1 if all_declared(options) else 3

    def bound(self, names: frozenset[str]) -> float:
        """Each category column is one cell for each row, however many names it has."""
        ends = [name for name in names if not name.startswith("category/")]
        categories = {name.split("/")[1] for name in names - set(ends)}
        squares = [_LAST.get(name.rpartition("/")[2], 1.0) ** 2 for name in ends]
        return math.sqrt(math.fsum(squares) + len(categories))

    def parts(self, train: Table, phase: int, totals: Sums) -> Parts:
        """``rows`` (first phase); of each column of numbers ``count``, and ``magnitude``, ``place``
        or ``sum`` and ``squares`` by the phase; in the last one of binary columns and categories
        what the settings need."""
        found: dict[str, Bounded | Cells] = {}
        last = phase == self.phases - 1
        if phase > 0:
            check_columns(train, totals, self._options)
        for key, name, values in self._numbers(train, phase, totals):
            there = ~np.isnan(values)
            if phase == 0 or last:
                found[f"{key}/count"] = _each(_THERE * there)
            if last:
                found |= self._moments(key, name, values, totals)
            elif name not in self._declared:
                found |= _located(key, name, values, phase, totals)
        if phase == 0:
            found["rows"] = _each(np.ones(len(train)))
        return found | (self._encoded(train) if last else {})

    def _numbers(self, train: Table, phase: int, totals: Sums) -> Iterator[tuple[str, str, Matrix]]:
        """Key, name and values of each column of numbers that is summed, and of the target."""
        options = self._options
        names = numeric_names(totals) if phase > 0 else numeric_columns(train, options)
        for name in names:
            yield column_key(train, "numeric", name), name, train.numbers(name)
        if options.kind == "regression":
            target = str(options.columns.target)
            yield _TARGET, target, train.numbers(target)

    def _moments(self, key: str, name: str, values: Matrix, totals: Sums) -> Parts:
        if not self._scaled and key != _TARGET:
            return {}
        within = self._range(key, name, totals)
        y = np.clip((values - within.centre) / within.half, -1.0, 1.0)
        there = ~np.isnan(y)
        return {
            f"{key}/sum": _each(np.where(there, y, 0.0)),
            f"{key}/squares": _each(np.where(there, y * y - 0.5, 0.0)),
        }

    def _encoded(self, train: Table) -> Parts:
        """Counts of binary values and categories, where something is filled or scaled by them."""
        options, found = self._options, dict[str, Bounded | Cells]()
        if options.normalise_encoded or options.missing == "median":
            for name in options.columns.binary:
                values, key = options.binary_values(name).read(train, name), ""
                key = column_key(train, "binary", name)
                there = ~np.isnan(values)
                found[f"{key}/count"] = _each(_THERE * there)
                found[f"{key}/ones"] = _each(np.where(there, values - 0.5, 0.0))
        for name in options.columns.categorical if options.normalise_encoded else ():
            coded = category_codes(train, name, options)
            known = vocabulary({}, name, options)
            index = coded.numbers_of({text: number for number, text in enumerate(known)})
            for number, text in enumerate(known):
                key = column_key(train, "category", name, text)
                found[key] = _each((index == number).astype(np.float64))
        return found

    def check(self, phase: int, totals: Sums) -> None:
        for key in (key for key in totals if key.endswith("/magnitude") and phase < self.phases):
            column = key.removesuffix("/magnitude")
            name = str(self._options.columns.target) if column == _TARGET else _name(column)
            if phase == 1:
                _largest(column, name, totals)
            elif phase == 2:
                self._range(column, name, totals)

    # --- what the sums say ----------------------------------------------------------------------
    def _range(self, key: str, name: str, totals: Sums) -> _Range:
        if name in self._declared:
            return self._declared[name]
        largest, run = _largest(key, name, totals), _run("place", key, name, totals)
        width = 2 * largest / _CELLS
        low, high = run.start * width - largest, run.stop * width - largest
        return _Range((low + high) / 2, _WIDER * (high - low) / 2)

    def condense(self, totals: Sums, noise: float) -> Sums:
        """The totals that ``features.py`` prepares rows by, in the columns' units."""
        sums = {key: value / GRID for key, value in totals.items()}
        spread = noise / GRID
        counts = {
            key: float(value[0]) / _THERE for key, value in sums.items() if key.endswith("/count")
        }
        usual = float(np.median([*counts.values(), float(sums["rows"][0])]))
        found: Sums = {"rows": one(max(1.0, round(usual)))}
        for key, count in counts.items():
            # a column without gaps has the count of all: what differs by noise alone doesn't differ
            same = abs(count - usual) <= 3 * spread / _THERE
            number = max(1.0, usual if same else count)
            name = str(self._options.columns.target) if key == f"{_TARGET}/count" else _name(key)
            found |= self._condensed(key.removesuffix("/count"), name, number, sums, totals, spread)
        for key, value in sums.items():
            if key.startswith("category/"):
                found[key] = one(np.clip(value[0], 0.0, usual))
        return found

    def _condensed(
        self, key: str, name: str, number: float, sums: Sums, totals: Sums, spread: float
    ) -> Sums:
        if key.startswith("binary/"):
            ones = sums[f"{key}/ones"][0] + number / 2
            return {f"{key}/count": one(number), f"{key}/ones": one(np.clip(ones, 0.0, number))}
        found = {} if key == _TARGET else {f"{key}/count": one(number)}
        if f"{key}/sum" not in sums:
            return found
        error = spread / number
        mean, _ = _drawn(float(sums[f"{key}/sum"][0]) / number, error, *_MEAN)
        square = float(sums[f"{key}/squares"][0]) / number + 0.5
        variance, unsure = _drawn(square - mean * mean, 1.2 * error, *_VARIANCE)
        # too large a deviation only makes an input small; too small a one may blow it up
        deviation = math.sqrt(min(max(variance, unsure, _NARROWEST**2), 1.0))
        within = self._range(key, name, totals)
        centre = within.centre + np.clip(mean, -1.0, 1.0) * within.half
        found[f"{key}/mean"] = one(centre)
        found[f"{key}/std"] = one(deviation * within.half)
        if key != _TARGET and self._options.missing == "median":
            found[f"{key}/median"] = one(centre)
        return found


def ranges(options: TabularOptions) -> dict[str, _Range]:
    """The declared ranges, by column."""
    return {
        name: _Range((one_.range[0] + one_.range[1]) / 2, (one_.range[1] - one_.range[0]) / 2)
        for name, one_ in options.columns.expected.items()
        if one_.range is not None
    }


def all_declared(options: TabularOptions) -> bool:
    """Whether all that is put to scale has a declared range."""
    names = list(options.columns.numeric) if options.normalise == "federated" else []
    if options.kind == "regression":
        names.append(str(options.columns.target))
    return all(name in ranges(options) for name in names)


def _each(values: NDArray[np.float64]) -> Bounded:
    return Bounded(values.astype(np.float64).reshape(-1, 1))


def _name(key: str) -> str:
    return unquote(key.split("/")[1])


def _located(key: str, name: str, values: Matrix, phase: int, totals: Sums) -> Parts:
    """Where the values lie: magnitudes first, of what isn't 0, then places between -M and M."""
    there = ~np.isnan(values)
    if phase == 0:
        there &= values != 0
        power = np.ceil(np.log2(np.where(there, np.abs(values), 1.0)) / 2)
        index = np.where(there, np.clip(power, _SMALLEST, _LARGEST) - _SMALLEST, -1)
        return {f"{key}/magnitude": Cells(index.astype(np.int64), _LARGEST - _SMALLEST + 1)}
    place = np.floor((np.where(there, values, 0.0) / _largest(key, name, totals) + 1) / 2 * _CELLS)
    index = np.where(there, np.clip(place, 0, _CELLS - 1), -1)
    return {f"{key}/place": Cells(index.astype(np.int64), _CELLS)}


def _largest(key: str, name: str, totals: Sums) -> float:
    """M: the upper end of the run of magnitudes; 1 of a column of zeros."""
    run = _run("magnitude", key, name, totals)
    return float(4.0 ** (run.stop - 1 + _SMALLEST)) if run else 1.0


def _run(kind: str, key: str, name: str, totals: Sums) -> range:
    """The narrowest run of cells with most of what is counted, and every cell that noise alone
    wouldn't fill; empty of a column of zeros. Raises TaskError where noise hides it.

    The noise is read from the cells of all columns: most hold none of the rows.
    """
    counts = totals[f"{key}/{kind}"]
    every = [value for other, value in totals.items() if other.endswith(f"/{kind}")]
    cells = np.concatenate(every)
    noise = 1.4826 * float(np.median(np.abs(cells - np.median(cells)))) + 1e-9
    seen = np.flatnonzero(counts > _SEEN * noise)
    for width in (*range(1, 9), *range(12, len(counts) + 1, 4)):
        inside = np.convolve(counts, np.ones(width), "valid")
        start = int(np.argmax(inside))
        if inside[start] >= _MOST * counts.sum() and inside[start] >= _SURE * noise * width**0.5:
            ends = [start, start + width - 1, *seen]
            return range(int(min(ends)), int(max(ends)) + 1)
    # a column that is mostly zeros: many rows would have been seen elsewhere
    rows = max(float(value.sum()) for value in every)
    if kind == "magnitude" and rows > 2 * _SURE * noise * len(counts) ** 0.5:
        return range(int(seen.min()), int(seen.max()) + 1) if len(seen) else range(0)
    raise TaskError(
        f"the noise of privacy hides in which range the values of column '{name}' lie",
        mend="declare it (task.columns.expected), raise privacy.shares.preparation, or leave "
        "'preparation' out of privacy.covers",
    )


def _drawn(found: float, error: float, usual: float, spread: float) -> tuple[float, float]:
    """A number known to within ``error``, drawn towards what it usually is; to within what it is
    known then."""
    share = spread**2 / (spread**2 + error**2)
    return usual + share * (found - usual), math.sqrt(share) * error


def why_not(options: TabularOptions) -> tuple[str, str, str] | None:
    """Key, reason and mend where no noise can be made for a table's preparation."""
    columns = options.columns
    undeclared = [name for name in columns.categorical if name not in columns.categories]
    if undeclared:
        what = f"the categories of '{undeclared[0]}' are agreed from counts of texts"
        return "task.columns.categories", what, "declare them (task.columns.categories)"
    if options.kind == "multiclass" and options.classes is None:
        return "task.classes", "classes are agreed from counts of texts", "declare task.classes"
    own = options.normalise == "none" and options.missing == "median"
    if options.normalise == "local" or own:
        what = "rows are put to scale, or gaps filled, by a hospital's own rows"
        return (
            "task.normalise",
            what,
            "set task.normalise = 'federated', or 'none' with task.missing = 'refuse' or 'drop'",
        )
    return None
