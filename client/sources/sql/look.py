"""What ``wardround doctor`` sees of a database: whether it is reached, which it is, how many rows a
query has there, and whether this hospital's user could change anything."""

from __future__ import annotations

from collections.abc import Sequence

from wardround.client.sources.source import Asked
from wardround.client.sources.sql.address import read_address
from wardround.client.sources.sql.database import Database
from wardround.client.sources.sql.opened import opened
from wardround.client.sources.sql.query import Query, read_query
from wardround.client.sources.sql.settings import DatabaseTable
from wardround.common.errors import DataError

_LOOK_S = 60.0


def look_at(table: DatabaseTable, asked: Asked, tables: Sequence[str] = ()) -> str:
    """Reads no row, changes nothing. Raises DataError, also for a user that could write.

    tables : that must be there, besides what the source's own query asks for
    """
    address = read_address(table.url, asked.base, asked.called)
    with opened(address, min(table.statement_timeout_s, _LOOK_S)) as database:
        said = [f"{address.name}: {database.version()}", _rights(database)]
        queries = {one: Query(f"SELECT 1 AS one FROM {one}") for one in tables}
        queries |= {one.name: read_query(one, asked.called) for one in table.files(asked.base)}
        for what, query in queries.items():
            rows, exact = database.estimate(query)
            said.append(f"{what}: {'' if exact else 'by its planner about '}{rows} rows")
    return "; ".join(said)


def _rights(database: Database) -> str:
    if database.address.kind == "other":
        return "whether its user could write isn't known (let it SELECT only)"
    able, mend = database.may_write()
    if able:
        raise DataError(
            f"{able}; nothing but reading is done here, so nothing else should be possible",
            who=database.address.name,
            mend=mend,
        )
    return "its user can't write there"
