"""Who leads the network, who has which study in hand: leases that end by the database's clock.

A *fence* is a number that grows whenever a lease passes on (Burrows 2006, section 2.4: sequencers).
Whoever was late still believes that it holds the lease; what it writes carries an old fence, and is
refused. A lease that ended and that nobody took is still its last holder's.
"""

from __future__ import annotations

import sqlalchemy as sa

from wardround.server.studies.changes import COLUMNS, Change, asked, line, read_rows
from wardround.server.studies.rows import MOST_WHO, StudyRow
from wardround.server.studies.tables import clock, network, studies

_LIVE = (studies.c.state == "running") & (studies.c.lease_until > clock())
_LEFT = (studies.c.state == "running") & (studies.c.lease_until <= clock())


def _name(owner: str) -> str:
    """As it is kept; '' is nobody's."""
    return line(owner, MOST_WHO) or "?"


def lead(change: Change, owner: str, lease_s: float) -> int | None:
    """Take the network's lease where it is free, has ended, or is this owner's: the new fence."""
    owner = _name(owner)
    free = (network.c.owner.in_(("", owner))) | (network.c.lease_until <= clock())
    taken = change.connection.execute(
        network.update()
        .where(free)
        .values(owner=owner, fence=network.c.fence + 1, lease_until=clock() + lease_s)
    )
    return int(change.network.fence) + 1 if taken.rowcount else None


def keep_lead(change: Change, owner: str, fence: int, lease_s: float) -> bool:
    """Prolong it; 0 seconds let go of it. False if it has passed to another."""
    mine = (network.c.owner == _name(owner)) & (network.c.fence == fence)
    values = {"lease_until": clock() + lease_s} if lease_s > 0 else {"lease_until": 0.0}
    return bool(change.connection.execute(network.update().where(mine).values(values)).rowcount)


def claim(change: Change, owner: str, lease_s: float, at_once: int) -> StudyRow | None:
    """The next study to be run, with its lease and a new fence; None if there is none, or
    ``at_once`` are in hand. One that was left comes before one that hasn't begun."""
    connection, owner = change.connection, _name(owner)
    live = connection.execute(sa.select(sa.func.count()).select_from(studies).where(_LIVE))
    if live.scalar_one() >= at_once:
        return None
    found = connection.execute(
        sa.select(studies.c.id, studies.c.state, studies.c.fence)
        .where(_LEFT | (studies.c.state == "queued"))
        .order_by(studies.c.turn)  # what was left was queued before all that is
        .limit(1)
    ).first()
    if found is None:
        return None
    values = {"state": "running", "owner": owner, "fence": found.fence + 1}
    query = (
        studies.update()
        .where(studies.c.id == found.id)
        .values(**values, lease_until=clock() + lease_s, changed=clock(), reason="")
    )
    if found.state == "queued":
        change.event(found.id, "state", "queued", "running", owner)
    else:
        change.event(found.id, "claim", "running", "running", owner, "taken over")
    return read_rows(connection, query.returning(*COLUMNS))[0]


def renew(change: Change, id: str, fence: int, lease_s: float) -> bool:
    """Prolong a running study's lease; 0 seconds let go of it. False if it isn't this owner's any
    more: it is over, or was claimed anew."""
    mine = (studies.c.id == asked(id)) & (studies.c.fence == fence) & (studies.c.state == "running")
    values = {"lease_until": clock() + lease_s} if lease_s > 0 else {"lease_until": 0.0}
    return bool(change.connection.execute(studies.update().where(mine).values(values)).rowcount)
