"""A run as log lines, for programs that read ``--log json``."""

from __future__ import annotations

import logging
from typing import Any

from wardround.common.process.logs import log_event
from wardround.server.members.member import Member
from wardround.server.observer import Observer

log = logging.getLogger("wardround.server")


class LogLines(Observer):
    """Writes what happens to the log."""

    def begins(self, lines: list[str]) -> None:
        for line in lines:
            log_event(log, "run", text=line)

    def progress(self, text: str) -> None:
        log_event(log, "phase", text=text)

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        log_event(log, "members", hospitals=[member.name for member in members])
        for row in refused:
            log_event(log, "member refused", level=logging.WARNING, **row)

    def warnings(self, lines: list[str]) -> None:
        for line in lines:
            log_event(log, "note", text=line)

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        log_event(log, "round started", round=server_round, attempt=attempt, cohort=cohort)

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason is not None:
            log_event(
                log,
                "refused",
                level=logging.WARNING,
                hospital=hospital,
                step=step,
                reason=reason,
            )

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        log_event(
            log,
            "round failed",
            level=logging.WARNING,
            round=server_round,
            attempt=attempt,
            reason=reason,
        )

    def round_committed(self, row: dict[str, Any]) -> None:
        log_event(
            log,
            "round committed",
            round=row["round"],
            accepted=row["accepted"],
            seconds=row["seconds"]["total"],
            bytes=row["bytes_down"] + row["bytes_up"],
            figures=row["overall"],
            within=row["within"],
        )

    def round_evaluated(self, row: dict[str, Any]) -> None:
        log_event(
            log,
            "round evaluated",
            round=row["round"],
            figures=row["overall"],
            within=row["within"],
        )
