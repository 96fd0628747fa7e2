"""``query.letters`` at a hospital: the party of the accepted plan takes its turn."""

from __future__ import annotations

import os
import secrets
from typing import Any

from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import kept_here
from wardround.client.joint.kept import keep_part
from wardround.client.state import ClientState
from wardround.common.errors import DataError, JointRefused, PlanRefused, RequestRefused
from wardround.common.joint.known import make_joint
from wardround.common.joint.party import COORDINATOR, Me, Party, Turn
from wardround.common.joint.sealing import Setting
from wardround.common.joint.seat import Seat, Who, simulated_secret, with_rows
from wardround.common.protocol.letters import LettersRequest
from wardround.common.protocol.message import Content
from wardround.common.settings import LINKAGE

_SEAT = "joint"


def answer_letters(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """This hospital's turn. Raises RequestRefused, and JointRefused, which tells nothing of its
    rows: what is wrong with its data stands in its own log."""
    if not hospital.config.procedure.joint:
        raise RequestRefused("this hospital's study has no joint procedure")
    request = LettersRequest.from_records(content)
    try:
        kept = hospital.working.get(_SEAT)
        if kept is None or kept[0] != (hospital.plan.run, id(state.records)):
            kept = (hospital.plan.run, id(state.records)), _seat(hospital, state)
            hospital.working[_SEAT] = kept
        seat: Seat = kept[1]
        return seat.take(request).to_records()
    except DataError as error:
        raise JointRefused(str(error) if hospital.simulated else kept_here(error)) from None


def _seat(hospital: Hospital, state: ClientState) -> Seat:
    procedure = make_joint(hospital.config, hospital.task)
    if hospital.name not in procedure.parties:
        raise RequestRefused("this hospital is no party of the procedure")
    if hospital.identity is None:
        raise PlanRefused("this hospital has no key to sign with: joint procedures need one")
    roster = {name: hospital.roster.get(name, b"") for name in procedure.parties}
    roster[COORDINATOR] = hospital.coordinator

    def fresh(purpose: str) -> bytes:
        if not hospital.simulated:
            return secrets.token_bytes(32)
        return simulated_secret(hospital.config.federation.seed, purpose, hospital.name)

    def make(me: Me) -> Party:
        return procedure.party(
            with_rows(
                me,
                rows=rows_of(hospital) if procedure.reads(me.name) else None,
                links=hospital.links,
                study=hospital.study,
                workers=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1,
            )
        )

    def keep(turn: Turn, session: bytes) -> None:
        if not turn.kept:
            return
        if procedure.name == LINKAGE and hospital.links is not None:
            hospital.links.keep(session, turn.kept, rows_of(hospital).keys)
        elif procedure.name != LINKAGE and (folder := hospital.model_folder) is not None:
            keep_part(folder, procedure.name, hospital.plan.run, hospital.study, turn.kept)

    who = Who(hospital.name, hospital.identity, roster, fresh, keep)
    setting = Setting.of(hospital.config, procedure, hospital.plan.run)
    return Seat(who, setting, procedure, state.records, make)


def rows_of(hospital: Hospital) -> Any:
    """What the task read: of a joint procedure no row is held out. Raises DataError."""
    parts = list(hospital.parts().values())
    if len(parts) != 1:
        raise RequestRefused("this hospital's task splits its rows; joint procedures take all")
    return parts[0]
