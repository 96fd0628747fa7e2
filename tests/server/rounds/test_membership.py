"""Hospitals that come while a federation runs, and those that leave its roster."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from flwr.app import Message

from tests.federate import examples
from wardround.common.protocol import names as m
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.server.rounds.membership import Membership
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

SHARDS = {name: examples([1.0, 2.0], [1.0, 1.0]) for name in ("a", "b", "c", "d")}
PLAIN = "[federation]\nrounds = 3\nmin_clients = 2\n"
SECURE = PLAIN + "[secure_aggregation]\nenabled = true\nmin_cohort = 3\n"


class Later(InProcessGrid):
    """The last hospital connects after the first training requests have gone out."""

    trained = False

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        self.trained |= any(one.metadata.message_type == m.TRAIN for one in messages)
        return super().push_messages(messages)

    def get_node_ids(self) -> Iterable[int]:
        ids = list(super().get_node_ids())
        return ids if self.trained else ids[:-1]


@pytest.mark.parametrize("text", [PLAIN, SECURE], ids=["plain", "secure"])
def test_a_hospital_that_connects_later_takes_part_from_the_next_round(
    federate, settings, text: str
) -> None:
    made: list[Later] = []

    def later(app):
        made.append(Later(Clients(list(SHARDS), app=app)))
        return app

    config = settings(text)
    with_grid = federate(config, SHARDS, wrap=later)  # the usual grid: everyone from the start
    assert [row["accepted"] for row in with_grid.recorder.rows] == [list(SHARDS)] * 3
    run = federate(config, SHARDS, grid=made[0])
    assert [row["accepted"] for row in run.recorder.rows] == [
        ["a", "b", "c"],
        list(SHARDS),
        list(SHARDS),
    ]


def test_who_left_the_roster_is_a_member_no_more(federate, settings) -> None:
    run = federate(settings(PLAIN), SHARDS)
    roster = {name: bytes([index] * 32) for index, name in enumerate(SHARDS)}
    membership = Membership(
        grid=run.grid, config=settings(PLAIN), observer=Observer(), roster=roster, host=Host()
    )
    assert not membership.changed()
    del roster["b"]
    assert membership.changed() and [x.name for x in membership.members] == ["a", "c", "d"]
    assert not membership.changed()
    roster["c"] = bytes(32)  # another key: everything that rests on keys is made anew
    assert membership.changed() and len(membership.members) == 3
