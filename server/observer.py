"""What a display may watch of a run. Every method may be called from the server's loop only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from wardround.server.members.member import Member


class Phase(StrEnum):
    """What a run is at, in the order in which a round comes to them."""

    WAITING = "waiting"
    PREPARING = "preparing"
    TRAINING = "training"
    COLLECTING = "collecting"
    UNMASKING = "unmasking"
    EVALUATING = "evaluating"
    COMMITTED = "committed"


class Observer:
    """Does nothing; displays override what they show."""

    def begins(self, lines: list[str]) -> None:
        """What kind of run it is, before anything else: what it protects, what it leaves out."""

    def phase(self, phase: Phase) -> None:
        """The set-up has come to WAITING or PREPARING; a round's phases follow from its events."""

    def progress(self, text: str) -> None:
        """A line for people on what happens now; nothing is decided by it."""

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        """The federation is known; ``refused`` names who could not join and why."""

    def population(self, clients: int, sizes: Mapping[str, int] | None) -> None:
        """The same, where it is a virtual population; ``sizes`` are the rows of each client by
        split, where all have the same."""

    def warnings(self, lines: list[str]) -> None:
        """What hospitals should look at, where the display stands beside them."""

    def round_started(self, server_round: int, cohort: list[str], attempt: int) -> None:
        """A round (or a further attempt at it) begins."""

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        """A reply was accepted (reason None) or refused, in step 'train', 'evaluate', or one of
        secure aggregation's: 'layout', 'keys', 'unmask'."""

    def round_failed(self, server_round: int, attempt: int, reason: str) -> None:
        """An attempt at a round failed; it may be repeated."""

    def round_evaluated(self, row: dict[str, Any]) -> None:
        """The last round, which is on disk, was evaluated after all, as the run ends with it."""

    def round_committed(self, row: dict[str, Any]) -> None:
        """A round is on disk; ``row`` is its line of ``metrics.jsonl``."""
