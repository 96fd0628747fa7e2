"""The tables of studies, and the database's clock, in SQL that SQLite and PostgreSQL both have.

``migrations/`` makes them; a test holds that it makes these. There is one row in ``network``: who
leads, how many events there are, how many of them the audit log has. Every change locks that row
first, so that numbers of events rise in the order of commits, without a gap.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from wardround.server.studies.rows import MOST_NAME, MOST_REASON, MOST_WHO

metadata = sa.MetaData()

network = sa.Table(
    "network",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("database", sa.String(16), nullable=False),
    sa.Column("owner", sa.String(MOST_WHO), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    sa.Column("audited", sa.BigInteger, nullable=False),
)
studies = sa.Table(
    "studies",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False, unique=True),
    sa.Column("name", sa.String(MOST_NAME), nullable=False),
    sa.Column("researcher", sa.String(MOST_NAME), nullable=False, index=True),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("ends", sa.Double, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(MOST_WHO), nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),
    sa.Column("turn", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.String(MOST_REASON), nullable=False),
    sa.Column("submitted", sa.Double, nullable=False),
    sa.Column("changed", sa.Double, nullable=False),
)
"""``turn`` is the number of the event that queued it: first queued, first run."""
events = sa.Table(
    "events",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("study", sa.String(64), sa.ForeignKey("studies.id"), nullable=False, index=True),
    sa.Column("time", sa.Double, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("old", sa.String(16), nullable=False),
    sa.Column("new", sa.String(16), nullable=False),
    sa.Column("who", sa.String(MOST_WHO), nullable=False),
    sa.Column("reason", sa.String(MOST_REASON), nullable=False),
)
decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("study", sa.String(64), sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("hospital", sa.String(MOST_NAME), primary_key=True, index=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("word", sa.String(16), nullable=False),
    sa.Column("reason", sa.String(MOST_REASON), nullable=False),
    sa.Column("time", sa.Double, nullable=False),
)
"""One row for each hospital that is wanted, in the order of the signed study."""
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("study", sa.String(64), sa.ForeignKey("studies.id"), primary_key=True),
    sa.Column("hospital", sa.String(MOST_NAME), primary_key=True, index=True),
    sa.Column("what", sa.String(16), primary_key=True),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
)


class clock(FunctionElement[float]):  # noqa: N801: reads as the function that it is
    """Unix seconds of the database's clock, at the statement (never at the transaction's begin)."""

    type = sa.Double()
    inherit_cache = True


@compiles(clock, "sqlite")
def _sqlite_clock(element: clock, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(clock, "postgresql")
def _postgresql_clock(element: clock, compiler: Any, **kw: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
