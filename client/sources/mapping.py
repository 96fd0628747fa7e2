"""A source's rows as the study has them: ``map`` of ``[data.NAME]``, batch by batch.

Rows that can't be mapped are left out up to ``left_out_share``, each listed by its place; beyond it
nothing is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pyarrow as pa

from wardround.client.sources.source import Asked
from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import OF_TABLES, Unread
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.mapping.apply import lines_by_row, map_rows
from wardround.common.tasks.data.mapping.settings import Mapping

Place = Callable[[int, str], str]
"""(row, from 0 over all batches; the hospital's own column) as a message has it."""


class MappedRows:
    """The step that maps; ``finish`` says how it went.

    place : left out: row numbers of the source
    """

    def __init__(
        self, mapping: Mapping, asked: Asked, share: float | None, place: Place | None = None
    ) -> None:
        self._mapping, self._asked = mapping, asked
        self._place = place or self._numbered
        self._unread = Unread("rows", OF_TABLES if share is None else share)
        self._undefined = Counter[str]()
        self._before = 0

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows of a batch that can be mapped. Raises DataError where the mapping doesn't fit
        the columns."""
        try:
            found = map_rows(table, self._mapping)
        except DataError as error:
            raise error.by(self._asked.called) from None
        self._undefined.update(found.undefined)
        for problems in lines_by_row(found.unmapped, self._own_place).values():
            self._unread.add(*problems)
        self._before += table.num_rows
        return found.table.filter(pa.array(~found.bad)) if found.unmapped else found.table

    def finish(self) -> LeftOut:
        """How many rows were left out. Raises DataError where they are more than may be."""
        for name, count in self._undefined.items():
            self._asked.say(
                f"map.derive.{name}: {count} rows have no value, as arithmetic gives none there "
                "(a division by zero, the root or logarithm of a negative number)"
            )
        return self._unread.left_out(self._before)

    def _own_place(self, row: int, column: str) -> str:
        return self._place(self._before + row, self._mapping.rename.get(column, column))

    def _numbered(self, row: int, column: str) -> str:
        return f"{self._asked.called}, row {row + 1}: column '{column}'"
