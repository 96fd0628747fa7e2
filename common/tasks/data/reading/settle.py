"""What a file's text columns are once its marks are known: numbers, dates, or texts after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.reading.dates import dates_of
from wardround.common.tasks.data.reading.marks import Marks, evidence, in_point_form, numberish
from wardround.common.tasks.data.reading.texts import (
    WHOLE,
    is_number,
    is_one_of,
    normal_texts,
    to_float,
    uniques,
)

_HEAD = 1000
_LARGEST_WHOLE = 2.0**63
Coded = tuple[NDArray[np.int64], pa.Array]


class Source(Protocol):
    """Where columns come from, and what they must stay."""

    @property
    def as_text(self) -> frozenset[int]:
        """Positions of those that stay texts."""
        ...

    @property
    def exact(self) -> bool:
        """Whether a text that its number would change stays one: 007."""
        ...

    @property
    def missing(self) -> frozenset[str]:
        """Codes that mean missing."""
        ...

    def columns(self, decimal: str) -> list[pa.ChunkedArray]:
        """All of them, typed, with this decimal mark."""
        ...

    def texts(self, numbers: Sequence[int]) -> list[pa.ChunkedArray]:
        """These, as texts."""
        ...


@dataclass(frozen=True)
class Settled:
    """columns : of one of ``types.TYPES`` each
    marks : None where the file says nothing of them
    grouped : whether some numbers had marks between thousands
    unsaid : positions of columns whose points nothing explains
    """

    columns: list[pa.ChunkedArray]
    marks: Marks | None
    grouped: bool
    unsaid: tuple[int, ...] = ()


def settle(
    source: Source, guess: Marks | None, asked: bool, by_comma: bool, form: str | None
) -> Settled:
    """The file's columns, with numbers and dates where a column holds nothing else.

    guess : marks that the file's beginning shows, or the settings name (``asked``)
    by_comma : whether a comma parts columns: no comma is in a number then, unless it is quoted
    form : of dates, as ``strptime`` has it
    """
    columns = source.columns(guess.decimal if guess else ".")
    numbers, marks = _number_texts(source, columns), guess
    unsaid: tuple[int, ...] = ()
    if not asked:
        found = evidence(values for _, values in numbers.values())
        marks = guess or found.marks()
        if marks is not None and marks.decimal == "," and guess is None:
            columns = source.columns(",")  # else 1.234 of another column has been read as 1.234
            numbers = _number_texts(source, columns)
        elif marks is None and not by_comma and not found.point:
            unsaid = _unsaid(source, columns)
    return _settled(source, columns, numbers, marks, form, unsaid)


class Given:
    """Columns that were read with types, among them texts that may be numbers or dates."""

    def __init__(
        self,
        columns: Sequence[pa.ChunkedArray],
        as_text: frozenset[int],
        exact: bool,
        missing: frozenset[str],
    ) -> None:
        self._columns, self.as_text = list(columns), as_text
        self.exact, self.missing = exact, missing

    def columns(self, decimal: str) -> list[pa.ChunkedArray]:
        """As they were read."""
        return list(self._columns)

    def texts(self, numbers: Sequence[int]) -> list[pa.ChunkedArray]:
        """As they were read."""
        return [self._columns[number] for number in numbers]


def _settled(
    source: Source,
    columns: list[pa.ChunkedArray],
    numbers: dict[int, Coded],
    marks: Marks | None,
    form: str | None,
    unsaid: tuple[int, ...],
) -> Settled:
    grouped = False
    for number, (index, values) in numbers.items():
        mended, here = in_point_form(values, marks)
        columns[number] = _typed(index, mended, source)
        grouped |= here
    for number, column in enumerate(columns):
        if column.type == pa.string() and number not in source.as_text:
            columns[number] = _dates(column, form, source)
    return Settled(columns, marks, grouped, unsaid)


def _number_texts(source: Source, columns: Sequence[pa.ChunkedArray]) -> dict[int, Coded]:
    """Text columns that may hold numbers, by position, as index and different texts."""
    found = {}
    for number, column in enumerate(columns):
        if column.type != pa.string() or number in source.as_text:
            continue
        if numberish(normal_texts(_one(column.slice(0, _HEAD)))).any():
            index, values = uniques(column)
            found[number] = index, normal_texts(values)
    return found


def _unsaid(source: Source, columns: Sequence[pa.ChunkedArray]) -> tuple[int, ...]:
    """Columns of numbers whose points may be between thousands, where no number of the file says
    that they aren't: all are like 1.234."""
    floats = [n for n, column in enumerate(columns) if column.type == pa.float64()]
    each = [evidence([uniques(column)[1]]) for column in source.texts(floats)] if floats else []
    if any(one.point for one in each):
        return ()
    return tuple(number for number, one in zip(floats, each, strict=True) if one.open)


def _typed(index: NDArray[np.int64], values: pa.Array, source: Source) -> pa.ChunkedArray:
    """The column as numbers if all of its texts are such, or mean missing; else as texts."""
    known, gaps = is_number(values), is_one_of(values, source.missing)
    known &= ~gaps
    if source.exact:
        leading = pc.match_substring_regex(values, r"^[+-]?0[0-9]")
        known &= ~leading.to_numpy(zero_copy_only=False).astype(np.bool_)
    found = to_float(values, known)
    if not (known | gaps).all() or not np.isfinite(found[known]).all():
        return pa.chunked_array([values.take(_indices(index))])
    kept = pa.array(known)
    whole = pc.all(pc.match_substring_regex(values.filter(kept), WHOLE), min_count=0).as_py()
    if whole and (np.abs(found[known]) < _LARGEST_WHOLE).all():
        plain = pc.replace_substring_regex(values, r"^\+", "")
        numbers = pc.if_else(kept, plain, pa.scalar(None, pa.string())).cast(pa.int64())
    else:
        numbers = pa.array(found, mask=~known)
    return pa.chunked_array([numbers.take(_indices(index))])


def _dates(column: pa.ChunkedArray, form: str | None, source: Source) -> pa.ChunkedArray:
    """The column as dates if all of its texts are such, or mean missing; else as it is."""
    if _date_values(_one(column.slice(0, _HEAD)), form, source) is None:
        return column
    index, values = uniques(column)
    found = _date_values(values, form, source)
    return column if found is None else pa.chunked_array([found.take(_indices(index))])


def _date_values(values: pa.Array, form: str | None, source: Source) -> pa.Array | None:
    """Each text as a date, null where it means missing; None if one is no date, or none is one."""
    texts = normal_texts(values)
    kept = ~is_one_of(texts, source.missing) & texts.is_valid().to_numpy(zero_copy_only=False)
    found = dates_of(texts.filter(pa.array(kept)), form) if kept.any() else None
    if found is None:
        return None
    number = np.cumsum(kept) - 1
    return found.take(pa.array(number, mask=~kept))


def _indices(index: NDArray[np.int64]) -> pa.Array:
    return pa.array(index, mask=index < 0)


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
