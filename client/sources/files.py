"""Rows of files, which a mapping, a dialect or a patients' column changes before a task sees
them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from wardround.client.sources.settings import FileSource
from wardround.client.sources.source import Asked
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.data.table import read_table


class FileRows:
    """``source = "file"``."""

    def __init__(self, settings: FileSource) -> None:
        self._settings = settings
        self._left_out: tuple[LeftOut, ...] = ()

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        table = read_table((asked.base / self._settings.path).resolve())
        self._left_out = table.left_out
        arrow = pa.table({name: pa.array(cells) for name, cells in table.columns.items()})
        yield from arrow.combine_chunks().to_batches()

    def left_out(self) -> tuple[LeftOut, ...]:
        return self._left_out
