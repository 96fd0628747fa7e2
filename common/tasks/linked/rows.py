"""One party's rows of persons: a key each, and the columns that the settings give this party.

Invariants: keys are all different and none is missing; what a party says of a row it says as
float64, without a gap. Nothing depends on the order of the file's rows but that of ``keys``.

Shapes: N rows, D input columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.two_values import TwoValues
from wardround.common.tasks.linked.images import read_images
from wardround.common.tasks.linked.options import LinkedOptions, PartyColumns

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LinkedRows:
    """Rows that have all identifiers.

    keys : N, one of each row: equal at two parties where it is the same person
    party : whose columns there are; '' before that is known
    share : of rows, that the hospital lets be left out because they can't be read
    """

    table: Table
    keys: Sequence[bytes] = field(repr=False)
    options: LinkedOptions = field(repr=False)
    party: str = ""
    share: float = 0.0
    _read: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def own(self) -> PartyColumns:
        """What the settings say of this party's columns."""
        return self.options.parties.get(self.party) or PartyColumns()

    @property
    def people(self) -> NDArray[np.str_] | None:
        """Whose each row is, where the hospital's own settings say it."""
        return self.table.people

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """What was left out when the rows were read."""
        return self.table.left_out

    def select(self, rows: Rows) -> LinkedRows:
        """The given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        keys = [self.keys[row] for row in index.tolist()]
        return replace(self, table=self.table.select(index), keys=keys, _read={})

    # --- inputs ---------------------------------------------------------------------------------
    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the D inputs: numbers by their column, then for each category but the first
        ``column=text``, 1 where it is that one."""
        return (*self.own.numeric, *(f"{name}={text}" for name, text in self._indicators()))

    def matrix(self) -> Floats:
        """All inputs, N x D, in the order of ``columns``."""
        found = [self.numbers(name) for name in self.columns]
        return np.column_stack(found) if found else np.zeros((len(self), 0))

    def numbers(self, column: str) -> Floats:
        """One of ``columns``, N; gaps are filled by what these rows have in it, with
        ``missing = "median"``.

        Raises DataError, by the cell's place.
        """
        if column not in self._read:
            self._read[column] = self._numbers(column)
        return self._read[column]

    def _numbers(self, column: str) -> Floats:
        for name, text in self._indicators():
            if column == f"{name}={text}":
                place = self.own.categorical[name].index(text)
                return np.where(self._levels(name) == place, 1.0, 0.0)
        if column not in self.own.numeric:
            raise DataError(f"'{column}' is no input of '{self.party}' (task.parties)")
        values = self.table.numbers(column)
        gaps = np.isnan(values)
        if gaps.any():
            self._check_gaps(column, gaps)
            values = np.where(gaps, np.median(values[~gaps]), values)
        return values

    def _indicators(self) -> list[tuple[str, str]]:
        return [(name, text) for name, texts in self.own.categorical.items() for text in texts[1:]]

    def _levels(self, column: str) -> Rows:
        """Of each row the place of its text in the settings' list."""
        texts = self.own.categorical[column]
        found = self.table.coded(column).numbers_of({text: n for n, text in enumerate(texts)})
        if (odd := np.flatnonzero(found == -2)).size:
            key = f"task.parties.{self.party}.categorical"
            what = f"a text that isn't in {key}; add it there, or say in map.codes which it is"
            raise self.table.wrong(odd, column, what)
        gaps = found < 0
        if gaps.any():
            self._check_gaps(column, gaps)
            found = np.where(gaps, np.bincount(found[~gaps]).argmax(), found)
        return found

    def _check_gaps(self, column: str, gaps: NDArray[np.bool_]) -> None:
        """Raise DataError where gaps can't be filled."""
        if self.options.missing == "refuse":
            what = "the value is missing; fill it in (task.missing = 'refuse')"
            raise self.table.wrong(np.flatnonzero(gaps), column, what)
        if gaps.all():
            where = self.table.called or self.table.files[0]
            raise DataError(
                f"{where}: column '{column}' is empty in every row that is used; fill it in, or "
                f"leave it out of task.parties.{self.party}"
            )

    @property
    def images(self) -> Tensor:
        """The image of each row, N x channels x size, uint8 or float32 in [0, 1]. Raises DataError,
        by place; where the settings give this party none."""
        if self.own.images is None:
            raise DataError(f"'{self.party}' has no images (task.parties.{self.party}.images)")
        return read_images(self.table, self.own.images)

    # --- what is to be predicted ------------------------------------------------------------------
    @property
    def outcome(self) -> Floats:
        """The column to predict, N: numbers, or 0 and 1. Raises DataError by place; where this
        party has none."""
        return self._of("outcome")

    @property
    def time(self) -> Floats:
        """Time to the event or the last visit, N, none below 0. Raises as ``outcome``."""
        values = self._of("time")
        if (odd := np.flatnonzero(values < 0)).size:
            raise self.table.wrong(odd, str(self.own.time), "a negative time")
        return values

    @property
    def event(self) -> Floats:
        """1 where the event was seen, else 0, N. Raises as ``outcome``."""
        return self._of("event")

    def _of(self, role: str) -> Floats:
        column: str | None = getattr(self.own, role)
        if column is None:
            raise DataError(f"'{self.party}' has no {role} (task.parties.{self.party}.{role})")
        name = f"{role}:"
        if name not in self._read:
            self._read[name] = self._target(column, role)
        return self._read[name]

    def _target(self, column: str, role: str) -> Floats:
        key = f"task.parties.{self.party}.positive"
        if role == "time" or (role == "outcome" and self._is_number(column)):
            values = self.table.numbers(column)
        else:
            values = TwoValues(self.own.positive, key=key).read(self.table, column)
        if (gaps := np.flatnonzero(np.isnan(values))).size:
            raise self.table.wrong(gaps, column, "the value is missing")
        return values

    def _is_number(self, column: str) -> bool:
        if self.own.positive is not None:
            return False
        _, bad = self.table.read_numbers(column)
        return not len(bad)
