"""The rows of a hospital's own query."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from wardround.client.sources.source import Asked
from wardround.client.sources.sql.address import read_address
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import read_query
from wardround.client.sources.sql.settings import SqlSource
from wardround.common.tasks.data.left_out import LeftOut


class SqlRows:
    """See ``TableSource``."""

    def __init__(self, settings: SqlSource) -> None:
        self._settings = settings

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        own = self._settings
        query = read_query((asked.base / own.query).resolve(), asked.called)
        address = read_address(own.url, asked.base, asked.called)
        with opened(address, own.statement_timeout_s) as database:
            yield from database.rows(query)

    def left_out(self) -> tuple[LeftOut, ...]:
        return ()  # whatever a query leaves out is its own
