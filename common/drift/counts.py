"""How many rows are in each place of each field. Counts add: of halves they give the whole's.

Columns come as a model's own reading has them: numbers as float64 with NaN where a cell is empty,
categories as positions in the field's texts (-1 missing, -2 unknown). Whoever counts forgets the
rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.field import Field, Role
from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums

Ints = NDArray[np.int64]
_MOST = 2**53


@dataclass(frozen=True)
class Column:
    """What one field's rows hold.

    values : N float64, NaN where missing; or N int64, positions in the field's texts
    odd : N, cells that are something and no number; None where there are none
    """

    values: NDArray[np.float64] | NDArray[np.int64]
    odd: NDArray[np.bool_] | None = None

    def places(self, field: Field) -> Ints:
        """N places in the field."""
        if field.texts:
            return field.of_numbered(np.asarray(self.values, dtype=np.int64))
        return field.of_numbers(np.asarray(self.values, dtype=np.float64), self.odd)


Columns = Mapping[str, Column]
"""By ``Field.key``."""


@dataclass(frozen=True)
class Counts:
    """Counts of rows, or sums of them over hospitals.

    fields : which; the same for all counts of a model
    cells : int64 of ``field.size``, by ``Field.key``; a field that nobody counted isn't in it
    """

    fields: tuple[Field, ...]
    cells: Mapping[str, Ints]

    @classmethod
    def of(cls, fields: Sequence[Field], columns: Columns) -> Counts:
        """Counts of rows. Columns of other names are ignored.

        >>> import numpy as np
        >>> age = Field("input", "age", cuts=(40.0, 60.0))
        >>> rows = {"input/age": Column(np.array([30.0, 60.0, 75.0, np.nan]))}
        >>> Counts.of([age], rows).cells["input/age"].tolist()  # two bins, none odd, one missing
        [1, 0, 2, 0, 1]
        """
        known = [field for field in fields if field.key in columns]
        cells = {one.key: one.counted(columns[one.key].places(one)) for one in known}
        return cls(tuple(fields), cells)

    def __add__(self, other: Counts) -> Counts:
        """Of both. Raises ValueError for counts of another model's fields."""
        if self.fields != other.fields:
            raise ValueError("counts of other fields can't be added: they are of another model")
        keys = [field.key for field in self.fields if field.key in {*self.cells, *other.cells}]
        added: dict[str, Ints] = {}
        for key in keys:
            both = [one.cells[key] for one in (self, other) if key in one.cells]
            added[key] = np.stack(both).sum(axis=0)
        return Counts(self.fields, added)

    def __sub__(self, earlier: Counts) -> Counts:
        """What came since earlier counts. Raises DataError for counts that these don't go on from:
        of another model, or before a server was started again."""
        if self.fields != earlier.fields:
            raise DataError("the earlier counts are of another model")
        since = {key: cells - earlier.cells.get(key, 0) for key, cells in self.cells.items()}
        if set(earlier.cells) - set(self.cells) or any((one < 0).any() for one in since.values()):
            raise DataError(
                "the earlier counts are no part of the later ones",
                mend="was the server started again in between? Look at the later ones alone",
            )
        return Counts(self.fields, since)

    def rows(self, role: Role | None = None) -> int:
        """How many rows are counted: the most of any field (of one role)."""
        fields = [one for one in self.fields if role in (None, one.role) and one.key in self.cells]
        return max((int(self.cells[one.key].sum()) for one in fields), default=0)

    def sums(self) -> Sums:
        """As a procedure's sums: float64, every field, zeros where nothing was counted."""
        return {
            one.key: np.asarray(self.cells.get(one.key, np.zeros(one.size)), dtype=np.float64)
            for one in self.fields
        }

    @classmethod
    def of_sums(cls, fields: Sequence[Field], sums: Mapping[str, NDArray[Any]]) -> Counts:
        """What ``sums`` gave, added over hospitals. Raises ValueError for what no counts are."""
        found = {}
        for field in fields:
            if field.key not in sums:
                continue
            values = np.asarray(sums[field.key], dtype=np.float64)
            if values.shape != (field.size,):
                raise ValueError(f"'{field.key}' has {values.shape} places, not {field.size}")
            if not ((values >= 0) & (values < _MOST) & (values == np.floor(values))).all():
                raise ValueError(f"'{field.key}' holds what is no count")
            if values.any():
                found[field.key] = values.astype(np.int64)
        return cls(tuple(fields), found)


def none_of(fields: Sequence[Field]) -> Counts:
    """Counts of no rows."""
    return Counts(tuple(fields), {})
