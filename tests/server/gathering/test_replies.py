"""Bad replies are refused by name and reason, and leave no trace in the model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from wardround.common.errors import RoundFailed
from wardround.common.flower.hosting import message_with
from wardround.common.protocol import names as m
from wardround.server.gathering.replies import check_description


def rewrite(arrays: dict[str, np.ndarray]) -> Callable[[RecordDict], RecordDict]:
    def change(content: RecordDict) -> RecordDict:
        record = ArrayRecord({name: Array(value) for name, value in arrays.items()})
        return RecordDict({**dict(content), "arrays": record})

    return change


def metrics(**values: float) -> Callable[[RecordDict], RecordDict]:
    def change(content: RecordDict) -> RecordDict:
        given = {k.replace("_", "-"): v for k, v in values.items()}
        return RecordDict(
            {**dict(content), "metrics": MetricRecord({**dict(content["metrics"]), **given})}
        )

    return change


def raw(dtype: str, shape: tuple[int, ...], data: bytes, stype: str = "numpy.ndarray"):
    def change(content: RecordDict) -> RecordDict:
        record = ArrayRecord({"weight": Array(dtype, shape, stype, data)})
        return RecordDict({**dict(content), "arrays": record})

    return change


GOOD = Array(np.ones((1, 1), np.float32)).data
BAD: dict[str, tuple[Callable[[RecordDict], RecordDict], str]] = {
    "empty": (lambda c: RecordDict({}), "the reply is empty"),
    "no arrays": (lambda c: RecordDict({"metrics": c["metrics"]}), "record 'arrays' is missing"),
    "no metrics": (lambda c: RecordDict({"arrays": c["arrays"]}), "record 'metrics' is missing"),
    "extra record": (
        lambda c: RecordDict({**dict(c), "more": ConfigRecord({})}),
        "record 'more' is missing or not expected",
    ),
    "swapped kinds": (
        lambda c: RecordDict({"arrays": MetricRecord({"a": 1}), "metrics": c["metrics"]}),
        "record 'arrays' is not an array record",
    ),
    "NaN": (
        rewrite({"weight": np.full((1, 1), np.nan, np.float32)}),
        "'weight' holds NaN; lower training.lr",
    ),
    "infinity": (rewrite({"weight": np.full((1, 1), np.inf, np.float32)}), "holds infinity"),
    "huge": (rewrite({"weight": np.full((1, 1), 3e38, np.float32)}), "holds values beyond 1e\\+12"),
    "shape": (rewrite({"weight": np.ones(1, np.float32)}), r"float32\[1\], expected float32\[1, 1"),
    "dtype": (rewrite({"weight": np.ones((1, 1))}), r"float64\[1, 1\], expected float32"),
    "missing array": (rewrite({}), "array 'weight' is missing"),
    "extra array": (
        rewrite({"weight": np.ones((1, 1), np.float32), "x": np.ones(3)}),
        "array 'x' is not expected",
    ),
    "truncated": (raw("float32", (1, 1), GOOD[:3]), "has 3 bytes, but its shape"),
    "garbage": (raw("float32", (1, 1), b"x" * len(GOOD)), "not a readable npy array"),
    "lying header": (
        raw("float32", (1, 1), Array(np.ones((1, 1), np.int32)).data),
        "other values than it declares",
    ),
    "pickle": (raw("float32", (1, 1), GOOD, stype="pickle"), "serialised as 'pickle'"),
    "negative weight": (metrics(num_examples=-5), "'num-examples' is not a whole number"),
    "zero weight": (metrics(num_examples=0), "num-examples is 0"),
    "huge weight": (metrics(num_examples=10**12), "announced 1 rows"),
    "fractional weight": (metrics(num_examples=0.5), "'num-examples' is not a whole number"),
    "NaN loss": (metrics(train_loss=float("nan")), "train-loss is not a finite number"),
    "no steps": (metrics(local_steps=0), "did not train"),
    "extra metric": (metrics(secret=1.0), "its metrics are not"),
}


def tamper(change: Callable[[RecordDict], RecordDict], hospital: str = "b", rounds: int = 99):
    """Wrap the client app: the hospital's first training replies are changed."""
    count = 0

    def wrap(app):
        def answer(message: Message, context) -> Message:
            nonlocal count
            reply = app(message, context)
            mine = context.node_config["hospital"] == hospital
            if message.metadata.message_type == "train" and mine and count < rounds:
                count += 1
                return Message(change(reply.content), reply_to=message)
            return reply

        return answer

    return wrap


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_reply_is_refused_and_the_round_goes_on(case, federate, settings, shards) -> None:
    change, reason = BAD[case]
    config = settings("[federation]\nrounds = 2\n")
    run = federate(config, shards, wrap=tamper(change))
    assert [(h, s) for h, s, _ in run.recorder.refusals] == [("b", "train")] * 2
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(run.recorder.refusals[0][2])
    assert [row["accepted"] for row in run.recorder.rows] == [["a"], ["a"]]
    alone = federate(config, {"a": shards["a"]})
    assert run.weight() == alone.weight(), "nothing of the bad reply may be in the model"
    assert run.directory.rounds()[0]["refused"][0]["hospital"] == "b"


def test_an_error_reply_is_shown_as_one_harmless_line(federate, settings, shards) -> None:
    def wrap(app):
        def answer(message, context):
            if message.metadata.message_type == "train" and context.node_config["hospital"] == "b":
                return Message(
                    Error(2, "line one\nline two\x1b[31m" + "x" * 1000), reply_to=message
                )
            return app(message, context)

        return answer

    run = federate(settings(), shards, wrap=wrap)
    ((_, _, reason),) = run.recorder.refusals
    assert reason.startswith("failed: line one line two [31mxxx")
    assert len(reason) < 320 and reason.isprintable()


def test_a_clients_exception_never_quotes_data(federate, settings, shards, line) -> None:
    class Leaky(line):
        def loss(self, outputs, targets):
            raise KeyError("patient John Doe")

    with pytest.raises(RoundFailed) as caught:
        federate(settings(), shards, task=Leaky())
    assert "KeyError at test_replies.py" in str(caught.value)
    assert "John" not in str(caught.value)


def test_too_few_replies_repeat_the_round_and_the_model_is_that_of_a_good_run(
    federate, settings, shards
) -> None:
    config = settings("[federation]\nrounds = 3\nmin_clients = 2\n")
    change, _ = BAD["NaN"]
    run = federate(config, shards, wrap=tamper(change, rounds=2))
    assert run.recorder.failures and "federation.min_clients is 2" in run.recorder.failures[0]
    assert [row["attempt"] for row in run.recorder.rows] == [3, 1, 1]
    assert run.weight() == federate(config, shards).weight()


def test_a_hopeless_round_stops_the_run_with_its_checkpoint_intact(
    federate, settings, shards
) -> None:
    config = settings("[federation]\nrounds = 3\nmin_clients = 2\nround_attempts = 2\n")
    change, _ = BAD["NaN"]
    good = federate(config, shards)

    def from_round_two(content: RecordDict) -> RecordDict:
        from_round_two.calls += 1
        return content if from_round_two.calls == 1 else change(content)

    from_round_two.calls = 0
    with pytest.raises(RoundFailed, match="round 2 failed after 2 attempts") as caught:
        federate(config, shards, wrap=tamper(from_round_two))
    directory = caught.value.directory
    assert [row["round"] for row in directory.rounds()] == [1]
    again = federate(config, shards, directory=directory)
    assert again.weight() == good.weight()
    assert [row["round"] for row in directory.rounds()] == [1, 2, 3]


def test_a_late_reply_is_refused(federate, settings, shards) -> None:
    import time

    def wrap(app):
        def answer(message, context):
            if message.metadata.message_type == "train" and context.node_config["hospital"] == "b":
                time.sleep(0.3)
            return app(message, context)

        return answer

    run = federate(settings("[federation]\nround_timeout_s = 0.2\n"), shards, wrap=wrap)
    assert run.recorder.refusals[0][:2] == ("b", "train")
    assert "late" in run.recorder.refusals[0][2]
    assert run.recorder.rows[0]["accepted"] == ["a"]


def test_too_few_hospitals_at_the_start_says_why(federate, settings, shards) -> None:
    with pytest.raises(RoundFailed, match="2 hospitals connected within 0.3 s"):
        federate(settings("[federation]\nmin_clients = 3\nround_timeout_s = 0.3\n"), shards)


def test_two_hospitals_of_one_name_are_refused(federate, settings, shards) -> None:
    def wrap(app):
        def answer(message, context):
            context.node_config["hospital"] = "a"
            return app(message, context)

        return answer

    with pytest.raises(RoundFailed, match="a second hospital calls itself 'a'"):
        federate(settings("[federation]\nmin_clients = 2\n"), shards, wrap=wrap)


def test_bad_evaluation_sums_are_refused_and_others_count(federate, settings, line) -> None:
    from wardround.common.tasks.base import Examples

    task = line()
    data = task.load(None)
    shards = {
        "a": data.select(np.arange(0, 40, 2)),
        "b": data.select(np.arange(1, 40, 2)),
    }
    assert isinstance(shards["a"], Examples)

    def wrap(app):
        def answer(message, context):
            reply = app(message, context)
            mine = context.node_config["hospital"] == "b"
            if message.metadata.message_type == "evaluate" and mine:
                arrays = ArrayRecord({"test/loss": Array(np.zeros(3))})
                return Message(
                    RecordDict({"arrays": arrays, "metrics": reply.content["metrics"]}),
                    reply_to=message,
                )
            return reply

        return answer

    run = federate(settings("[data]\ntest_fraction = 0.5\n"), shards, task=task, wrap=wrap)
    assert run.recorder.refusals[0][:2] == ("b", "evaluate")
    row = run.recorder.rows[0]
    assert set(row["hospitals"]) == {"a"}
    assert row["overall"]["test"] == row["hospitals"]["a"]["test"]


@pytest.mark.parametrize(("said", "kept"), [("cuda", "cuda"), (None, ""), ("H200", ""), (7, "")])
def test_a_hospitals_device_is_one_of_two_words_or_not_kept(said: object, kept: str) -> None:
    """One of an earlier version doesn't tell it."""
    request = Message(RecordDict(), 1, m.DESCRIBE)
    described = {"hospital": "a", "warnings": []} | ({} if said is None else {"device": said})
    sizes = MetricRecord({"train": 4, "validation": 0, "test": 0})
    content = RecordDict({"describe": ConfigRecord(described), m.SIZES: sizes})  # type: ignore[arg-type]
    assert check_description(message_with(content, request)).device == kept
