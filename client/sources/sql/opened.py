"""The database of an address. A driver is imported when a database of its kind is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import Database
from wardround.common.errors import DataError

EXTRA = "pip install 'wardround[sql]'"


def opened(address: Address, timeout_s: float) -> AbstractContextManager[Database]:
    """Open in a transaction, closed (and never committed) behind the block.

    timeout_s : longest that one statement may take, with all reading of its rows

    Raises DataError where it can't be reached, or a package isn't installed.
    """
    try:
        return _of(address, timeout_s)
    except ModuleNotFoundError as error:
        raise DataError(f"needs {error.name}", who=address.name, mend=EXTRA) from None


def _of(address: Address, timeout_s: float) -> AbstractContextManager[Database]:
    match address.kind:
        case "postgresql":
            from wardround.client.sources.sql.postgresql import open_postgresql

            return open_postgresql(address, timeout_s)
        case "sqlite":
            from wardround.client.sources.sql.sqlite import open_sqlite

            return open_sqlite(address, timeout_s)
        case "duckdb":
            from wardround.client.sources.sql.duck import open_duckdb

            return open_duckdb(address, timeout_s)
    from wardround.client.sources.sql.others import open_other

    return open_other(address, timeout_s)
