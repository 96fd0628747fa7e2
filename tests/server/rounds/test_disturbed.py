"""The membership changes in the middle of a step: the run goes on, and no attempt is lost by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message

from tests.federate import Line, examples
from wardround.common.errors import PolicyRefused, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.hosting import error_reply
from wardround.common.protocol import names as m
from wardround.common.trust.identity import Identity
from wardround.server.gathering.host import Attempts, Host
from wardround.server.observer import Observer
from wardround.server.rounds.membership import Membership

pytestmark = pytest.mark.usefixtures("exact_parts")

SHARDS = {name: examples([1.0, 2.0, 3.0], [1.0, 1.0, 0.0]) for name in ("a", "b", "c", "d")}
ONCE = (
    "[federation]\nrounds = 3\nmin_clients = 3\nround_attempts = 1\n[data]\ntest_fraction = 0.4\n"
)
SECURE = "[secure_aggregation]\nenabled = true\nmin_cohort = 3\nthreshold = 0.6\n"
PHASES = {
    "plain": (m.DESCRIBE, m.STATISTICS, m.TRAIN, m.EVALUATE),
    "secure": (m.HELLO, m.GROUP, m.KEYS, m.LAYOUT, m.STATISTICS, m.TRAIN, m.UNMASK, m.EVALUATE),
}


class Prepared(Line):
    """Line with one step of preparation."""

    phases = 1

    def statistics(self, raw: Any, phase: int, totals: Sums) -> Sums:
        return {"rows": np.array([float(len(raw))])}


class Change:
    """When hospital 'a' is asked such a message for the ``count``-th time the roster changes.

    As between machines the hospitals then refuse everything, until the server waits for them: what
    they had accepted is over. Who left the roster never answers again.
    """

    def __init__(self, kind: str, what: str, count: int) -> None:
        self.kind, self.what, self.count, self.version = kind, what, count, 1
        self.accepted = True
        self.refused = 0

    def host(self, roster: dict[str, bytes]) -> Host:
        self.roster = roster
        return Host(wait_ready=self.ready, standing=lambda: self.version)

    def ready(self, everyone: bool) -> None:
        self.accepted = True

    def __call__(self, app: Any) -> Any:
        def answer(message: Message, context: Context) -> Message:
            name = str(context.node_config["hospital"])
            if message.metadata.message_type == self.kind and name == "a":
                self.count -= 1
                if self.count == 0:
                    self.version, self.accepted = self.version + 1, False
                    if self.what == "revoked":
                        del self.roster["d"]
                    elif self.what == "renewed":  # by now it is a process with other keys
                        self.roster["d"] = Identity.generate().public
            if not self.accepted or name not in self.roster:
                self.refused += 1
                raise PolicyRefused("no run manifest was accepted")
            return app(message, context)

        return answer


@pytest.mark.parametrize("what", ["revoked", "told"])
@pytest.mark.parametrize(
    ("mode", "kind"), [(mode, kind) for mode, kinds in PHASES.items() for kind in kinds]
)
def test_a_change_in_the_middle_costs_no_attempt(
    federate, settings, mode: str, kind: str, what: str
) -> None:
    """``told``: a new description that changes no member, e.g. another address."""
    config = settings(ONCE + (SECURE if mode == "secure" else ""))
    change = Change(kind, what, 2 if kind in (m.TRAIN, m.UNMASK, m.EVALUATE) else 1)
    run = federate(config, SHARDS, Prepared(), wrap=change, host=change.host)
    rows, left = run.recorder.rows, [x for x in SHARDS if x != "d" or what == "told"]
    assert change.refused and [row["round"] for row in rows] == [1, 2, 3]
    assert rows[-1]["accepted"] == left
    assert all("test" in row["overall"] for row in rows), "a round without its figures"
    if kind == m.UNMASK and what == "revoked":  # what it had uploaded outlives its membership
        assert rows[0]["accepted"] == list(SHARDS) and len(change.roster) == 3


class Departure:
    """When hospital 'a' is asked such a message for the ``count``-th time 'd' leaves: it answers
    nothing until the server waits for it, or, with ``back`` false, never again."""

    def __init__(self, kind: str, count: int, back: bool) -> None:
        self.kind, self.count, self.back = kind, count, back
        self.lost, self.away, self.waited = 0, set[str](), 0

    def host(self, roster: dict[str, bytes]) -> Host:
        return Host(
            wait_ready=self.ready, departures=lambda: self.lost, gone=lambda: set(self.away)
        )

    def ready(self, everyone: bool) -> None:
        self.waited += bool(self.away)
        if self.back:
            self.away.clear()

    def __call__(self, app: Any) -> Any:
        def answer(message: Message, context: Context) -> Message:
            name = str(context.node_config["hospital"])
            if message.metadata.message_type == self.kind and name == "a":
                self.count -= 1
                if self.count == 0:
                    self.away.add("d")
            if name in self.away:
                self.lost += 1
                raise PolicyRefused("it has left")
            return app(message, context)

        return answer


@pytest.mark.parametrize("back", [True, False])
@pytest.mark.parametrize(
    ("mode", "kind"), [(mode, kind) for mode, kinds in PHASES.items() for kind in kinds[1:]]
)
def test_a_departure_in_the_middle_costs_no_attempt(
    federate, settings, mode: str, kind: str, back: bool
) -> None:
    """A round needs all but one where it doesn't come back, else all."""
    text = ONCE if not back else ONCE.replace("min_clients = 3", "min_clients = 4")
    config = settings(text + (SECURE if mode == "secure" else ""))
    left = Departure(kind, 2 if kind in (m.TRAIN, m.UNMASK, m.EVALUATE) else 1, back)
    run = federate(config, SHARDS, Prepared(), wrap=left, host=left.host)
    rows = run.recorder.rows
    assert left.lost and [row["round"] for row in rows] == [1, 2, 3]
    assert rows[-1]["accepted"] == [x for x in SHARDS if x != "d" or back]


def test_who_has_left_is_not_drawn(federate, settings) -> None:
    """Otherwise a round of three of four would fail three times of four."""
    text = ONCE.replace("rounds = 3", "rounds = 6\nclients_per_round = 3")
    left = Departure(m.STATISTICS, 1, back=False)
    run = federate(settings(text), SHARDS, Prepared(), wrap=left, host=left.host)
    assert all(row["cohort"] == ["a", "b", "c"] for row in run.recorder.rows)
    assert len(run.recorder.rows) == 6


def test_what_isnt_disturbed_is_tried_as_often_as_the_settings_say(federate, settings) -> None:
    def refusing(app: Any) -> Any:
        def answer(message: Message, context: Context) -> Message:
            if message.metadata.message_type == m.TRAIN:
                raise PolicyRefused("no")
            return app(message, context)

        return answer

    with pytest.raises(RoundFailed, match="round 1 failed after 2 attempts.*go on with the same"):
        federate(settings(ONCE.replace("attempts = 1", "attempts = 2")), SHARDS, wrap=refusing)


def test_attempts_count_what_failed_by_itself() -> None:
    version = [1]
    attempts, numbers = Attempts(2, Host(standing=lambda: version[0])), []
    for number in attempts:
        numbers.append(number)
        if number in (1, 3):
            version[0] += 1
        if not attempts.another():
            break
    assert numbers == [1, 2, 3, 4]


def test_who_could_not_say_who_it_is_is_asked_again_after_a_change(federate, settings) -> None:
    run = federate(settings("[federation]\nmin_clients = 2\n"), SHARDS)
    roster, version = {name: bytes([index] * 32) for index, name in enumerate(SHARDS)}, [1]
    refusing = Change(m.DESCRIBE, "told", 0)
    grid = run.grid
    original, away = grid.clients.answer, {"d"}

    def answer(message: Message) -> Message:
        if grid.name(message.metadata.dst_node_id) in away:
            return error_reply(message, "it is away")
        return original(message)

    grid.clients.answer = answer
    config = settings("[federation]\nmin_clients = 2\n")
    host = Host(standing=lambda: version[0])
    membership = Membership(grid=grid, config=config, observer=Observer(), roster=roster, host=host)
    for _ in range(5):
        assert not membership.changed()
    away.clear()
    assert not membership.changed(), "it was asked often enough"
    version[0] += 1
    assert membership.changed() and [x.name for x in membership.members] == list(SHARDS)
    assert refusing.refused == 0
