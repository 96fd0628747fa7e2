"""Rows that a finished tabular model predicts: without a target, whether or not a file has one.

What a row needs is what the federation agreed on (``totals``), not what this file happens to have:
a column beside it is told and not used, one that is lacking is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import refuse_unknown, undeclared, vocabulary
from wardround.common.tasks.columns import category_codes, numeric_names, target_columns
from wardround.common.tasks.data.allowance import OF_TABLES, REASON, Unread, allowed
from wardround.common.tasks.data.given import given_table
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.names import looks_like_a_cell
from wardround.common.tasks.data.reading.pieces import PART_BYTES
from wardround.common.tasks.data.row_names import names_of
from wardround.common.tasks.data.table import ASIDE, Table
from wardround.common.tasks.data.table_pieces import table_pieces
from wardround.common.tasks.data.tables import read_table
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.to_predict import RowsToPredict, Source

UNSEEN = "a value that no hospital had often enough: it counts as none of the categories"
_SHOWN = 20


class TabularRows(RowsToPredict[Table]):
    """What the tabular task says of rows without targets, by its options alone.

    rowwise : see ``Task.rowwise``
    part_bytes : of a file that is read at a time
    """

    rowwise: bool = True
    part_bytes: int = PART_BYTES

    def __init__(self, options: TabularOptions) -> None:
        self.options = options

    def rows_of(self, path: Path) -> Table:
        """All rows of a shard's files as they are written. Raises DataError."""
        options = self.options
        return read_table(path, options.dialect, options.missing_values, options.text_columns)

    def left_out(self, raw: Table) -> tuple[LeftOut, ...]:
        return raw.left_out

    def load_rows(self, path: Path) -> Table:
        return without_targets(self.rows_of(path), self.options)

    def rows_of_table(self, table: pa.Table) -> Table:
        options = self.options
        found = given_table(table, options.missing_values, used_names(options))
        return without_targets(found, options)

    def row_pieces(self, source: Source, as_text: Collection[str] = ()) -> Iterator[Table]:
        options = self.options
        texts = {*options.text_columns, *as_text}
        found = table_pieces(
            source, options.dialect, options.missing_values, texts, part_bytes=self.part_bytes
        )
        return (without_targets(table, options) for table in found)

    def own_statistics(self) -> str:
        if self.rowwise:
            return ""
        if self.options.normalise == "local":
            what, why = "scales its inputs by", "task.normalise = 'local'"
        else:
            what, why = "fills gaps with medians of", "task.missing = 'median', normalise = 'none'"
        return f"{what} the training rows of the hospital that uses it ({why})"

    def readable(self, raw: Table, totals: Sums) -> Table:
        return readable_rows(raw, totals, self.options)

    def row_notes(self, raw: Table, totals: Sums) -> list[str]:
        return notes_of(raw, totals, self.options)

    def row_names(self, raw: Table, keep: Sequence[str] = ()) -> dict[str, pa.Array]:
        return names_of(raw, self.options.columns.patient_id, keep)


def without_targets(table: Table, options: TabularOptions) -> Table:
    """The table with what is to be predicted set aside: nothing reads it, but it can be kept."""
    known = target_columns(options)
    names = [f"{ASIDE}{name}" if name in known else name for name in table.columns]
    return replace(table, data=table.data.rename_columns(names), _coded={})


def has_targets(table: Table, options: TabularOptions) -> bool:
    """Whether the rows were read with what they teach."""
    return all(name in table.columns for name in target_columns(options))


def used_names(options: TabularOptions) -> set[str]:
    """Columns that the settings name as inputs; with ``numeric = ["*"]`` others may be, too."""
    columns = options.columns
    return {*columns.binary, *columns.categorical, *(set(columns.numeric) - {"*"})}


def input_names(totals: Sums, options: TabularOptions) -> list[str]:
    """Columns that a row must have: agreed numbers, then binary ones, then categories."""
    columns = options.columns
    return [*numeric_names(totals), *sorted(columns.binary), *sorted(columns.categorical)]


def readable_rows(table: Table, totals: Sums, options: TabularOptions) -> Table:
    """See ``Task.readable``: rows that can't be read are left out as far as the hospital lets them,
    and those with a gap with ``missing = "drop"``."""
    names, columns = input_names(totals, options), options.columns
    problems = Problems(table.called or table.files[0])
    _check_columns(table, names)
    numeric = numeric_names(totals)
    table = _without_unread(table, numeric)
    if options.missing == "drop":
        gaps = np.zeros(len(table), dtype=np.bool_)
        for name in names:
            gaps |= table.missing(name)
        table = table.keep(~gaps, "an input is missing (task.missing = 'drop')")
    for name in numeric:
        with problems.collected():
            table.numbers(name)
    for name in columns.binary:
        with problems.collected():
            options.binary_values(name).read(table, name)
    for name in columns.categorical:
        with problems.collected():
            refuse_unknown(table, name, totals, options)
    if options.missing == "refuse":
        for name in names:
            if (rows := np.flatnonzero(table.missing(name))).size:
                what = "the value is missing; fill it in (task.missing = 'refuse')"
                problems.add(str(table.wrong(rows, name, what)))
    problems.check()
    return replace(table, left_out=added([*table.left_out, *_unseen(table, totals, options)]))


def _check_columns(table: Table, names: Sequence[str]) -> None:
    """Raise DataError with all columns that the model needs and aren't there."""
    lacking = [name for name in names if name not in table.columns]
    if len(lacking) == 1:
        raise table.lacks(lacking[0], ", which the model needs")
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking[:_SHOWN])
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise DataError(
            f"{table.called or table.files[0]}: {len(lacking)} of {len(names)} columns that the "
            f"model needs aren't there: {shown}{more}; name them so"
        )


def _without_unread(table: Table, numeric: Sequence[str]) -> Table:
    share = allowed(OF_TABLES)
    if share == 0:
        return table
    problems: dict[int, list[str]] = {}
    for name in numeric:
        bad, why = table.unread(name)
        for row in bad.tolist() if len(bad) <= share * len(table) else ():
            problems.setdefault(row, []).append(f"{table.place(row, name)}: {why}")
    unread = Unread("rows", share)
    for row in sorted(problems):
        unread.add(*problems[row])
    unread.left_out(len(table))
    return table.keep(~np.isin(np.arange(len(table)), list(problems)), REASON)


def _unseen(table: Table, totals: Sums, options: TabularOptions) -> list[LeftOut]:
    """Cells of categories that the model has no input for."""
    found = []
    for name in options.columns.categorical:
        known = set(vocabulary(totals, name, options))
        counts = category_codes(table, name, options).counts()
        cells = sum(count for text, count in counts.items() if text not in known)
        why = UNSEEN if name in undeclared(options) else "not in task.columns.categories"
        found.append(LeftOut(cells, "cells", f"column '{name}', {why}"))
    return found


def notes_of(table: Table, totals: Sums, options: TabularOptions) -> list[str]:
    """Columns that are there and no input, and how the files are written."""
    known = {*input_names(totals, options), *options.columns.named(), *target_columns(options)}
    own = [name for name in table.columns if not name.startswith(ASIDE)]
    extra = sorted(set(own) - known)
    shown = [f"'{name}'" for name in extra[:_SHOWN] if not looks_like_a_cell(name)]
    more = f" and {len(extra) - len(shown)} more" if len(extra) > len(shown) else ""
    lines = (
        [f"not used, as the model has no such inputs: {', '.join(shown)}{more}"] if extra else []
    )
    return [*table.told, *lines]
