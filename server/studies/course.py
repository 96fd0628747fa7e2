"""A study's way from one state to the next, what hospitals say to it, and what they are owed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from wardround.common.errors import Overtaken, StudyRefused, StudyUnknown
from wardround.common.study.states import OVER, State, may_follow
from wardround.server.studies.changes import Change, asked, is_repeat, line, read_row
from wardround.server.studies.rows import StudyRow, What, Word
from wardround.server.studies.tables import clock, decisions, deliveries, studies


def move(
    change: Change,
    id: str,
    to: State,
    expect: Collection[State],
    fence: int,
    who: str,
    reason: str,
    results: Collection[str],
) -> StudyRow:
    """``StudyStore.change`` within its transaction."""
    connection = change.connection
    row = read_row(connection, id)
    if row.state not in expect or row.fence != fence:
        again = row.state == to and row.fence == fence
        if again and is_repeat(connection, row, expect, who, reason):
            return row
        raise Overtaken(
            f"is '{row.state}' (fence {row.fence}), no longer {' or '.join(map(repr, expect))} "
            f"(fence {fence})",
            who=told(row),
        )
    if to == "running" or not may_follow(row.state, to):
        by = ": it is claimed" if to == "running" else ""
        raise StudyRefused(f"is '{row.state}', and can't become '{to}'{by}", who=told(row))
    if unwanted := set(results) - set(row.hospitals) or (to not in OVER and set(results)):
        raise StudyRefused(f"no results for {sorted(unwanted)[0]!r}", who=told(row))
    number = change.event(id, "state", row.state, to, who, reason)
    new: dict[str, Any] = {"state": to, "reason": line(reason), "owner": "", "lease_until": 0.0}
    turn = {"turn": number} if to == "queued" else {}
    made = studies.update().where(studies.c.id == id).values(**new, **turn, changed=clock())
    changed = connection.execute(made.returning(studies.c.changed)).scalar_one()
    if to in OVER and row.state != "submitted":  # before that no hospital has heard of it
        _owe(change, row, results)
    return replace(row, **new, changed=changed)


def told(row: StudyRow) -> str:
    """How messages call a study."""
    return f"study '{row.name}' ({row.id[:12]})"


def _owe(change: Change, row: StudyRow, results: Collection[str]) -> None:
    owed = [{"hospital": hospital, "what": "ended"} for hospital in row.hospitals]
    owed += [{"hospital": hospital, "what": "results"} for hospital in dict.fromkeys(results)]
    query = deliveries.insert().values(study=row.id, done=False, time=clock())
    change.connection.execute(query, owed)


def decide(change: Change, id: str, hospital: str, word: Word, reason: str) -> bool:
    """``StudyStore.decide`` within its transaction."""
    mine = (decisions.c.study == asked(id)) & (decisions.c.hospital == asked(hospital))
    found = change.connection.execute(
        sa.select(decisions.c.word, decisions.c.reason).where(mine)
    ).first()
    if found is None:
        raise StudyUnknown("no such study", who=f"'{line(id, 64)}'")
    if (found.word, found.reason) == (word, line(reason)):
        return False
    row = read_row(change.connection, id)
    if row.state in OVER:
        raise Overtaken(f"is '{row.state}': there is nothing to decide", who=told(row))
    change.connection.execute(
        decisions.update().where(mine).values(word=word, reason=line(reason), time=clock())
    )
    change.event(id, "decision", found.word, word, hospital, reason)
    return True


def deliver(change: Change, id: str, hospital: str, what: What) -> bool:
    """``StudyStore.deliver`` within its transaction."""
    mine = (
        (deliveries.c.study == asked(id))
        & (deliveries.c.hospital == asked(hospital))
        & (deliveries.c.what == what)
    )
    found = change.connection.execute(sa.select(deliveries.c.done).where(mine)).first()
    if found is None:
        raise StudyUnknown(f"owes '{line(hospital, 64)}' no {what}", who=f"study {line(id, 12)}")
    if found.done:
        return False
    values = deliveries.update().where(mine).values(done=True, time=clock())
    change.connection.execute(values)
    change.event(id, "delivery", "pending", "done", hospital, what)
    return True
