"""A table with the study's columns, made of the hospital's own.

Row by row: whatever batches a table comes in, its rows come out the same, and the types depend on
the columns' types alone. A row with a cell that can't be mapped (a code that isn't listed, a text
where a unit needs a number) isn't guessed at: it is named by place, and left out where the hospital
allows it (``left_out.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.errors import DataError
from wardround.common.tasks.data.mapping.evaluate import evaluate
from wardround.common.tasks.data.mapping.expression import ExpressionError
from wardround.common.tasks.data.mapping.kinds import NUMBER, check, kind_of
from wardround.common.tasks.data.mapping.settings import Mapping, UnitChange
from wardround.common.tasks.data.mapping.texts import (
    Mask,
    code_of,
    codes,
    each,
    numbers,
    to_mask,
)
from wardround.common.tasks.data.problems import Problems
from wardround.common.text import code, near, normal_text

Place = Callable[[int, str], str]
"""(row, column) as 'file:line: column 'name'', for messages."""


@dataclass(frozen=True)
class Unmapped:
    """Rows with a cell of one column that can't be mapped.

    rows : indices, in their order
    """

    column: str
    rows: tuple[int, ...]
    what: str


@dataclass(frozen=True)
class Mapped:
    """A table, mapped.

    table : all of its rows; where one is unmapped the cell is null
    unmapped : by column and reason
    undefined : by derived column, rows that are a gap since arithmetic has no number there
    """

    table: pa.Table
    unmapped: tuple[Unmapped, ...] = ()
    undefined: dict[str, int] = field(default_factory=dict)

    @property
    def bad(self) -> Mask:
        """Which rows have a cell that couldn't be mapped."""
        found = np.zeros(self.table.num_rows, dtype=np.bool_)
        for one in self.unmapped:
            found[list(one.rows)] = True
        return found


def map_rows(table: pa.Table, mapping: Mapping) -> Mapped:
    """The table as the study has it, and which of its rows couldn't be mapped.

    Raises DataError where the mapping doesn't fit the columns themselves (``columns_fit``).
    """
    columns_fit(table.schema, mapping)
    work = _Work(table, mapping)
    try:
        work.forget()
        work.categorise()
        work.convert()
        work.derive()
    except pa.ArrowException as error:  # its text may quote a cell
        raise DataError(f"map: can't be worked out ({type(error).__name__})") from None
    return Mapped(pa.table(work.columns), tuple(work.unmapped), work.undefined)


def columns_fit(schema: pa.Schema, mapping: Mapping) -> None:
    """Raise DataError, with every problem, where the mapping names columns that aren't there, or
    an expression takes another kind of value than a column has. Needs no rows."""
    found = Problems("map")
    for problem in column_problems(schema, mapping):
        found.add(problem)
    found.check()


def column_problems(schema: pa.Schema, mapping: Mapping) -> Iterator[str]:
    """Each as 'map.KEY: what; mend'."""
    there = [normal_text(name) for name in schema.names]
    for name, own in mapping.rename.items():
        if own not in there:
            yield f"map.rename.{name}: {_lacks(own, there)}"
        if name in there and name not in mapping.rename.values():
            yield (
                f"map.rename.{name}: there is a column '{name}' already; rename that one too, or "
                "leave this out"
            )
    kinds = {
        name: kind_of(kind)
        for name, kind in zip(_renamed(schema.names, mapping), schema.types, strict=True)
    }
    kinds |= {name: "any" for name in mapping.rename if name not in kinds}  # told above
    for key in ("missing", "codes", "units"):
        for name in getattr(mapping, key):
            if name not in kinds:
                yield f"map.{key}.{name}: {_lacks(name, kinds)}"
    kinds |= dict.fromkeys(mapping.codes, "text") | dict.fromkeys(mapping.units, "number")
    for name, expression in mapping.expressions.items():
        if name in kinds:
            yield f"map.derive.{name}: there is a column '{name}' already; choose another name"
        try:
            kinds[name] = check(expression, kinds).kind
        except ExpressionError as error:
            kinds[name] = "any"
            yield f"map.derive.{name}: {error}"


def lines_by_row(unmapped: Iterable[Unmapped], place: Place) -> dict[int, list[str]]:
    """By row, in their order, a line for each of its cells that couldn't be mapped."""
    found: dict[int, list[str]] = defaultdict(list)
    for one in unmapped:
        for row in one.rows:
            found[row].append(f"{place(row, one.column)}: {one.what}")
    return dict(sorted(found.items()))


def _lacks(name: str, there: Iterable[str]) -> str:
    hint = near(name, there)
    return f"there is no column '{name}'" + (
        f"; is it '{hint}'?" if hint else "; name a column of the file, or leave this out"
    )


def _renamed(names: Iterable[str], mapping: Mapping) -> list[str]:
    new = {own: name for name, own in mapping.rename.items()}
    return [new.get(name, name) for name in map(normal_text, names)]


class _Work:
    """Columns by name on their way from the hospital's to the study's."""

    def __init__(self, table: pa.Table, mapping: Mapping) -> None:
        names = _renamed(table.column_names, mapping)
        self._mapping = mapping
        self._rows = table.num_rows
        self.columns: dict[str, pa.Array] = {
            name: _one(column) for name, column in zip(names, table.columns, strict=True)
        }
        self.unmapped: list[Unmapped] = []
        self.undefined: dict[str, int] = {}

    def forget(self) -> None:
        """Gaps for the texts that stand for one."""
        for name, texts in self._mapping.missing.items():
            absent, column = {code(text) for text in texts}, self.columns[name]
            if kind_of(column.type) == NUMBER:
                figures, _ = numbers(pa.array(sorted(absent), pa.string()))
                found = pc.is_in(numbers(column)[0], figures.drop_null())
            else:
                found = each(column, partial(_is_among, absent), pa.bool_())
            self.columns[name] = pc.if_else(found, pa.scalar(None, column.type), column)

    def categorise(self) -> None:
        """Categories for the hospital's texts."""
        for name, table in self._mapping.categories.items():
            texts = codes(self.columns[name])
            self.columns[name] = each(texts, table.get, pa.string())
            lost = to_mask(pc.and_(pc.is_valid(texts), pc.is_null(self.columns[name])))
            self._note(
                name,
                lost,
                f"a text that map.codes.{name} doesn't list; add it there, or to "
                f"map.missing.{name}",
            )

    def convert(self) -> None:
        """The study's unit for the hospital's."""
        for name, change in self._mapping.units.items():
            cells, unread = numbers(self.columns[name])
            self.columns[name] = _in_unit(cells, change)
            self._note(
                name,
                unread,
                "no number, so it has no unit; mend the cell, or list its text "
                f"in map.missing.{name}",
            )

    def derive(self) -> None:
        """New columns, in their order."""
        for name, expression in self._mapping.expressions.items():
            found = evaluate(expression, self.columns, self._rows)
            self.columns[name] = found.cells
            if lost := int(found.undefined.sum()):
                self.undefined[name] = lost
            for column, unread in found.unread.items():
                self._note(
                    column or name,
                    unread,
                    f"map.derive.{name} can't read its text; mend the "
                    "cell, or list it in map.missing",
                )

    def _note(self, column: str, rows: Mask, what: str) -> None:
        if rows.any():
            self.unmapped.append(Unmapped(column, tuple(np.flatnonzero(rows).tolist()), what))


def _is_among(absent: Collection[str], value: Any) -> bool:
    return code_of(value) in absent


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole


def _in_unit(cells: pa.Array, change: UnitChange) -> pa.Array:
    what = change.conversion
    scaled = pc.multiply(cells, what.factor)
    return pc.add(scaled, what.offset) if what.offset else scaled
