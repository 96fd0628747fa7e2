"""The rows of a shard as typed columns, each row remembering the file and line it came from.

Columns are Arrow's: numbers are numbers, texts stay texts until a column's meaning is known, so
that a cell that can't be read is named by file, line and column. No message quotes a cell: it may
be a patient's. No Python object is made per cell but where a caller asks for texts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.numbers import Numbers, read_numbers
from wardround.common.tasks.data.problems import MOST_LINES, numbered
from wardround.common.tasks.data.reading.names import listed, looks_like_a_cell
from wardround.common.tasks.data.reading.texts import (
    codes,
    missing_numbers,
    normal_texts,
    uniques,
)
from wardround.common.tasks.data.reading.types import canonical_texts
from wardround.common.tasks.data.row_keys import key_numbers, key_texts
from wardround.common.text import near, normal_text, one_line

ASIDE = "wardround:aside:"
"""Before the name of a column that is no input, and may be kept beside predictions: a target."""
Cells = NDArray[np.object_]
"""One column: str, or None where the value is missing."""


@dataclass(frozen=True)
class Coded:
    """A column by its different values.

    index : N int64, which of ``texts`` each row has; -1 where it is missing
    texts : all different, each of some row, in the order of their first
    """

    index: NDArray[np.int64]
    texts: list[str]

    def cells(self) -> Cells:
        """Each row's text, or None."""
        found = np.array([*self.texts, None], dtype=object)
        return found[self.index]

    def numbers_of(self, known: Mapping[str, int]) -> NDArray[np.int64]:
        """``known`` of each row's text; -1 where it is missing, -2 where it isn't known."""
        return np.array([*(known.get(text, -2) for text in self.texts), -1])[self.index]

    def first(self, text: str) -> int:
        """The first row with one of ``texts``."""
        return int(np.argmax(self.index == self.texts.index(text)))

    def called(self, name: Callable[[str], str]) -> Coded:
        """The same by other names; texts with one name are one."""
        names = [name(text) for text in self.texts]
        kept = list(dict.fromkeys(names))
        number = {text: position for position, text in enumerate(kept)}
        return Coded(np.array([*(number[one] for one in names), -1])[self.index], kept)

    def select(self, rows: NDArray[np.int64]) -> Coded:
        """The same of these rows alone: their texts, in the order of their first appearance."""
        found, first, number = np.unique(
            np.append(self.index[rows], -1), return_index=True, return_inverse=True
        )
        order = np.argsort(first[1:], kind="stable")  # the first of ``found`` is -1
        place = np.empty(len(found), dtype=np.int64)
        place[0], place[1 + order] = -1, np.arange(len(order))
        return Coded(place[number[:-1]], [self.texts[i] for i in found[1:][order].tolist()])

    def counts(self) -> dict[str, int]:
        """How many rows have each text."""
        found = np.bincount(self.index[self.index >= 0], minlength=len(self.texts))
        return dict(zip(self.texts, found.tolist(), strict=True))


@dataclass(frozen=True)
class Table:
    """Rows of one shard.

    data : typed columns, as they are in the files
    files : the files the rows came from
    origin : N x 2 int64: index into ``files``, row in it (from 0)
    lines : of each file, the line of a row, for messages
    missing_values : codes that mean missing, whichever column they stand in
    left_out : of these files, when they were read; a selection of rows has read nothing
    hide_names : whether messages keep names found in the files to themselves
    file_splits : the split that each file's name says; empty where names say none
    told : what was found beside the usual when the files were read, a line each
    people : N texts, whose each row is, where the hospital's own settings say it
    called : how messages name the rows' place instead of their file; '' for the file
    named : whether the files name their columns; names that settings give say nothing of a row
    """

    data: pa.Table
    files: tuple[Path, ...]
    origin: NDArray[np.int64]
    lines: tuple[Callable[[int], int], ...]
    missing_values: frozenset[str] = frozenset([""])
    left_out: tuple[LeftOut, ...] = ()
    hide_names: bool = False
    file_splits: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    people: NDArray[np.str_] | None = None
    called: str = ""
    named: bool = True
    _coded: dict[tuple[str, bool], Coded] = field(default_factory=dict, repr=False, compare=False)
    _ahead: tuple[pa.Table, NDArray[np.uint64]] | None = field(
        default=None, repr=False, compare=False
    )  # the rows' keys, and of which data they are

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]], file: Path) -> Table:
        """A table of values, which stand in no file; ``file`` names them in messages."""
        data = pa.table(
            {name: pa.chunked_array([_as_array(values)]) for name, values in columns.items()}
        )
        return cls(data, (file,), _origin(0, data.num_rows), (_counted,))

    def __len__(self) -> int:
        return len(self.origin)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns' names, in the order of the files."""
        return tuple(self.data.column_names)

    @property
    def keys(self) -> NDArray[np.str_]:
        """N texts, what tells rows apart by all of their cells (``row_keys.py``)."""
        if self._ahead is not None and self._ahead[0] is self.data:
            return key_texts(self._ahead[1])
        return key_texts(self._key_numbers())

    def _key_numbers(self) -> NDArray[np.uint64]:
        names = sorted(self.columns) if self.named else self.columns
        return key_numbers([self.data.column(name) for name in names], len(self))

    def many_selections(self) -> Table:
        """The same, ready for thousands of selections of a few rows each, which without it cost a
        pass over all rows: columns of one piece, keys worked out for all rows at once."""
        ready = replace(self, data=self.data.combine_chunks(), _coded={})
        return replace(ready, _ahead=(ready.data, ready._key_numbers()))

    def select(self, rows: NDArray[np.int64]) -> Table:
        """The given rows, in that order."""
        index = np.asarray(rows, dtype=np.int64)
        data = self.data.take(pa.array(index))
        people = None if self.people is None else self.people[index]
        chosen = replace(
            self,
            data=data,
            origin=self.origin[index],
            left_out=(),
            people=people,
            _coded={},
            _ahead=None,
        )
        if self._ahead is None or self._ahead[0] is not self.data:
            return chosen
        coded = {key: one.select(index) for key, one in self._coded.items()}
        return replace(chosen, _coded=coded, _ahead=(data, self._ahead[1][index]))

    def keep(self, mask: NDArray[np.bool_], reason: str) -> Table:
        """The rows where the mask is true; the others are left out, for that reason."""
        dropped = LeftOut(int((~mask).sum()), "rows", reason)
        kept = self if mask.all() else self.select(np.flatnonzero(mask).astype(np.int64))
        return replace(kept, left_out=added([*self.left_out, dropped]))

    def place(self, row: int, column: str) -> str:
        """'file:line: column 'name'' of a cell, for messages."""
        return f"{self._row(row)}: column '{column}'"

    def wrong(self, rows: NDArray[np.int64], column: str, what: str) -> DataError:
        """The error of some cells of a column: the place of the first, what is wrong and how to
        mend it, and the lines of others in the same file."""
        first, others = int(rows[0]), rows[1:]
        others = others[self.origin[others, 0] == self.origin[first, 0]]
        lines = [self._line(int(row)) for row in others[:MOST_LINES]]
        more = len(others) - len(lines)
        return DataError(f"{self.place(first, column)}: {what}{numbered(lines, more)}")

    def line_numbers(self) -> NDArray[np.int64]:
        """The line of each row."""
        return np.array([self._line(row) for row in range(len(self))], dtype=np.int64)

    def _line(self, row: int) -> int:
        file, number = self.origin[row]
        line: int = self.lines[file](int(number))
        return line

    def _row(self, row: int) -> str:
        if self.called:
            return f"{self.called}, row {self._line(row)}"
        return f"{self.files[self.origin[row, 0]]}:{self._line(row)}"

    def column(self, column: str) -> pa.ChunkedArray:
        """A column as it is in the files. Raises DataError naming those there are, or how many."""
        column = normal_text(column)
        if column not in self.columns:
            raise self.lacks(column)
        return self.data.column(column)

    def cells(self, column: str) -> Cells:
        """A column's cells as texts. Raises DataError as ``column`` does."""
        return self._texts(column, as_code=False).cells()

    def coded(self, column: str) -> Coded:
        """A column by its different codes (``common.text.code``)."""
        return self._texts(column, as_code=True)

    def categories(self, column: str) -> Cells:
        """The column's cells as codes."""
        return self.coded(column).cells()

    def missing(self, column: str) -> NDArray[np.bool_]:
        """True where the cell is missing."""
        found = self.column(column)
        if found.type == pa.string():
            missing: NDArray[np.bool_] = self.coded(column).index < 0
            return missing
        return _numpy(pc.is_null(self._without_codes(found))).astype(np.bool_)

    def numbers(self, column: str, otherwise: str = "") -> NDArray[np.float64]:
        """The column as float64, NaN where missing. Raises DataError at the first other text;
        ``otherwise`` is what else could help there."""
        values, bad, why = self._numbers(column)
        if len(bad):
            raise self.wrong(bad, column, f"{why}{otherwise}")
        return values

    def unread(self, column: str) -> tuple[NDArray[np.int64], str]:
        """Rows whose text is no number, in a column of texts or numbers, and why the first of them
        isn't. Raises DataError as ``column`` does."""
        if self.column(column).type not in (pa.string(), pa.float64(), pa.int64()):
            return np.zeros(0, dtype=np.int64), ""
        _, bad, why = self._numbers(column)
        return bad, why

    def read_numbers(self, column: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The column as float64 whatever stands in it, NaN where nothing does, and the rows with
        what is no number, whose values mean nothing. Raises DataError as ``column`` does."""
        values, bad, _ = self._numbers(column)
        if self.column(column).type in (pa.string(), pa.float64(), pa.int64()):
            return values, bad
        return values, np.flatnonzero(~self.missing(column))  # a date, or yes and no

    def _numbers(self, column: str) -> Numbers:
        found = self._without_codes(self.column(column))
        texts = None
        if found.type == pa.string():
            coded = self._texts(column, as_code=False)
            texts = coded.index, coded.texts
        return read_numbers(found, texts)

    def lacks(self, column: str, who_has_it: str = "") -> DataError:
        """The error of a column that isn't there."""
        where = self.called or (self.files[0] if self.files else "the shard")
        what = f"there is no column '{one_line(column, 100)}'{who_has_it}"
        return DataError(
            f"{where}: there is no column '{column}'{who_has_it}{self._instead(column)}",
            told=f"{what}; that hospital's site.toml can map one of its own to it",
        )

    def _instead(self, column: str) -> str:
        """What there is where a column isn't, for a message."""
        there = [name for name in self.columns if not name.startswith(ASIDE)]
        alone = len(there) == 1
        meant = near(column, there)
        if meant and not self.hide_names and not looks_like_a_cell(meant):
            return f"; it has '{meant}': name it the same"
        if self.hide_names:
            more = ", and the delimiter right" if alone else ""
            return f" among its {len(there)}; is the first line a header{more}?"
        more = "is task.dialect.delimiter right?" if alone else "name one so, or ask for another"
        return f"; it has {listed(there)}; {more}"

    def _texts(self, column: str, as_code: bool) -> Coded:
        key = normal_text(column), as_code
        if key not in self._coded:
            self._coded[key] = self._read_texts(self.column(column), as_code)
        return self._coded[key]

    def _read_texts(self, column: pa.ChunkedArray, as_code: bool) -> Coded:
        index, values = uniques(column)
        texts = canonical_texts(values)
        found = codes(texts)
        missing = pc.is_in(found, value_set=pa.array(sorted(self.missing_values), pa.string()))
        shown = (found if as_code else normal_texts(texts)).dictionary_encode()
        number = _numpy(shown.indices).astype(np.int64)  # two texts of one code are one
        number[_numpy(missing).astype(np.bool_)] = -1
        kept, number = np.unique(np.append(number, -1), return_inverse=True)
        texts_left = shown.dictionary.take(pa.array(kept[1:])).to_pylist()
        return Coded((number - 1)[index], texts_left)

    def _without_codes(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """A column of numbers with null where the number means missing; others as they are."""
        numbers = missing_numbers(self.missing_values)
        if not numbers or column.type not in (pa.int64(), pa.float64()):
            return column
        hits = pc.is_in(column.cast(pa.float64(), safe=False), value_set=pa.array(numbers))
        if not pc.any(hits, min_count=0).as_py():
            return column
        return pc.if_else(hits, pa.scalar(None, column.type), column)


def _as_array(values: Sequence[Any]) -> pa.Array:
    if all(value is None or isinstance(value, str) for value in values):
        return pa.array(values, pa.string())
    return pa.array(np.asarray(values))


def _origin(file: int, rows: int) -> NDArray[np.int64]:
    return np.column_stack([np.full(rows, file, dtype=np.int64), np.arange(rows)])


def _counted(row: int) -> int:
    return row + 1


def _numpy(values: pa.ChunkedArray | pa.Array) -> NDArray[Any]:
    found: NDArray[Any] = (
        values.to_numpy()
        if isinstance(values, pa.ChunkedArray)
        else values.to_numpy(zero_copy_only=False)
    )
    return found
