"""A server whose model or totals fail on a hospital's rows: it learns how many, never who or why.

A failure that is told is an answer in clear to any question of the server's about single rows: a
large weight makes «is a value of this column above that bound?» one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from torch import Tensor

from tests.client.process.test_responder import MANIFEST, Bench, request
from tests.federate import Federate, Line, Run, examples
from wardround.client.app import failure_reply
from wardround.client.state import ClientState
from wardround.common.errors import (
    NobodyContributed,
    NotEvaluating,
    RoundFailed,
    StoppedAfterFailures,
    TaskError,
)
from wardround.common.figures.sums import Sums
from wardround.common.flower.content import encode_content
from wardround.common.flower.hosting import own_copy
from wardround.common.protocol import names as m
from wardround.common.protocol.model import round_of
from wardround.common.protocol.totals import Totals
from wardround.common.tasks.base import Examples

pytestmark = pytest.mark.usefixtures("exact_parts")

MASKED = "[secure_aggregation]\nenabled = true\nmin_cohort = 3\nclip = 8.0\n"
HELD_OUT = "[data]\ntest_fraction = 0.5\n"
POISON = 77.0
"""A row with this target is one that the server's model fails on."""


class Fragile(Line):
    """Fails on POISON: in training and evaluation, or in what is named. Raises what a task may."""

    def __init__(self, fails: tuple[str, ...] = ("train", "evaluate"), features: int = 1) -> None:
        super().__init__(features=features)
        self.fails = fails

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        poisoned = torch.where(targets == POISON, math.inf, 0.0)
        return super().loss(outputs, targets) + (poisoned if "train" in self.fails else 0.0)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        if "evaluate" in self.fails and bool((targets == POISON).any()):
            raise TaskError(f"an output for {POISON} is not finite")
        clean = torch.where(targets == POISON, 0.0, targets)
        losses = super().loss(outputs, clean).double()
        return {"loss": losses.sum()[None].numpy(), "examples": np.array([float(len(losses))])}


class Prepared(Fragile):
    """With a second phase of preparation, and rows that it can't prepare if it is told so."""

    phases = 2

    def statistics(self, train: Examples, phase: int, totals: Sums) -> Sums:
        if f"statistics {phase}" in self.fails and bool((train.targets == POISON).any()):
            raise KeyError("a category that the totals don't have: 'smith'")
        return {f"rows {phase}": np.array([float(len(train))])}

    def prepare(self, raw: Examples, totals: Sums, train: Examples) -> Examples:
        if "prepare" in self.fails and bool((train.targets == POISON).any()):
            raise MemoryError
        return raw


SHARDS = {
    "a": examples([1.0] * 4, [2.0] * 4),
    "b": examples([1.0] * 8, [4.0] * 8),
    "c": examples([2.0] * 4, [2.0] * 4),
    "d": examples([1.0] * 6, [POISON] * 6),
}


class Wire:
    """Replies of a federation as they leave each hospital."""

    def __init__(self) -> None:
        self.replies: dict[tuple[str, str], list[Message]] = {}

    def __call__(self, app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            reply = app(own_copy(message), context)
            key = message.metadata.message_type, str(context.node_config["hospital"])
            self.replies.setdefault(key, []).append(reply)
            return reply

        return answer

    def shapes(self, kind: str, name: str) -> list[Any]:
        """Of each reply what its length and form tell."""
        found = self.replies[kind, name]
        assert not any(one.has_error() for one in found)
        return [
            (encode_content(one.content).size_bytes, [(k, [*v]) for k, v in one.content.items()])
            for one in found
        ]

    def texts(self) -> str:
        """All that left, as text."""
        replies = [one for found in self.replies.values() for one in found]
        return str([one.error.reason if one.has_error() else one.content for one in replies])


def trained(weights: dict[str, float], lr: float = 0.1) -> float:
    """The mean of w = lr mean((w x - y) x) from 0, by hand, weighted by rows."""
    total = sum(weights.values())
    return sum(n * lr * float((SHARDS[k].inputs[:, 0] * SHARDS[k].targets).mean()) / total
               for k, n in weights.items())  # fmt: skip


class FailsOnce(Fragile):
    """Fails on POISON in the first round only."""

    def __init__(self) -> None:
        super().__init__()
        self.poisoned = 0

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if bool((targets == POISON).any()):
            self.poisoned += 1
        if self.poisoned != 1:
            targets = torch.where(targets == POISON, 0.0, targets)
        return super().loss(outputs, targets)


def test_training_that_fails_is_noise_of_the_same_form_and_a_count(
    federate: Federate, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Round 1 is lost, and tells how many failed and nothing else; round 2 is of all."""
    wire = Wire()
    run = federate(settings("[federation]\nrounds = 2\n" + MASKED), SHARDS, FailsOnce(), wrap=wire)
    assert wire.shapes(m.TRAIN, "d") == wire.shapes(m.TRAIN, "a")
    assert wire.shapes(m.UNMASK, "d") == wire.shapes(m.UNMASK, "a")
    lost, row = run.directory.rounds()
    assert lost["refused"] == [] and lost["failed"] == {"train": 1} and lost["accepted"] == []
    assert "1 of 4 hospitals' training failed" in lost["lost"] and lost["attempt"] == 1
    assert row["accepted"] == list("abcd") and row["train_loss"] > 0
    (line,) = [one.getMessage() for one in caplog.records if "d: nothing" in one.getMessage()]
    assert "'train 1'" in line and "not finite" in line
    assert not [one for one in caplog.records if one.getMessage().startswith(("a:", "b:", "c:"))]


def test_where_all_fail_the_round_is_not_repeated(federate: Federate, settings: Any) -> None:
    wire, shards = Wire(), {name: SHARDS["d"] for name in "abc"}
    said = r"1 attempt: every hospital's training failed.*lower training.lr.*begin another run$"
    with pytest.raises(NobodyContributed, match=said) as caught:
        federate(settings(MASKED), shards, Fragile(), wrap=wire)
    assert len(wire.replies[m.TRAIN, "a"]) == 1
    assert caught.value.lasting, "no service manager is to try it for ever"


def test_fewer_than_min_clients_that_worked_are_no_round(federate: Federate, settings: Any) -> None:
    text = MASKED + "[federation]\nmin_clients = 3\n"
    with pytest.raises(RoundFailed, match="1 hospital's training failed; 2 worked"):
        federate(settings(text), {name: SHARDS[name] for name in "abd"}, Fragile())


def test_the_first_phase_is_asked_without_totals(federate: Federate, settings: Any) -> None:
    """What fails in it may be told, since nothing of the server's had a part in it."""

    def lying(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            if message.metadata.message_type == m.STATISTICS:
                config = message.content[m.CONFIG]
                assert isinstance(config, ConfigRecord)
                Totals.of({"bound": np.ones(1)}).add_to(message.content, config)  # type: ignore[arg-type]
            return app(message, context)

        return answer

    config = settings(MASKED + "[federation]\nretry_wait_s = 0\n")
    with pytest.raises(RoundFailed, match="the first phase .* is asked without totals"):
        federate(config, SHARDS, Prepared(()), wrap=lying)


# --- what a hospital remembers --------------------------------------------------------------------
class Sometimes(Fragile):
    """Fails where the model has come to the second round."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.calls = getattr(self, "calls", 0) + int(bool((targets == 3.0).any()))
        failing = bool((targets == 3.0).any()) and self.calls == 2
        return Line.loss(self, outputs, targets) * (math.nan if failing else 1.0)


def test_a_failed_round_leaves_control_variates_as_they_were(
    federate: Federate, settings: Any
) -> None:
    text = MASKED + "[federation]\nrounds = 3\n[strategy]\nname = 'scaffold'\n"
    shards = {name: SHARDS[name] for name in "abc"} | {"d": examples([1.0] * 4, [3.0] * 4)}
    run = federate(settings(text), shards, Sometimes())
    assert [row["failed"] for row in run.directory.rounds()] == [{}, {"train": 1}, {}]
    whole = federate(settings(text), shards, Fragile())
    assert run.weight() == pytest.approx(whole.weight(), rel=0.5) and run.weight() != whole.weight()


def test_the_version_of_a_failed_round_is_the_one_before() -> None:
    state = ClientState(RecordDict())
    state.save("c", {"w": np.ones(1)}, 1, 0)
    state.save("c", {"w": np.full(1, 2.0)}, 2, 1)  # an attempt that the server didn't count
    state.set_values("keys", {"uploaded": 2})
    state.keep(2, 1)
    state.keep(3, 2)
    for number in (2, 3):
        kept = state.load("c", number)
        assert kept is not None and kept["w"] == [1.0]
    state.save("fresh", {"w": np.ones(1)}, 4, 3)
    state.keep(4, 3)
    assert state.load("fresh", 4) is None and state.values("keys") == {"uploaded": 2}


# --- with privacy ---------------------------------------------------------------------------------
PRIVATE = """
[training]
local_steps = 1
[privacy]
unit = "{unit}"
noise = "{noise}"
noise_multiplier = 2.0
clipping_norm = 1.0
"""


class Stopping(Fragile):
    """Fails before its first step, whatever the rows."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if bool((targets == POISON).any()):
            raise TaskError("out of memory")
        return Line.loss(self, outputs, targets)


def vectors(poisoned: bool) -> Examples:
    """Rows whose gradient is zero, or which can't be trained on."""
    return Examples(torch.zeros(8, 8), torch.full((8,), POISON if poisoned else 0.0))


def private(federate: Federate, settings: Any, unit: str, noise: str, poisoned: bool) -> Run:
    text = MASKED + PRIVATE.format(unit=unit, noise=noise)
    shards = {name: vectors(poisoned and name == "d") for name in "abcd"}
    return federate(settings(text), shards, Stopping(features=8))


@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
@pytest.mark.parametrize("unit", ["hospital", "example"])
def test_a_private_round_that_fails_is_its_noise_and_no_count(
    federate: Federate, settings: Any, unit: str, noise: str
) -> None:
    """Bit for bit what a hospital sends that has an update of zeros: its noise is seeded here."""
    silent, failed = (
        private(federate, settings, unit, noise, poisoned) for poisoned in (False, True)
    )
    assert np.abs(silent.outcome.model["weight"]).min() > 0
    np.testing.assert_array_equal(silent.outcome.model["weight"], failed.outcome.model["weight"])
    (row,) = failed.directory.rounds()
    assert row["failed"] == {} and set(row["privacy"]) == set("abcd")


# --- after three of them --------------------------------------------------------------------------
def stopping(name: str, kind: str, first: int, error: Exception) -> Any:
    """That hospital's host refuses such requests from round ``first`` on, as its policy does."""

    def wrap(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            mine = context.node_config["hospital"] == name
            asked = message.metadata.message_type == kind
            if mine and asked and round_of(message.content) >= first:
                return failure_reply(message, error)
            return app(message, context)

        return answer

    return wrap


def test_a_hospital_that_stopped_is_asked_for_nothing_more(
    federate: Federate, settings: Any
) -> None:
    text = MASKED + HELD_OUT + "[federation]\nrounds = 3\nretry_wait_s = 0\n"
    wrap = stopping("d", m.TRAIN, 2, StoppedAfterFailures("a person must look"))
    run = federate(settings(text), SHARDS, Line(), wrap=wrap)
    first, second, third = run.directory.rounds()
    assert first["accepted"] == list("abcd") and second["accepted"] == list("abc")
    assert second["refused"] == [{"hospital": "d", "step": "train", "reason": "a person must look"}]
    assert second["over"]["test"] == third["over"]["test"] == third["cohort"] == list("abc")
    assert third["refused"] == []


def test_a_run_ends_with_what_it_has_when_too_few_have_not_stopped(
    federate: Federate, settings: Any
) -> None:
    text = MASKED + "[federation]\nrounds = 3\nretry_wait_s = 0\n"
    shards = {name: SHARDS[name] for name in "abc"}
    wrap = stopping("c", m.TRAIN, 2, StoppedAfterFailures("a person must look"))
    run = federate(settings(text), shards, Line(), wrap=wrap)
    assert len(run.directory.rounds()) == 1
    ended = run.directory.summary()["ended_early"]
    assert "c stopped taking part after failures" in ended and "client resume KIT" in ended


def test_one_that_evaluates_last_is_asked_once_and_then_in_the_last_round(
    federate: Federate, settings: Any
) -> None:
    """And costs no attempt: a hospital knows few groups, and those that rounds go on with among
    them, however often others evaluate than train."""
    asked: list[int] = []
    groups: list[int] = []

    def wrap(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            kind, number = message.metadata.message_type, round_of(message.content)
            if kind == m.GROUP and context.node_config["hospital"] == "a":
                groups.append(number)
            if kind == m.EVALUATE and context.node_config["hospital"] == "d":
                asked.append(number)
                if number < 8:
                    return failure_reply(message, NotEvaluating("in the last round only"))
            return app(message, context)

        return answer

    text = HELD_OUT + "[federation]\nrounds = 8\n"
    for form in (text + MASKED, text):
        asked.clear()
        run = federate(settings(form), SHARDS, Line(), wrap=wrap)
        assert asked == [1, 8]
        over = [row["over"]["test"] for row in run.directory.rounds()]
        assert over == [list("abc")] * 7 + [list("abcd")]
        assert run.recorder.failures == []
    assert len(groups) == 3  # all, and twice those who evaluate: each time for four rounds


# --- the audit log --------------------------------------------------------------------------------
def test_an_audit_line_doesnt_tell_a_failure_from_an_answer(
    federate: Federate, settings: Any, tmp_path: Path
) -> None:
    wire = Wire()
    with pytest.raises(RoundFailed):
        federate(settings(MASKED), SHARDS, Fragile(), wrap=wire)
    lines = {}
    for name in "ad":
        (reply,) = wire.replies[m.TRAIN, name]
        bench = Bench(tmp_path / name, lambda asked, _, r=reply: Message(r.content, reply_to=asked))
        bench.ask(MANIFEST, m.MANIFEST)
        bench.ask(request())
        sent = [one for one in bench.events() if one["event"] == "sent"]
        lines[name] = next(one for one in sent if one["kind"] == m.TRAIN)
    own = ("time", "hash", "prev", "digest")
    a, d = ({k: v for k, v in line.items() if k not in own} for line in lines.values())
    assert lines["a"].keys() == lines["d"].keys() and a == d


def test_a_run_goes_on_without_a_hospital_that_failed_until_it_stopped(
    federate: Federate, settings: Any
) -> None:
    """Three rounds are lost to it, the model stays; then the others' rounds are as by hand."""
    text = "[federation]\nrounds = 4\n" + MASKED
    wrap = stopping("d", m.TRAIN, 4, StoppedAfterFailures("a person must look"))
    run = federate(settings(text), SHARDS, Fragile(), wrap=wrap)
    *lost, last = run.directory.rounds()
    assert [bool(row["lost"]) for row in lost] == [True] * 3
    assert [row["failed"] for row in lost] == [{"train": 1}] * 3
    assert last["accepted"] == list("abc") and "lost" not in last
    expected = trained({"a": 4.0, "b": 8.0, "c": 4.0})
    assert run.weight() == pytest.approx(expected, abs=1e-5)


def test_where_some_fail_in_every_round_the_run_ends(federate: Federate, settings: Any) -> None:
    wire = Wire()
    with pytest.raises(RoundFailed, match="round 5 failed .* 1 of 4 hospitals' training failed"):
        federate(settings("[federation]\nrounds = 9\n" + MASKED), SHARDS, Fragile(), wrap=wire)
    with pytest.raises(RoundFailed, match="no round was made: all were lost"):
        federate(settings(MASKED), SHARDS, Fragile())


def test_figures_that_fail_are_noise_of_the_same_form_and_a_count(
    federate: Federate, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The oracle of the issue: a model of the server's that is too much for one's rows."""
    wire = Wire()
    run = federate(settings(MASKED + HELD_OUT), SHARDS, Fragile(("evaluate",)), wrap=wire)
    assert wire.shapes(m.EVALUATE, "d") == wire.shapes(m.EVALUATE, "a")
    assert "finite" not in wire.texts() and str(POISON) not in wire.texts()
    (row,) = run.directory.rounds()
    assert row["refused"] == [] and row["failed"] == {"test": 1}
    assert row["overall"] == {}, "the others' figures would be of fewer than were asked"
    assert "an output for" in caplog.text


def test_a_sum_of_fewer_than_min_cohort_that_worked_gives_no_figures(
    federate: Federate, settings: Any
) -> None:
    shards = {name: SHARDS[name] for name in "abd"}
    run = federate(settings(MASKED + HELD_OUT), shards, Fragile(("evaluate",)))
    (row,) = run.directory.rounds()
    assert row["failed"] == {"test": 1} and row["overall"] == {} and row["over"] == {}


@pytest.mark.parametrize("fails", ["prepare", "statistics 1"])
def test_rows_that_the_totals_make_unfit_are_hidden_too(
    federate: Federate, settings: Any, fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    wire, task = Wire(), Prepared((fails,))
    config = settings(MASKED + "[federation]\nretry_wait_s = 0\n")
    if fails == "prepare":
        with pytest.raises(RoundFailed, match="no round was made"):
            federate(config, SHARDS, task, wrap=wire)
        kind, reason = m.TRAIN, "MemoryError"
    else:  # it would fail in every round
        with pytest.raises(RoundFailed, match=r"1 of 4 .*nothing to add to step 2 of the data"):
            federate(config, SHARDS, task, wrap=wire)
        kind, reason = m.STATISTICS, "KeyError at test_failures.py"
    assert wire.shapes(kind, "d") == wire.shapes(kind, "a")
    assert "smith" not in wire.texts() + caplog.text and reason in caplog.text
    asked = wire.replies[kind, "d"]
    assert len(asked) == (1 if kind == m.TRAIN else 2)  # once for each purpose
