"""Rows of files, which a mapping, a dialect or a patients' column changes before a task sees
them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from wardround.client.sources.settings import FileSource
from wardround.client.sources.source import Asked
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.reading.texts import USUAL_MISSING
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import read_table


class FileRows:
    """``source = "file"``."""

    def __init__(self, settings: FileSource) -> None:
        self._settings = settings
        self._left_out: tuple[LeftOut, ...] = ()
        self._table: Table | None = None

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        path = (asked.base / self._settings.path).resolve()
        table = read_table(path, self._settings.dialect, USUAL_MISSING, texts=None)
        self._left_out, self._table = table.left_out, table
        for line in table.told:
            asked.say(line)
        yield from table.data.to_batches()

    def place(self, row: int, column: str) -> str:
        assert self._table is not None
        return self._table.place(row, column)

    def left_out(self) -> tuple[LeftOut, ...]:
        return self._left_out
