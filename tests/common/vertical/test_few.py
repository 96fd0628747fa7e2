"""What sums say of few persons, and what isn't opened of them therefore."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.common.vertical.consortium import Consortium
from wardround.common.errors import JointRefused
from wardround.common.joint.party import Party
from wardround.common.vertical import procedure
from wardround.common.vertical.rows import LEFT_OUT, NUMBER, TWO_VALUED, arrangements, scaled

ROWS, DEAD = 44, 5


def few() -> tuple[dict[str, Any], Any]:
    """Four numbers of each person at a hospital, and who of them died at a registry."""
    random = np.random.default_rng(3)
    columns = {f"x{number}": random.normal(50, 9, ROWS).round(1) for number in range(4)}
    outcome = np.zeros(ROWS)
    outcome[random.choice(ROWS, DEAD, replace=False)] = 1.0
    return columns, outcome


def registered(columns: dict[str, Any], outcome: Any, model: str = "logistic") -> Consortium:
    parties = {"hospital": columns, "registry": {}}
    return Consortium(parties, ("registry", outcome), options={"model": model})


@pytest.mark.parametrize("model", ["logistic", "poisson", "cox"])
def test_outcomes_that_sums_could_be_solved_for_are_not_summed(model: str) -> None:
    columns, outcome = few()
    if model == "cox":
        outcome = np.column_stack([np.arange(1.0, ROWS + 1), outcome])
    with pytest.raises(JointRefused, match="could be solved for outcomes"):
        registered(columns, outcome, model).run()


def test_without_that_rule_the_hospital_finds_who_died(monkeypatch: pytest.MonkeyPatch) -> None:
    columns, outcome = few()
    monkeypatch.setattr(procedure, "arrangements", lambda _: math.inf)
    seen: dict[str, Party] = {}
    with suppress(JointRefused):  # of its last step, maybe
        registered(columns, outcome).run(lambda _, parties: seen.update(parties))
    told = seen["hospital"].state()["done/moments/cross"][1:] * ROWS
    own = scaled(list(columns.values()), ROWS, 5).values
    groups = np.array(list(combinations(range(ROWS), DEAD)), np.uint8)
    unit = 2.0 ** (math.floor(math.log2(ROWS) / 2) - 7)  # of two shares each is short by up to one
    for column, total in zip(own, told, strict=True):
        groups = groups[np.abs(column[groups].sum(axis=1) - total) <= unit]
    assert groups.tolist() == [np.flatnonzero(outcome).tolist()]


def test_a_rare_input_that_sums_could_be_solved_for_is_left_out() -> None:
    rare = np.zeros(400)
    rare[:6] = 1.0
    assert arrangements(rare) == pytest.approx(math.log2(math.comb(400, 6)))
    assert arrangements(np.arange(20.0)) == pytest.approx(math.log2(math.factorial(20)))
    just = arrangements(rare)
    assert scaled([rare], 400, 5, just - 0.01).kinds.tolist() == [TWO_VALUED]
    assert scaled([rare], 400, 5, just + 0.01).kinds.tolist() == [LEFT_OUT]


@pytest.mark.parametrize("model", ["linear", "logistic", "poisson"])
def test_how_much_sums_say_follows_from_the_plan(model: str) -> None:
    numbers = np.arange(64.0)
    outcome = numbers if model == "linear" else np.tile([0.0, 1.0], 32)
    parties = Consortium(
        {"hospital": {"a": numbers, "b": numbers}, "lab": {"stage": np.tile(["I", "II"], 32)}},
        ("hospital", outcome),
        levels={"stage": ["I", "II", "III"]},
        options={"model": model},
    )
    fine, count = 13, 2 + 3  # of 64 persons counts spread as their root, 2^3
    expected = {
        "linear": (2 * count, 3 * fine),
        "logistic": (2 * count, 2 * fine + count),
        "poisson": (2 * count, 2 * fine + count),
    }[model]
    plan = parties.procedure.plan
    assert (plan.bits("hospital", 64), plan.bits("lab", 64)) == expected


def test_a_scale_does_not_tell_the_farthest_person() -> None:
    usual = np.random.default_rng(1).normal(5, 1, 2000)
    far = [np.append(usual, value) for value in (1e4, 1.1e4)]
    told = scaled(far, 2001, 5)
    assert told.scale[0] == told.scale[1] == 2.0 ** math.ceil(math.log2(1e4 / 16))
    assert (np.abs(told.values) <= 16).all() and told.kinds.tolist() == [NUMBER, NUMBER]


def test_a_two_valued_column_of_few_is_left_out_at_home() -> None:
    """Whatever its arrangements: 4 of 1,000, or all but 4, are a count below the smallest cell."""
    columns = [np.arange(1000) < number for number in (4, 5, 995, 996)]
    found = scaled([column.astype(float) for column in columns], 1000, 5)
    assert [kind == LEFT_OUT for kind in found.kinds] == [True, False, False, True]
