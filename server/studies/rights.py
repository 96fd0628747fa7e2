"""Who may do what with which study: the one table of roles, and what each role is shown.

    may                        researcher      coordinator   hospital
    submit                     in its name     no            no
    list, show, watch          its own         all           those it is wanted in
    abort                      its own         any           no: it rejects
    rerun                      its own         no            no
    fetch                      its own         no            no: it is sent them

A study that somebody may not see doesn't exist for them: it is left out before anything else is
asked of it, so that every answer is the same as of one that never was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from wardround.common.names import Role
from wardround.server.studies.rows import Decision, Event, StudyRow

Action = Literal["submit", "list", "show", "watch", "abort", "rerun", "fetch"]
_READING: frozenset[Action] = frozenset(("list", "show", "watch"))
_MAY: dict[Role, frozenset[Action]] = {
    "researcher": _READING | {"submit", "abort", "rerun", "fetch"},
    "coordinator": _READING | {"abort"},
    "hospital": _READING,
}
_INSTEAD: dict[tuple[Role, Action], str] = {
    ("coordinator", "submit"): "it takes a researcher's kit",
    ("coordinator", "rerun"): "a researcher signs it anew",
    ("coordinator", "fetch"): "its researcher and the hospitals that took part get the results",
    ("hospital", "submit"): "it takes a researcher's kit",
    ("hospital", "abort"): "reject it: wardround client reject KIT",
    ("hospital", "rerun"): "its researcher does",
    ("hospital", "fetch"): "the results come to the hospitals that took part: KIT/results",
}


FAILED = "its run failed; the researcher is told why"
"""What hospitals are told of it."""


@dataclass(frozen=True)
class Caller:
    """Who calls, as its certificate and the network's signed description say."""

    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role} {self.name}"


def may(caller: Caller, action: Action) -> bool:
    """Whether the role may do that at all, with a study that it sees."""
    return action in _MAY[caller.role]


def refusal(caller: Caller, action: Action) -> str:
    """Why not, and what to do instead."""
    instead = _INSTEAD.get((caller.role, action), "")
    return f"a {caller.role} can't {action} a study" + (f"; {instead}" if instead else "")


def sees(caller: Caller, row: StudyRow) -> bool:
    """Whether the study exists for this caller."""
    if caller.role == "coordinator":
        return True
    if caller.role == "researcher":
        return row.researcher == caller.name
    return caller.name in row.hospitals


def shown_reason(caller: Caller, state: str, reason: str) -> str:
    """Why a study is in its state. Why a run failed may be another hospital's affair."""
    return FAILED if caller.role == "hospital" and state == "failed" else reason


def shown_decisions(caller: Caller, decisions: Iterable[Decision]) -> list[Decision]:
    """What hospitals said; a hospital is shown its own word only."""
    if caller.role != "hospital":
        return list(decisions)
    return [one for one in decisions if one.hospital == caller.name]


def shown_events(caller: Caller, events: Iterable[Event]) -> list[Event]:
    """What happened; a hospital is shown no decision of, and no delivery to, another."""
    if caller.role != "hospital":
        return list(events)
    shown = [one for one in events if one.kind in ("state", "claim") or one.who == caller.name]
    return [
        replace(one, reason=shown_reason(caller, one.new, one.reason))
        if one.kind == "state"
        else one
        for one in shown
    ]
