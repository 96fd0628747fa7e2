"""A state that hospitals go by only grows: what was said before stays, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.secagg.driver import CONTENT
from tests.secagg.test_opened_once import RUN, ask
from wardround.client.secagg.asked import Asked, Step
from wardround.client.secagg.contributions import Contributions, OtherThanBefore
from wardround.client.secagg.grown import Grown
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.procedures.carrying import STEP, CarryingProcedure, at
from wardround.common.procedures.procedure import Earlier, Shapes
from wardround.common.protocol.sums import joined
from wardround.common.secagg.content import Digests

ROWS = st.lists(st.integers(0, 3), max_size=6)


@settings(deadline=None, max_examples=60)
@given(ROWS, ROWS, ROWS, st.booleans())
def test_a_state_goes_on_from_its_own_beginning_alone(
    old: list[int], new: list[int], other: list[int], moves: bool
) -> None:
    def state(rows: list[int], step: int) -> Sums:
        return {"trees": np.array(rows, np.int32).reshape(-1, 1), "now/step": np.array([step])}

    before = replace(Grown.of(state(old, 1)), arrays={})
    assert Grown.of(state(old + new, 2 if moves else 1)).other(before) == ""
    prefix = other[: len(old)] == old
    assert (Grown.of(state(other, 2)).other(before) == "") == prefix
    assert Grown.of({"now/step": np.array([2])}).other(before) == "trees"
    wide = {"trees": np.array(old, np.int64).reshape(-1, 1)}
    assert Grown.of(wide).other(before) == "trees"  # bytes of another type are other bytes


def test_another_history_is_refused_after_a_restart_too() -> None:
    record = Contributions(RUN)

    def of(step: int, trees: list[int]) -> Asked:
        state = {"trees": np.array(trees), STEP: np.array([step])}
        one = ask("sums", step, digests=Digests({}, CONTENT))
        return replace(one, step=Step("sums", step, grown=Grown.of(state)))

    record.upload(of(3, [7, 8]))
    record.open(["sums 3"], b"one")
    record = Contributions.of(record.values())
    record.check(of(4, [7, 8, 9]))
    record.check(of(4, [7, 8]))
    for lie in ([7], [7, 9], [8, 8, 9]):
        with pytest.raises(OtherThanBefore, match="'trees' of the state doesn't go on from what"):
            record.check(of(4, lie))
        with pytest.raises(OtherThanBefore, match="sums 4"):
            record.upload(of(4, lie))


class Counting(CarryingProcedure):
    """Adds up one number, and keeps the sum of squares of totals to itself."""

    name = "counting"
    most_steps = 3

    @classmethod
    def of(cls, config: object, task: object, model: object = None) -> Counting:  # type: ignore[override]
        return cls()

    @classmethod
    def planned_steps(cls, config: object) -> int:
        return 3

    def shapes(self, earlier: Earlier) -> Shapes:
        return {"n": (1,)}

    def sums(self, parts: object, earlier: Earlier) -> Sums:  # type: ignore[override]
        return {"n": np.ones(1)}

    def fold(self, earlier: Earlier, total: Sums) -> tuple[Sums, Sums]:
        told = earlier[0]["told"] if earlier else np.zeros(0)
        kept = earlier[1]["squares"] if earlier else np.zeros(1)
        state = {"told": np.append(told, total["n"])} | at(self.step(earlier) + 1)
        return state, {"squares": kept + total["n"] ** 2}

    def check_state(self, step: int, state: Sums) -> None:
        if set(state) != {"told", STEP} or len(state["told"]) != step:
            raise RequestRefused("no such state")

    def result(self, earlier: Earlier, asked: object) -> dict[str, str]:  # type: ignore[override]
        return {}


def test_a_request_brings_the_state_and_nothing_that_the_server_keeps() -> None:
    procedure, earlier = Counting(), list[Sums]()
    for step in range(3):
        assert procedure.more(earlier) and procedure.step(earlier) == step
        carried = procedure.carried(earlier)
        read = procedure.read(step, carried)
        assert [sorted(one) for one in read] == ([sorted(["told", STEP])] if step else [])
        earlier = procedure.after(earlier, {"n": np.array([5.0])})
    assert not procedure.more(earlier)
    assert earlier[0]["told"].tolist() == [5, 5, 5] and earlier[1]["squares"].tolist() == [75]
    state = earlier[0]
    for step, sent in (
        (2, state),  # of another step
        (3, {"told": state["told"]}),
        (3, state | {STEP: np.array([3.0])}),
        (3, state | {"told": state["told"][:2]}),
        (3, state | {"more": np.ones(1)}),
        (3, state | {"told": np.array(3.0)}),
    ):
        with pytest.raises(RequestRefused, match="state"):
            procedure.read(step, joined([sent]))
    with pytest.raises(RequestRefused, match="not those of the steps before"):
        procedure.read(0, joined([state]))
