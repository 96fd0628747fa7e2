"""The first tables: the network's one row, studies, events, decisions, deliveries."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables, and the one row of the network."""
    network = op.create_table(
        "network",
        sa.Column("one", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("database", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("audited", sa.BigInteger(), nullable=False),
    )
    first = {"owner": "", "fence": 0, "lease_until": 0.0, "events": 0, "audited": 0}
    op.bulk_insert(network, [{"one": 1, "database": secrets.token_hex(8), **first}])
    op.create_table(
        "studies",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger(), nullable=False, unique=True),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("researcher", sa.String(100), nullable=False, index=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("ends", sa.Double(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("submitted", sa.Double(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
    )
    _of_each_study()


def _of_each_study() -> None:
    """The tables whose rows belong to a study."""

    def study(key: bool = True) -> sa.Column[str]:
        of = sa.ForeignKey("studies.id")
        return sa.Column("study", sa.String(64), of, primary_key=key, nullable=False, index=not key)

    op.create_table(
        "events",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        study(key=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("old", sa.String(16), nullable=False),
        sa.Column("new", sa.String(16), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
    )
    op.create_table(
        "decisions",
        study(),
        sa.Column("hospital", sa.String(100), primary_key=True, index=True),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("word", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
    )
    op.create_table(
        "deliveries",
        study(),
        sa.Column("hospital", sa.String(100), primary_key=True, index=True),
        sa.Column("what", sa.String(16), primary_key=True),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
    )
