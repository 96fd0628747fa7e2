"""Rows that a graph of a table's model is tried on, from what its schema knows.

Usual ones, drawn around the means; then one column at a time at its edges (nothing, zeros, the
smallest and the largest numbers that are read, every category in every spelling, a text that nobody
has seen); then all gaps at once. And rows that no model predicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.export.rows import Columns
from wardround.common.rng import numpy_generator
from wardround.common.tasks.data.numbers import MAX_ABS_NUMBER
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import Input

_USUAL, _GROUPS = 256, 64
_GAP_SHARE, _UNSEEN_SHARE = 0.1, 0.1
_UNSEEN = "a text that nobody has seen"
_TINY = (0.0, -0.0, 5e-324, -1e-300, 1e-9)
_AROUND = (-1, 1, -10, 10, 1000)
"""Deviations from the mean."""
_NO_NUMBERS = (math.inf, -math.inf, 1.01 * MAX_ABS_NUMBER, -1e300)
_NOT_BINARY = (2.0, 0.5, -1.0)
_ZEROS = ("0", "no", "-")
Cell = float | str | None
Row = dict[str, Cell]


class TableCases:
    """Rows for one model; the same for the same model."""

    def __init__(self, inputs: Sequence[Input], options: TabularOptions) -> None:
        self._inputs, self._options = inputs, options
        self._generator = numpy_generator(0, "export parity")

    def valid(self) -> list[Row]:
        """Rows that the model predicts, in the words of a file."""
        rows = [self._usual() for _ in range(_USUAL)]
        for chosen in self._chosen(self._edges):
            rows.append(self._usual() | chosen)
        if self._may_lack:
            rows.append({one.name: None for one in self._inputs})
        return rows

    def refused(self, usual: Columns) -> Columns:
        """Rows that no model predicts, as a graph is fed; ``usual``: ones that it does predict."""
        bad = self._chosen(self._no_values)
        if not bad:
            return {}
        found = {name: np.resize(values, len(bad)).copy() for name, values in usual.items()}
        for at, chosen in enumerate(bad):
            for name, cell in chosen.items():
                empty: Cell = "" if found[name].dtype == object else math.nan
                found[name][at] = empty if cell is None else cell
        return found

    def _chosen(self, values: Callable[[Input], list[Cell]]) -> list[Row]:
        """Each value of each column in a row; of very many columns, some together."""
        found: list[Row] = []
        for first in range(min(_GROUPS, len(self._inputs))):
            lists = {one.name: values(one) for one in self._inputs[first::_GROUPS]}
            for at in range(max(map(len, lists.values()))):
                found.append({name: own[at % len(own)] for name, own in lists.items() if own})
        return found

    def _usual(self) -> Row:
        return {one.name: self._drawn(one) for one in self._inputs}

    def _drawn(self, one: Input) -> Cell:
        draw = self._generator
        if draw.random() < _GAP_SHARE and self._may_lack:
            return None
        if one.kind == "number":
            return _within((one.mean or 0.0) + (one.std or 1.0) * float(draw.standard_normal()))
        if one.kind == "category" and draw.random() < _UNSEEN_SHARE and self._may_be_other(one):
            return _UNSEEN
        texts = self._texts(one) or [_UNSEEN]
        return texts[int(draw.integers(len(texts)))]

    @property
    def _may_lack(self) -> bool:
        return self._options.missing == "median"

    def _may_be_other(self, one: Input) -> bool:
        options = self._options
        return one.name not in options.columns.categories or options.unknown == "ignore"

    def _texts(self, one: Input) -> list[str]:
        """What a cell of a binary or categorical column may say, in every spelling."""
        known = list(one.categories)
        if one.kind == "binary":
            known = list(one.positive) or ["1", "yes"]
            taken = {text.casefold() for text in [*known, *one.spellings, *one.spellings.values()]}
            known += one.negative or [next(x for x in _ZEROS if x not in taken)]
        names = {name.casefold() for name in known}
        spelled = [text for text, name in one.spellings.items() if name.casefold() in names]
        whole = [f"{x}.0" for x in known if x.isascii() and x.isdecimal()]
        return [*known, *spelled, *whole]

    def _edges(self, one: Input) -> list[Cell]:
        found: list[Cell] = [None] if self._may_lack else []
        if one.kind == "category" and self._may_be_other(one):
            found.append(_UNSEEN)
        if one.kind != "number":
            return [*found, *self._texts(one)]
        mean, std = one.mean or 0.0, one.std or 1.0
        around = [mean, one.median or mean, *(mean + k * std for k in _AROUND)]
        return [*found, *map(_within, around), *_TINY, MAX_ABS_NUMBER, -MAX_ABS_NUMBER]

    def _no_values(self, one: Input) -> list[Cell]:
        found: list[Cell] = [] if self._may_lack else [None]
        if one.kind == "category":
            return found if self._may_be_other(one) else [*found, _UNSEEN]
        return [*found, *(_NO_NUMBERS if one.kind == "number" else _NOT_BINARY)]


def column_of(rows: Sequence[Row], one: Input) -> NDArray[Any]:
    """A column of rows, None where a cell is empty."""
    return np.array([row[one.name] for row in rows], dtype=object)


def _within(value: float) -> float:
    return min(max(value, -MAX_ABS_NUMBER), MAX_ABS_NUMBER)
