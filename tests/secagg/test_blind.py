"""A blind coordinator: hospitals' models are those of the same run without it, and what the server
opens says nothing.

| who | gets |
|---|---|
| the coordinator alone | words that are uniform, whoever dropped out |
| with a hospital of the run | the sum, as in a run that isn't blind; nobody's own update |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unlike.base import Consortium
from wardround.client.secagg.blind import BlindModels
from wardround.client.state import ClientState
from wardround.common.config.load import parse_config
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ConfigError, ProtocolRefused, ReplyRefused, RequestRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, encode_arrays, layout_of
from wardround.common.protocol.model import SentModel
from wardround.common.run.directory import RunDirectory
from wardround.common.secagg.blind import (
    EXACT,
    UPDATE,
    BlindMask,
    add_exact_mask,
    carried,
    read_exact,
    read_sum,
)
from wardround.common.secagg.content import CHECK, OPEN, record_digest, training_layout
from wardround.common.secagg.encoding import encode_exact, signed_words
from wardround.common.secagg.group_key import GroupKey
from wardround.common.secagg.messages import FIRST, Blind
from wardround.common.secagg.ring import RingVector, add_key_streams, add_limbs
from wardround.common.secagg.server_step import server_step
from wardround.common.tasks.base import Examples
from wardround.server.rounds.checkpoint import newest_checkpoint
from wardround.server.strategies import build_strategy
from wardround.simulations import Result, simulate

KEY = GroupKey(b"k" * 32, ("a", "b", "c", "d", "e"), b"s" * 32)
CONTEXT = b"c" * 32
LAYOUT = training_layout(
    {"w": ArraySpec((40_000,), "float32"), "mean": ArraySpec((2,), "float32")}, ["w"], {}, True
)


def masked_sum(names: str, bits: int = 32, key: GroupKey = KEY) -> RingVector:
    """What a server has opened, of hospitals that each send one coordinate 7 and else zeros."""
    total = RingVector(bits, LAYOUT.update_size, LAYOUT.exact_size)
    for name in names:
        seeds = BlindMask(key, 3, b"m" * 32).seeds(CONTEXT, 5, name)
        total.update[5] += total.update.dtype.type(7)
        add_key_streams(total.update, [(seeds.update, 1)])
        own = {"check": np.array([1.0, 2.0]), "arrays/mean": np.array([0.5, -0.5])}
        add_limbs(total.exact, encode_exact(LAYOUT.exact_values(own), 5))
        add_exact_mask(total.exact[OPEN:], seeds)
    return total


@settings(deadline=None, max_examples=20)
@given(st.sets(st.sampled_from("abcde"), min_size=1), st.sampled_from([16, 32]))
def test_whoever_survived_hospitals_take_the_mask_off(names: set[str], bits: int) -> None:
    total = masked_sum("".join(names), bits)
    arrays = carried(total.update, total.exact)
    words, limbs = read_sum(arrays, BlindMask(KEY, 3, b"m" * 32), CONTEXT, 5, sorted(names))
    expected = np.zeros(LAYOUT.update_size)
    expected[5] = 7 * len(names)
    np.testing.assert_array_equal(signed_words(words), expected)
    exact = read_exact(LAYOUT, limbs, len(names))
    assert exact[CHECK].tolist() == [len(names), 2 * len(names)]
    assert exact["arrays/mean"].tolist() == [len(names) / 2, -len(names) / 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask": BlindMask(replace(KEY, secret=b"t" * 32), 3, b"m" * 32)},
        {"mask": BlindMask(KEY, 2, b"m" * 32)},
        {"mask": BlindMask(KEY, 3, b"n" * 32)},
        {"context": b"d" * 32},
        {"clients": 4},
        {"survivors": ["a", "b"]},
        {"survivors": ["a", "b", "c", "d"]},
        {"survivors": ["a", "b", "d"]},
    ],
    ids=lambda wrong: " ".join(wrong),
)
def test_a_sum_read_with_anything_else_is_not_used(wrong: dict[str, Any]) -> None:
    total = masked_sum("abc")
    how = {
        "mask": BlindMask(KEY, 3, b"m" * 32),
        "context": CONTEXT,
        "clients": 5,
        "survivors": ["a", "b", "c"],
    }
    how |= wrong
    _, limbs = read_sum(carried(total.update, total.exact), **how)
    with pytest.raises(ProtocolRefused, match="the opened sum can't be read"):
        read_exact(LAYOUT, limbs, len(how["survivors"]))


@pytest.mark.parametrize("names", ["a", "ab", "abcd", "abcde"])
def test_what_the_server_opens_is_uniform_also_where_an_even_number_survived(names: str) -> None:
    """Of zeros, which are most of a sparse update. With one mask for all, every lowest bit of a sum
    of two would be 0, and two lowest of four. Chi-square of the bytes (255 degrees of freedom:
    mean 255, standard deviation 22.6) and of the words' lowest bit."""
    total = masked_sum(names)
    for data in (total.update.view(np.uint8), total.exact[OPEN:].reshape(-1).view(np.uint8)):
        if len(data) > 5_000:
            counts = np.bincount(data, minlength=256)
            expected = len(data) / 256
            assert 255 - 6 * 22.6 < ((counts - expected) ** 2 / expected).sum() < 255 + 6 * 22.6
    low = int((total.update & 1).sum())
    assert abs(low - 20_000) < 6 * 100, "40000 fair bits: mean 20000, standard deviation 100"
    assert len(np.unique(total.exact[OPEN:])) == total.exact[OPEN:].size


# --- the server's step ----------------------------------------------------------------------------
STEPS = {
    "fedavgm": (flower.FedAvgM, "server_learning_rate = 0.7\nserver_momentum = 0.9\n"),
    "fedadam": (flower.FedAdam, "eta = 0.05\n"),
    "fedadagrad": (flower.FedAdagrad, ""),
    "fedyogi": (flower.FedYogi, "beta_1 = 0.5\n"),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_step_is_flowers_to_the_bit(name: str) -> None:
    config = parse_config(f"[strategy]\nname = '{name}'\n{STEPS[name][1]}")
    theirs = build_strategy(config).strategy
    assert type(theirs) is STEPS[name][0]
    generator = np.random.default_rng(4)
    model: Arrays = {"w": generator.normal(size=(3, 2)).astype(np.float32), "b": np.zeros(3, "f4")}
    state: Arrays = {}
    for number in range(1, 5):
        mean = {
            k: (x + generator.normal(scale=0.1, size=x.shape)).astype(np.float32)
            for k, x in model.items()
        }
        found = stepped(theirs, number, model, mean)
        ours, state = server_step(config, number, model, mean, state)
        for key in model:
            assert np.array_equal(np.asarray(ours[key]), found[key])
            assert np.asarray(ours[key]).dtype == found[key].dtype
        model = {k: np.asarray(x).astype(np.float32) for k, x in ours.items()}


class Reply:
    """What an aggregation looks at of a message."""

    def __init__(self, mean: Arrays) -> None:
        metrics = MetricRecord({"num-examples": 3.0})
        self.content = RecordDict({"arrays": encode_arrays(mean), "metrics": metrics})

    def has_error(self) -> bool:
        return False


def stepped(strategy: Any, number: int, model: Arrays, mean: Arrays) -> Arrays:
    """What Flower's strategy makes of one reply that holds the mean, having sent the model."""
    record = encode_arrays(model)
    if not isinstance(strategy, flower.FedAvgM):
        strategy.current_arrays = {k: array.numpy() for k, array in record.items()}
    elif strategy.current_arrays is None:
        strategy.current_arrays = record
    arrays, _ = strategy.aggregate_train(number, [Reply(mean)])
    assert isinstance(arrays, ArrayRecord)
    return {k: array.numpy() for k, array in arrays.items()}


# --- whole runs -----------------------------------------------------------------------------------
MASKED = ("federation.rounds=3", "training.local_steps=2")


BEST = ("data.validation_fraction=0.2", "evaluation.every=2", "evaluation.select=best")
DROPOUTS = ("secure_aggregation.threshold=0.5", "simulation.dropout=0.3")


def test_hospitals_that_differ_come_to_the_model_of_a_run_that_is_not_blind(
    unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    """With hospitals that miss a round, and a best round to be kept."""

    def run(*more: str) -> Result:
        overrides = (*MASKED, *BEST, *DROPOUTS, "strategy.name=fedadam", *more)
        return simulate(unlike("binary").config(*overrides, runs=tmp_path / str(len(more))))

    plain, blind = run(), run("secure_aggregation.blind=true")
    files = [one.run_directory / "model" / "model.safetensors" for one in (plain, blind)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert [row["overall"] for row in plain.rounds] == [row["overall"] for row in blind.rounds]
    assert any(row["refused"] for row in blind.rounds), "nobody dropped out"
    check_blind_run(blind.run_directory)


def check_blind_run(path: Path) -> None:
    """All hospitals have one model; and no array that the server keeps is of it."""
    run = RunDirectory(path)
    state = newest_checkpoint(run.checkpoints)
    assert state is not None and set(state.model) == {UPDATE, EXACT}
    told = json.loads((path / "run.json").read_text())["blind"]
    assert told["another"] == told["none"] == [] and len(told["have"]) > 2
    (weights, _) = read_tensors(path / "model" / "model.safetensors")
    words = state.model[UPDATE].reshape(-1)
    flat = np.concatenate([one.reshape(-1) for one in weights.values() if one.dtype.kind == "f"])
    if len(words) == len(flat):
        assert abs(np.corrcoef(words.astype(float), flat)[0, 1]) < 6 / np.sqrt(len(flat))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("[strategy]\nname = 'scaffold'\n", "strategy.name"),
        ("[strategy]\nname = 'file.py:Own'\n", "strategy.name"),
        ("[privacy]\nunit = 'hospital'\nnoise_multiplier = 1.0\n", "privacy.enabled"),
        ("[compression]\nbits = 8\n", "compression"),
        ("[procedure]\nname = 'describe'\n", "procedure.name"),
        ("[simulation]\npartition = 'virtual'\nclients = 9\n", "simulation.partition"),
        ("[judgement]\ngroups = ['sex']\ncategories = { sex = ['F', 'M'] }\n", "judgement"),
    ],
)
def test_what_needs_a_server_that_can_read_is_refused_by_name(settings: str, key: str) -> None:
    parse_config(settings) if "Own" not in settings else None
    with pytest.raises(ConfigError, match=f"{key}.*or secure_aggregation.blind"):
        parse_config(f"{settings}[secure_aggregation]\nblind = true\n")


def test_a_hospital_refuses_what_a_lying_coordinator_makes_of_a_sum(federate, settings) -> None:
    """In round 3 hospital a is shown another sum than in the evaluation of round 2, b the first
    model once more, c a key that nobody dealt; the others go on, and can read the sum."""
    config = settings(
        "[federation]\nrounds = 3\nmin_clients = 3\n[training]\nlr = 0.05\n[data]\n"
        "test_fraction = 0.25\n[secure_aggregation]\nenabled = true\n"
        "threshold = 0.5\nblind = true\n"
    )
    x = torch.linspace(0.5, 1.5, 8).view(-1, 1)
    shards = {name: Examples(x, x[:, 0] * slope) for slope, name in enumerate("abcdefghij")}
    refused: dict[str, str] = {}

    def lying(app: Any) -> Any:
        first: dict[str, RecordDict] = {}

        def answer(message: Any, context: Any) -> Any:
            name = context.node_config["hospital"]
            if message.metadata.message_type == "train":
                config = message.content["config"]
                first.setdefault(name, RecordDict(dict(message.content)))
                if config["server-round"] == 3 and name in LIES:
                    LIES[name](message.content, first[name])
                    reply = app(message, context)
                    refused[name] = reply.error.reason
                    return reply
            return app(message, context)

        return answer

    run = federate(config, shards, wrap=lying)
    assert [len(row["accepted"]) for row in run.directory.rounds()] == [10, 10, 7]
    assert "another one than this hospital was shown before" in refused["a"]
    assert "first model comes again" in refused["b"] or "was shown before" in refused["b"]
    assert "doesn't have the key of hospitals" in refused["c"]


def _other_sum(content: RecordDict, first: RecordDict) -> None:
    arrays = {k: x.numpy().copy() for k, x in content["arrays"].items()}
    arrays[UPDATE][0] += 1
    content["arrays"] = encode_arrays(arrays)


def _first_again(content: RecordDict, first: RecordDict) -> None:
    content["arrays"] = first["arrays"]
    content["config"] = ConfigRecord({**content["config"], "blind": first["config"]["blind"]})


def _other_key(content: RecordDict, first: RecordDict) -> None:
    content["secagg"] = ConfigRecord({**content["secagg"], "blind-key": b"x" * 32})


LIES = {"a": _other_sum, "b": _first_again, "c": _other_key}


def test_a_sum_on_other_terms_than_the_plans_and_one_of_a_model_that_is_not_here() -> None:
    config = parse_config("[secure_aggregation]\nblind = true\n")
    plan = SimpleNamespace(largest_weight=5, first_model="")
    models = BlindModels(SimpleNamespace(config=config, plan=plan), ClientState(RecordDict()))  # type: ignore[arg-type]
    first = {"w": np.ones(3, np.float32)}
    layout = layout_of(first)
    models.arrived(sent(first, FIRST), layout, ["w"])
    vector = training_layout(layout, ["w"], {}, True)
    zeros = RingVector(32, vector.update_size, vector.exact_size)
    came = carried(zeros.update, zeros.exact)
    one = Blind(1, 0, b"k" * 32, b"c" * 32, 3, ("a", "b", "c"), 5, 0)
    for changed, words in (
        ({"largest": 6}, "other terms than the plan's"),
        ({"survivors": ()}, "other terms than the plan's"),
        ({}, "doesn't have the key of hospitals"),
        ({"base": 1, "round": 2}, "doesn't have the model of round 1"),
    ):
        with pytest.raises((ReplyRefused, RequestRefused), match=words):
            models.arrived(sent(came, replace(one, **changed)), layout, ["w"])
    models.keep_key(GroupKey(b"k" * 32, ("a", "b", "c"), b"s" * 32), b"n" * 32)
    # each name is a mask as long as the model: 65,535 of them would be hours of work
    for names in (("a", "d"), ("b", "a"), ("a", *["b"] * 60_000)):
        with pytest.raises(ProtocolRefused, match="hospitals that don't have its key"):
            models.arrived(sent(came, replace(one, survivors=names)), layout, ["w"])
    with pytest.raises(ProtocolRefused, match="can't be read"):
        models.arrived(sent(came, one), layout, ["w"])


def test_the_first_model_is_the_plans_and_none_earlier_than_a_hospitals_own_is_taken() -> None:
    config = parse_config("[secure_aggregation]\nblind = true\n")
    first = {"w": np.ones(3, np.float32)}
    plan = SimpleNamespace(largest_weight=5, first_model=record_digest(encode_arrays(first)).hex())
    hospital: Any = SimpleNamespace(config=config, plan=plan)
    layout, state = layout_of(first), ClientState(RecordDict())
    models = BlindModels(hospital, state)
    with pytest.raises(ProtocolRefused, match="isn't the one that the plan has"):
        models.arrived(sent({"w": np.zeros(3, np.float32)}, FIRST), layout, ["w"])
    assert models.arrived(sent(first, FIRST), layout, ["w"]).server_round == 0
    later = ClientState(RecordDict())
    kept = state.of_run("blind-0")
    assert kept is not None
    later.keep_of_run("blind-2", kept)
    models = BlindModels(hospital, later)
    with pytest.raises(ProtocolRefused, match="first model comes again"):
        models.arrived(sent(first, FIRST), layout, ["w"])
    one = Blind(1, 0, b"k" * 32, b"c" * 32, 3, ("a", "b", "c"), 5, 0)
    with pytest.raises(ProtocolRefused, match="has a later model"):
        models.take_over(b"sealed", one, b"k" * 32)


def sent(arrays: Arrays, blind: Blind) -> SentModel:
    return SentModel(encode_arrays(arrays), 2, blind=blind.to_bytes())
