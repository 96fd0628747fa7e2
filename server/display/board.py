"""The running server's live picture, for the dashboard and the metrics: what is, not what it holds.

Thread-safe: the round loop, the transport's threads and readers may call at once. Memory is bounded
whatever arrives: the newest rounds, refusals and audit lines, one entry per hospital, every text
cut. A ``Board`` only records; it never raises over what it is told, and nothing reads decisions
from it. Where secure aggregation hides single hospitals, their figures are the word 'hidden'.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wardround.common.protocol import names as m
from wardround.common.text import one_line
from wardround.server.display.board_rows import (
    AWAY,
    CONNECTED,
    NEVER_SEEN,
    REFUSED,
    REFUSES,
    REVOKED,
    STEPS,
    WITHDREW,
    HospitalRow,
    RunFacts,
    Tally,
    audit_row,
    curve_row,
    figure_table,
    next_phase,
    peer,
    refusal_row,
    run_row,
    short,
)
from wardround.server.members.member import Member
from wardround.server.observer import Observer, Phase

MOST_HOSPITALS = 1000

_MOST_ROUNDS, _MOST_REFUSALS, _MOST_AUDIT, _MOST_WARNINGS = 1000, 200, 50, 20
_SECTIONS = ("run", "hospitals", "rounds", "refusals", "audit")


class Board(Observer):
    """Watches a run and its connections; ``snapshot`` is what a display may see.

    Parameters
    ----------
    facts : of the run; what isn't known yet may be told later by ``describe_run``
    forward : another observer of the run, told everything after the board (e.g. a terminal)
    clock : gives seconds since 1970
    """

    def __init__(
        self,
        facts: RunFacts | None = None,
        *,
        forward: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._forward, self._clock = forward or Observer(), clock
        self._changed = threading.Condition()
        self._version = 1
        self._at = dict.fromkeys(_SECTIONS, 1)
        self._hospitals: dict[str, HospitalRow] = {}
        self._rounds: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_MOST_ROUNDS)
        self._refusals: deque[dict[str, Any]] = deque(maxlen=_MOST_REFUSALS)
        self._audit: deque[dict[str, Any]] = deque(maxlen=_MOST_AUDIT)
        self._tally = Tally()
        self._wire = False  # bytes were counted on a connection; a simulation has only the rows'
        self._run = run_row(clock())
        self._note_facts(facts or RunFacts())

    # --- what the host tells --------------------------------------------------------------------
    def describe_run(self, facts: RunFacts) -> None:
        """Facts that were not known at the start; a hospital named here is added."""
        with self._changed:
            self._note_facts(facts)
            self._touch("run", "hospitals")

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Lines of ``metrics.jsonl`` from before a restart: for the curves, not the tally."""
        with self._changed:
            for row in rows:
                self._note_row(row)
            self._touch("run", "hospitals", "rounds")

    def run_ended(self, status: str) -> None:
        """The run is 'complete', or 'stopped: why'."""
        with self._changed:
            self._run |= {"status": one_line(status), "ended": self._clock()}
            self._touch("run")

    def connected(self, name: str, address: str, version: str) -> None:
        """A hospital proved its identity and holds the lease."""
        with self._changed:
            if hospital := self._hospital(name):
                hospital.address, hospital.version = peer(address), short(version)
                self._set_state(hospital, CONNECTED, "")
                hospital.up, hospital.seen = True, self._clock()
            self._touch("hospitals")

    def disconnected(self, name: str, reason: str) -> None:
        """A hospital's connection ended or its lease ran out."""
        with self._changed:
            if hospital := self._hospital(name):
                hospital.up = False
                if hospital.state != REVOKED:
                    self._set_state(hospital, AWAY, reason)
            self._touch("hospitals")

    def revoked(self, name: str) -> None:
        """A hospital's certificate was revoked; only ``connected`` undoes it."""
        with self._changed:
            if hospital := self._hospital(name):
                self._set_state(hospital, REVOKED, "its certificate was revoked")
            self._touch("hospitals")

    def refused(self, name_or_address: str, reason: str) -> None:
        """A connection was not accepted. A stranger isn't listed among the hospitals; a hospital
        that is connected stays so (somebody else came under its name)."""
        with self._changed:
            name_or_address = peer(name_or_address)
            hospital = self._hospitals.get(name_or_address)
            if hospital and not hospital.up and hospital.state != REVOKED:
                self._set_state(hospital, REFUSED, reason)
            self._refuse(name_or_address, "connect", reason)

    def not_admitted(self, name: str, reason: str, withdrew: bool = False) -> None:
        """A hospital is connected and won't take part: its policy or its versions forbid it, or,
        after it took part, a person there."""
        with self._changed:
            if hospital := self._hospital(name):
                state = WITHDREW if withdrew else REFUSES if hospital.up else REFUSED
                self._set_state(hospital, state, reason)
            self._refuse(name, "manifest", reason)

    def admitted(self, name: str) -> None:
        """A hospital's policy allows the run, maybe after it didn't."""
        with self._changed:
            hospital = self._hospitals.get(name)
            if hospital and hospital.state in (REFUSES, WITHDREW):
                self._set_state(hospital, CONNECTED, "")
            self._touch("hospitals")

    def seen(self, name: str) -> None:
        """A sign of life, such as a heartbeat."""
        with self._changed:
            if hospital := self._hospitals.get(name):
                hospital.seen = self._clock()
            self._touch("hospitals")

    def sent(self, name: str, kind: str, size_bytes: int) -> None:
        """A message of Flower type ``kind`` went to a hospital."""
        with self._changed:
            if hospital := self._hospitals.get(name):
                hospital.bytes_out += size_bytes
            self._count_bytes(0, size_bytes)
            if kind in (m.UNMASK, m.EVALUATE):
                self._step_phase("unmask" if kind == m.UNMASK else "evaluate")
            self._touch("run", "hospitals")

    def received(self, name: str, kind: str, size_bytes: int) -> None:
        """A message of Flower type ``kind`` came from a hospital."""
        with self._changed:
            if hospital := self._hospitals.get(name):
                hospital.bytes_in += size_bytes
                hospital.seen = self._clock()
            self._count_bytes(size_bytes, 0)
            if kind == m.TRAIN:
                self._step_phase("train")
            self._touch("run", "hospitals")

    def audit(self, line: Mapping[str, Any]) -> None:
        """A line that the audit log just wrote."""
        with self._changed:
            self._audit.append(audit_row(line))
            self._touch("audit")

    # --- Observer -------------------------------------------------------------------------------
    def phase(self, phase: Phase) -> None:
        with self._changed:
            self._set_phase(phase)
            self._touch("run")
        self._forward.phase(phase)

    def progress(self, text: str) -> None:
        with self._changed:
            self._run["detail"] = one_line(text)
            self._touch("run")
        self._forward.progress(text)

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        with self._changed:
            for member in members:
                if hospital := self._hospital(member.name):
                    hospital.sizes = dict(member.sizes)
                    hospital.seen = self._clock()
                    if hospital.state in (NEVER_SEEN, REFUSED, REFUSES):
                        self._set_state(hospital, CONNECTED, "")
                        hospital.up = True
            for row in refused:
                known = self._hospitals.get(row["hospital"])
                if known and known.state != REVOKED:
                    self._set_state(known, REFUSES if known.up else REFUSED, row["reason"])
                self._refuse(row["hospital"], "describe", row["reason"])
            self._touch("run", "hospitals")
        self._forward.members(members, refused)

    def warnings(self, lines: list[str]) -> None:
        with self._changed:
            kept = self._run["warnings"] + [one_line(line) for line in lines[:_MOST_WARNINGS]]
            self._run["warnings"] = kept[-_MOST_WARNINGS:]
            self._touch("run")
        self._forward.warnings(lines)

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        with self._changed:
            self._set_phase(Phase.TRAINING)
            self._run |= {"round": server_round, "attempt": attempt, "expected": len(cohort)}
            self._run |= {"answered": 0, "not_accepted": 0, "evaluated": 0, "detail": ""}
            asked = set(cohort)
            for name, hospital in self._hospitals.items():
                hospital.step = "asked" if name in asked else hospital.idle
            self._touch("run", "hospitals")
        self._forward.round_started(server_round, cohort, attempt)

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        with self._changed:
            self._step_phase(step)
            known = self._hospitals.get(hospital)
            if known and reason is None:  # a refusal may be of one who said nothing
                known.seen = self._clock()
            if step == "train":
                self._run["answered" if reason is None else "not_accepted"] += 1
            elif step == "evaluate" and reason is None:
                self._run["evaluated"] += 1
            if known and (reason is not None or step == "train"):
                known.step = "answered" if reason is None else "refused"
            if reason is not None:
                self._refuse(hospital, step, reason)
            self._touch("run", "hospitals")
        self._forward.replied(hospital, step, reason)

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        with self._changed:
            self._tally.rounds["failed"] += 1
            failure = {"round": server_round, "attempt": attempt, "time": self._clock()}
            self._run["last_failure"] = failure | {"reason": one_line(reason)}
            self._touch("run")
        self._forward.round_failed(server_round, attempt, reason)

    def round_evaluated(self, row: dict[str, Any]) -> None:
        with self._changed:
            self._note_row(row, counted=True)
            self._touch("run", "rounds")
        self._forward.round_evaluated(row)

    def round_committed(self, row: dict[str, Any]) -> None:
        with self._changed:
            self._set_phase(Phase.COMMITTED)
            self._note_row(row)
            for hospital in self._hospitals.values():
                hospital.step = ""
            if not self._wire:
                self._tally.bytes_in += row.get("bytes_up", 0)
                self._tally.bytes_out += row.get("bytes_down", 0)
            self._tally.rounds["lost" if row.get("lost") else "committed"] += 1
            self._tally.add_seconds(float((row.get("seconds") or {}).get("total", 0.0)))
            self._touch("run", "hospitals", "rounds")
        self._forward.round_committed(row)

    # --- what readers ask -----------------------------------------------------------------------
    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    def wait_for_change(self, version: int, timeout_s: float) -> int:
        """Block until the board is newer than ``version`` or the time is up; its version now."""
        with self._changed:
            self._changed.wait_for(lambda: self._version > version, timeout_s)
            return self._version

    def snapshot(self, since: int = 0) -> dict[str, Any]:
        """The whole picture, ready for JSON; with ``since`` a version, the sections that changed
        after it, and of the rounds only the new ones (a round replaces those from its number on).

        Times are seconds since 1970, ``now`` the server's own; an unlimited epsilon is None.
        """
        with self._changed:
            sections: dict[str, Callable[[], Any]] = {
                "run": self._run_section,
                "hospitals": self._hospitals_section,
                "rounds": lambda: [dict(row) for at, row in self._rounds if at > since],
                "refusals": lambda: list(self._refusals),
                "audit": lambda: list(self._audit),
            }
            head = {"version": self._version, "now": self._clock()}
            return head | {k: make() for k, make in sections.items() if self._at[k] > since}

    def hospitals(self) -> list[str]:
        """The names of those in the table."""
        with self._changed:
            return sorted(self._hospitals)

    def tally(self) -> Tally:
        """The counts behind the metrics."""
        with self._changed:
            return copy.deepcopy(self._tally)

    # --- inside, with the lock held -------------------------------------------------------------
    def _touch(self, *sections: str) -> None:
        self._version += 1
        self._at |= dict.fromkeys(sections, self._version)
        self._changed.notify_all()

    def _note_facts(self, facts: RunFacts) -> None:
        self._run |= facts.row()
        for name in facts.hospitals:
            if hospital := self._hospital(name):
                hospital.title = short(facts.titles.get(name))

    def _hospital(self, name: str) -> HospitalRow | None:
        """The entry of a hospital, new if need be; None when the list is full."""
        if name not in self._hospitals:
            if len(self._hospitals) >= MOST_HOSPITALS:
                return None
            self._hospitals[name] = HospitalRow()
        return self._hospitals[name]

    def _set_state(self, hospital: HospitalRow, state: str, reason: str) -> None:
        hospital.state, hospital.since = state, self._clock()
        hospital.reason = one_line(reason) if reason else ""

    def _set_phase(self, phase: Phase) -> None:
        if self._run["phase"] != phase:
            self._run |= {"phase": phase, "phase_since": self._clock()}

    def _step_phase(self, step: str) -> None:
        self._set_phase(next_phase(self._run["phase"], step))

    def _count_bytes(self, size_in: int, size_out: int) -> None:
        self._wire = True
        self._tally.bytes_in += size_in
        self._tally.bytes_out += size_out

    def _refuse(self, name: str, step: str, reason: str) -> None:
        known = self._hospitals.get(name)
        if known:
            known.refusals += 1
        label = step if step in STEPS else "other"
        self._tally.refusals[(name if known else "other", label)] += 1
        self._run["refusals"] += 1
        told = refusal_row(name, step, reason)
        self._refusals.append({"time": self._clock(), "round": self._run["round"]} | told)
        self._touch("run", "hospitals", "refusals")

    def _note_row(self, row: Mapping[str, Any], counted: bool = False) -> None:
        kept = curve_row(row)
        while self._rounds and self._rounds[-1][1]["round"] >= kept["round"]:
            self._rounds.pop()
        self._rounds.append((self._version + 1, kept))
        self._run |= {"round": row["round"], "attempt": row.get("attempt", 1)}
        self._run["hidden"] = self._run["hidden"] or bool(row.get("hidden"))
        for name in () if counted else row.get("accepted", ()):
            if hospital := self._hospital(name):
                hospital.rounds += 1
        for name, claim in (row.get("privacy") or {}).items():
            if hospital := self._hospital(name):
                hospital.claim(claim)
        for name, figures in (row.get("hospitals") or {}).items():
            if hospital := self._hospital(name):
                hospital.figures = figure_table(figures)

    def _run_section(self) -> dict[str, Any]:
        phases = [x for x in Phase if x != Phase.UNMASKING or self._run["hidden"]]
        sizes = {"bytes_in": self._tally.bytes_in, "bytes_out": self._tally.bytes_out}
        return self._run | sizes | {"phases": phases}

    def _hospitals_section(self) -> list[dict[str, Any]]:
        hidden = self._run["hidden"]
        return [{"name": name} | one.shown(hidden) for name, one in sorted(self._hospitals.items())]
