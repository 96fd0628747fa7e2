"""Sums that every member must contribute to, before there is a model: tried as often as a round."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from wardround.common.errors import NobodyContributed, RoundFailed
from wardround.server.gathering.fitting import Unfit
from wardround.server.gathering.host import Attempts
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts

T = TypeVar("T")


def ask_all(parts: FederationParts, participants: Participants, ask: Callable[[], T]) -> T:
    """What ``ask`` gives; it goes on where an attempt before has failed.

    A hospital whose columns don't fit would fail in every round: it is left out here. Raises
    RoundFailed with the hospitals' reasons.
    """
    federation, host = parts.config.federation, parts.host
    attempts = Attempts(federation.round_attempts, host)
    for attempt in attempts:
        try:
            participants.look_again()
            return ask()
        except Unfit as error:
            participants.leave_out(error.reasons)
        except RoundFailed as error:
            if isinstance(error, NobodyContributed) or not attempts.another():
                raise
            parts.observer.round_failed(0, attempt, str(error))
            time.sleep(federation.retry_wait_s)
            host.wait_ready(True)
    raise AssertionError("unreachable: attempts don't end by themselves")
