"""Reading a database in tests."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import Query

CANARY = "Kanarienvogel Q7"
"""A patient's name, which no message may have."""


def read(address: Address, text: str, timeout_s: float = 60) -> list[pa.RecordBatch]:
    """The batches of a query."""
    with opened(address, timeout_s) as database:
        return list(database.rows(Query(text, Path("cohort.sql"))))


def table(address: Address, text: str) -> pa.Table:
    """The answer in one."""
    return pa.Table.from_batches(read(address, text))
