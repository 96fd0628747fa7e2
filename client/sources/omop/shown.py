"""The SQL that a study's cohort becomes at this hospital, for whoever decides on the plan there."""

from __future__ import annotations

from collections.abc import Iterator

from wardround.client.sources.omop.settings import OmopSource
from wardround.client.sources.omop.statements import CohortSql
from wardround.client.sources.omop.tables import Dialect
from wardround.client.sources.source import Asked
from wardround.client.sources.sql.address import Kind, read_address
from wardround.common.errors import DataError


def shown_sql(source: OmopSource, asked: Asked) -> Iterator[str]:
    """Each statement as it will be asked, to the letter; connects to nothing.

    Where the database isn't named yet (its environment variable is another program's), it is
    PostgreSQL's SQL.
    """
    cohort = asked.config.cohort
    if cohort is None:
        return
    if source.query is not None:
        yield f"{asked.called} answers it by this hospital's own query, {source.query}\n"
        return
    kind: Kind = "postgresql"
    try:
        kind = read_address(source.url, asked.base, asked.called).kind
    except DataError:
        pass
    if kind == "other":
        yield f"{asked.called}: no SQL is made for such a database; name a query of your own\n"
        return
    yield f"{asked.called} answers it by this SQL, which only reads (query = FILE replaces it):\n"
    for one in CohortSql(cohort, source, Dialect(kind)).all():
        yield f"-- {one.what}\n{one.query.text};\n"
