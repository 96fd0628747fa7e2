"""Rows that a finished tabular model predicts: without a target, whether or not a file has one.

What a row needs is what the federation agreed on (``totals``), not what this file happens to have:
a column beside it is told and not used, one that is lacking is refused by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import refuse_unknown, undeclared, vocabulary
from wardround.common.tasks.columns import category_codes, numeric_names, target_columns
from wardround.common.tasks.data.allowance import OF_TABLES, REASON, Unread, allowed
from wardround.common.tasks.data.given import given_table
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.names import looks_like_a_cell
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import NOT_A_NUMBER
from wardround.common.tasks.options import TabularOptions

UNSEEN = "a value that no hospital had often enough: it counts as none of the categories"
_SHOWN = 20


def without_targets(table: Table, options: TabularOptions) -> Table:
    """The table without what is to be predicted."""
    known = [name for name in target_columns(options) if name in table.columns]
    return replace(table, data=table.data.drop_columns(known), _coded={}) if known else table


def has_targets(table: Table, options: TabularOptions) -> bool:
    """Whether the rows were read with what they teach."""
    return all(name in table.columns for name in target_columns(options))


def table_of(data: pa.Table, options: TabularOptions) -> Table:
    """A table in memory as a file with its values would be read. Raises DataError with all columns
    whose types none can have."""
    return without_targets(given_table(data, options.missing_values, used_names(options)), options)


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
    for name in names:
        if name not in table.columns:
            problems.add(str(table.lacks(name, ", which the model needs")))
    problems.check()
    numeric = numeric_names(totals)
    table = _without_unread(table, numeric)
    if options.missing == "drop":
        gaps = np.zeros(len(table), dtype=np.bool_)
        for name in names:
            gaps |= table.missing(name)
        table = table.keep(~gaps, "an input is missing (task.missing = 'drop')")
    for name in numeric:
        with problems.collected():
            table.numbers(name, NOT_A_NUMBER)
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
    extra = sorted(name for name in table.columns if name not in known)
    shown = [f"'{name}'" for name in extra[:_SHOWN] if not looks_like_a_cell(name)]
    more = f" and {len(extra) - len(shown)} more" if len(extra) > len(shown) else ""
    lines = (
        [f"not used, as the model has no such inputs: {', '.join(shown)}{more}"] if extra else []
    )
    return [*table.told, *lines]
