"""What comes in any order goes on in one: whoever is fast, a sum has the same bits."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

import wardround.server.gathering.order as order_module
from wardround.common.tasks.base import Examples
from wardround.server.gathering.order import InOrder
from wardround.simulations.grid import InProcessGrid


@given(data=st.data(), count=st.integers(1, 8))
def test_items_go_on_in_the_order_of_the_names_and_as_soon_as_they_can(data, count) -> None:
    names = [f"h{number}" for number in range(count)]
    failed = data.draw(st.sets(st.sampled_from(names)))
    order, seen, here = InOrder[str](names), [], set()
    for name in data.draw(st.permutations(names)):
        here.add(name)
        seen += order.put(name, None if name in failed else name)
        first_missing = next((i for i, one in enumerate(names) if one not in here), count)
        assert seen == [one for one in names[:first_missing] if one not in failed]


def test_what_would_fill_the_memory_does_not_wait(monkeypatch) -> None:
    monkeypatch.setattr(order_module, "MOST_HELD_BYTES", 10)
    order = InOrder[str]("abcd")
    assert order.put("d", "d", 6) == [] and order.put("c", "c", 5) == ["c", "d"]
    assert order.put("b", "b", 10) == []
    assert order.put("a", "a", 0) == ["a", "b"]


def test_figures_and_model_have_the_same_bits_whoever_is_fast(
    federate, settings, monkeypatch
) -> None:
    numbers = np.random.default_rng(0)
    shards = {
        f"h{i}": Examples(
            torch.from_numpy(numbers.normal(size=(20 + i, 1)).astype(np.float32)),
            torch.from_numpy(numbers.normal(size=20 + i).astype(np.float32)),
        )
        for i in range(9)
    }
    config = settings("[federation]\nrounds = 2\n[data]\ntest_fraction = 0.3\n")
    pull, mix = InProcessGrid.pull_messages, random.Random(1)

    def shuffled(grid, message_ids):
        return pull(grid, mix.sample(list(message_ids), len(list(message_ids))))

    def figures(run) -> list[object]:
        keys = ("train_loss", "overall", "hospitals", "accepted")
        return [[row[key] for key in keys] for row in run.recorder.rows]

    straight = federate(config, shards)
    monkeypatch.setattr(InProcessGrid, "pull_messages", shuffled)
    for _ in range(3):
        run = federate(config, shards)
        assert figures(run) == figures(straight)
        assert list(run.recorder.rows[0]["hospitals"]) == sorted(shards)
        np.testing.assert_array_equal(run.outcome.model["weight"], straight.outcome.model["weight"])


def test_a_late_hospital_does_not_hold_up_the_others(federate, settings, shards) -> None:
    """'a' never answers usefully: 'b' counts all the same."""
    config = settings("[federation]\nmin_clients = 1\n")
    only_b = federate(config, {"b": shards["b"]})

    def intercept(message, name):
        return "broken" if name == "a" and message.metadata.message_type == "train" else None

    run = federate(config, shards, intercept=intercept)
    assert run.recorder.rows[0]["accepted"] == ["b"]
    assert run.weight() == only_b.weight()
