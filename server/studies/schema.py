"""The tables, made or brought to their newest form when a store is opened.

All steps of ``migrations/`` that a database lacks are taken in one transaction: a crash leaves it
as it was. Two servers that open it at once take turns. One that a newer wardround has been at is
refused, as nobody here can know what its rows mean.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from wardround.server.studies.connecting import Place
from wardround.server.studies.tables import metadata

VERSIONS = "wardround_schema"
"""The table with the newest step's name; not alembic's own, as others may use the database."""
_FOLDER = Path(__file__).parent / "migrations"
_LOCK = 0x57415244
"""PostgreSQL's advisory lock of whoever brings the tables up."""


def bring_up(connection: sa.Connection, place: Place) -> None:
    """Take the steps that are lacking, within the connection's transaction.

    Raises ConfigError where a newer wardround has been there, or tables of another program are.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    script = ScriptDirectory(str(_FOLDER))
    context = MigrationContext.configure(connection, opts={"version_table": VERSIONS})
    present = context.get_current_heads()
    newest = script.get_current_head()
    if present == (newest,):
        return
    _check(connection, place, script, present)
    lacking = list(script.iterate_revisions("head", present[0] if present else "base"))
    with Operations.context(context):
        for step in reversed(lacking):
            step.module.upgrade()
            context.stamp(script, step.revision)


def _check(
    connection: sa.Connection, place: Place, script: ScriptDirectory, present: tuple[str, ...]
) -> None:
    for revision in present:
        try:
            script.get_revision(revision)
        except CommandError:
            raise place.broken(
                f"has tables of version '{revision[:32]}', which this wardround doesn't know",
                "install the version of wardround that wrote it, or a newer one",
            ) from None
    taken = sorted(set(sa.inspect(connection).get_table_names()) & set(metadata.tables))
    if taken and not present:
        raise place.broken(
            f"has a table '{taken[0]}' of another program", "give wardround a database of its own"
        )
