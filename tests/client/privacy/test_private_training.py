"""What leaves a hospital under privacy, against gradients done by hand and against the noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import Tensor, nn

from wardround.client.algorithms.base import Plain
from wardround.client.data.hospital import Hospital, Place, Units
from wardround.client.data.shard import OwnShard
from wardround.client.privacy.proposal import Proposal
from wardround.client.privacy.round import PrivateRound
from wardround.client.requests.local import local_update
from wardround.client.state import ClientState
from wardround.common.config.load import Config
from wardround.common.model.named import build_model, model_arrays
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Schedule
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainRequest
from wardround.common.tasks.base import Examples

EACH = 1e-8
QUIET = "noise_multiplier = 0.02\ndelta = 1e-5\n"
"""So little noise that arithmetic shows through it: 0.02 C."""
MASKS = {
    True: "[secure_aggregation]\nenabled=true\nmin_cohort=2\nthreshold=0.5\n",
    False: "[secure_aggregation]\nenabled=false\n",
}
Settings = Callable[[str], Config]


def rows(x: list[list[float]], y: list[float]) -> Examples:
    return Examples(torch.tensor(x), torch.tensor(y))


def clipped(x: np.ndarray, y: np.ndarray, norm: float) -> np.ndarray:
    """Sum of clipped gradients of (w x - y)^2 / 2 at w = 0: each -y x."""
    gradients = -y[:, None] * x
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    return (gradients * np.minimum(1, norm / norms)).sum(0)


X = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]
Y = [1.0, -0.25, 1.0]
OTHER = rows([[1.0, 1.0], [0.5, 0.0], [0.0, 1.0]], [2.0, 1.0, 1.0])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
def test_one_step_is_the_mean_of_clipped_gradients(
    settings: Settings, federate: Any, line: Any, noise: str, masked: bool
) -> None:
    if noise == "distributed" and not masked:
        pytest.skip("refused: distributed noise needs masks")
    norm, lr = 0.7, 0.1
    config = settings(
        f"[privacy]\nunit='example'\nnoise='{noise}'\nclipping_norm={norm}\nsize_noise=0.5\n{QUIET}"
        f"[training]\nlocal_steps=1\nlr={lr}\nbatch_size=1000\n"
        f"{MASKS[masked]}"
        "[strategy]\nweighting='uniform'\n"
    )
    shards = {"a": rows(X, Y), "b": OTHER}
    run = federate(config, shards, line(features=2))
    sizes = {row["hospital"]: row["train"] for row in run.directory.summary()["hospitals"]}
    parts = {
        name: clipped(one.inputs.numpy(), one.targets.numpy(), norm) for name, one in shards.items()
    }
    if noise == "local":  # each divides by its own announced size
        steps = [-lr * parts[name] / sizes[name] for name in parts]
        spread = [lr * 0.02 * norm / sizes[name] / 2 for name in parts]
    else:
        b = sum(sizes.values()) / 2
        steps = [-lr * parts[name] / b for name in parts]
        spread = [lr * 0.02 * norm / b / 2]
    wanted = np.mean(steps, axis=0)
    tolerance = 6 * math.hypot(*spread)
    found = run.outcome.model["weight"].reshape(-1)
    np.testing.assert_allclose(found, wanted, atol=tolerance, rtol=0.003)
    assert not np.allclose(found, wanted, atol=tolerance * 1e-4, rtol=0), "there is no noise"


@pytest.mark.parametrize("noise", ["local", "distributed", "central"])
def test_an_update_is_clipped_as_a_whole(
    settings: Settings, federate: Any, line: Any, noise: str
) -> None:
    """One full-batch step of lr 10 moves far; each hospital's change is cut to the norm."""
    norm = 0.05
    config = settings(
        f"[privacy]\nunit='hospital'\nnoise='{noise}'\nclipping_norm={norm}\n{QUIET}"
        "[training]\nlr=10.0\n"
        f"{MASKS[True]}"
    )
    shards = {"a": rows(X, Y), "b": OTHER}
    run = federate(config, shards, line(features=2))
    change = [(one.targets[:, None] * one.inputs).mean(0).numpy() * 10 for one in shards.values()]
    wanted = np.mean([c * norm / np.linalg.norm(c) for c in change], axis=0)
    found = run.outcome.model["weight"].reshape(-1)
    np.testing.assert_allclose(found, wanted, atol=6 * 0.02 * norm, rtol=0)


def test_the_training_loss_and_true_sizes_stay_at_the_hospital(
    settings: Settings, federate: Any, shards: Any
) -> None:
    seen: list[Any] = []

    def wrap(app: Any) -> Any:
        def call(message: Any, context: Any) -> Any:
            reply = app(message, context)
            seen.append((message.metadata.message_type, reply))
            return reply

        return call

    config = settings("[privacy]\nunit='example'\nnoise_multiplier=1.0\n[federation]\nrounds=2\n")
    run = federate(config, shards, wrap=wrap)
    described = [reply.content["sizes"] for kind, reply in seen if kind == "query.describe"]
    assert all(one["validation"] == one["test"] == 0 for one in described)
    trained = [reply.content for kind, reply in seen if kind == "train"]
    assert len(trained) == 4
    for content in trained:
        assert set(content) == {"arrays", "metrics", "privacy"}
        assert set(content["metrics"]) == {"num-examples", "local-steps"}
    assert all(math.isnan(row["train_loss"]) for row in run.recorder.rows)
    assert [set(row["privacy"]) for row in run.recorder.rows] == [{"a", "b"}] * 2


class Buffered(nn.Module):
    """A parameter, a frozen one, and buffers that take in every row, one of them whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1, bias=False)
        self.frozen = nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))
        self.register_buffer("total", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.rows += len(x)
            self.total += x.detach().sum(0)
        return self.linear(x) + self.frozen(x)


@pytest.mark.parametrize("unit", ["example", "hospital"])
@pytest.mark.parametrize("masked", [True, False])
def test_buffers_leave_as_they_came_and_frozen_parameters_not_at_all(
    settings: Settings, federate: Any, line: Any, shards: Any, unit: str, masked: bool
) -> None:
    """A buffer that counts rows would tell their number; integers too. What is frozen stays."""

    class WithBuffers(line):  # type: ignore[misc]
        def model(self, totals: Any) -> nn.Module:
            return Buffered()

    config = settings(f"[privacy]\nunit='{unit}'\nnoise_multiplier=1.0\n{MASKS[masked]}")
    task = WithBuffers()
    first = build_model(task, {}, config.federation.seed).state_dict()
    after = federate(config, shards, task).outcome.model
    assert "frozen.weight" in first and "frozen.weight" not in after
    for name in ("rows", "total"):
        np.testing.assert_array_equal(after[name], first[name].numpy())
    assert after["linear.weight"] != first["linear.weight"].numpy()


def test_noise_has_the_promised_variance_in_every_coordinate(
    settings: Settings, federate: Any, line: Any
) -> None:
    """Two hospitals, zero gradients (y = 0): what the model is after a round is noise alone."""
    features, z, norm, lr = 400, 1.3, 0.5, 0.1
    zeros = rows([[0.0] * features] * 4, [0.0] * 4)
    for noise, place in (("local", 0), ("distributed", 1), ("central", 1)):
        config = settings(
            f"[privacy]\nunit='example'\nnoise='{noise}'\nclipping_norm={norm}\n"
            f"noise_multiplier={z}\nsize_noise=0.5\n"
            f"[training]\nlocal_steps=1\nlr={lr}\n[strategy]\nweighting='uniform'\n"
            f"{MASKS[True]}"
        )
        run = federate(config, {"a": zeros, "b": zeros}, line(features=features))
        sizes = [row["train"] for row in run.directory.summary()["hospitals"]]
        if place == 0:
            wanted = lr * z * norm / 2 * math.sqrt(sum(1 / n**2 for n in sizes))
        else:
            wanted = lr * z * norm / 2 / (sum(sizes) / 2)
        found = run.outcome.model["weight"].reshape(-1)
        statistic = (found**2).sum() / wanted**2
        low, high = chi2.ppf([EACH, 1 - EACH], features)
        assert 0.99 * low < statistic < 1.02 * high, noise


def test_units_keep_whole_patients_and_cap_their_records() -> None:
    groups = np.array(["b", "a", "b", "c", "b", "a"])
    units = Units.of(groups, 2, 0)
    assert len(units) == 3
    parts = [units.rows[a:b] for a, b in zip(units.starts, units.starts[1:], strict=False)]
    assert [set(groups[part]) for part in parts] == [{"a"}, {"b"}, {"c"}]
    assert [len(part) for part in parts] == [2, 2, 1]
    drawn = {tuple(sorted(Units.of(groups, 1, s).rows)) for s in range(40)}
    assert len(drawn) > 3, "the capped records are drawn, not the first ones"


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=40), st.sampled_from("abcd"))
def test_who_else_is_there_changes_nothing_for_a_patients_capped_records(
    patients: list[str], away: str
) -> None:
    """The seed is no secret: were others' records drawn anew, one patient would move them all."""
    groups = np.array(patients)
    left = np.flatnonzero(groups != away)
    everyone, others = Units.of(groups, 3, 7), Units.of(groups[left], 3, 7)
    kept = [row for row in everyone.rows if groups[row] != away]
    assert kept == left[others.rows].tolist()


@pytest.mark.parametrize("noise", ["local", "central"])
@pytest.mark.parametrize("simulated", [True, False])
def test_dropout_in_private_steps_is_secret_but_in_simulations(
    settings: Settings, line: Any, noise: str, simulated: bool
) -> None:
    """With the same draw of rows and the same noise each time."""

    class Dropping(line):  # type: ignore[misc]
        def model(self, totals: Any) -> nn.Module:
            return nn.Sequential(nn.Dropout(0.5), super().model(totals))

    config = settings(
        f"[privacy]\nunit='example'\nnoise='{noise}'\n{QUIET}[training]\nlocal_steps=1\n"
    )
    data = Examples(torch.ones(20, 30), torch.ones(20))
    shard = OwnShard("a", Dropping(features=30), config, lambda: data)
    hospital = Hospital(shard, place=Place(simulated=simulated))
    request = TrainRequest(SentModel(ArrayRecord(), 1))
    found = []
    for _ in range(2):
        model = build_model(hospital.task, {}, 1)
        proposal = Proposal("run", 1, 1, 1, 1.0, 20.0, 1.0)
        private = PrivateRound(hospital, proposal, Schedule(0.02, 1.0, 1, 1, 20.0))
        private.source = NoiseSource.seeded(3, "test")
        plain = Plain(dict(model.named_parameters()), request, ClientState(RecordDict()))
        work = local_update(hospital, model, data, model_arrays(model), plain, private)
        found.append((work.protect or work.arrays)["1.weight"])
    assert np.array_equal(*found) == simulated


@pytest.mark.parametrize("unit", ["example", "hospital"])
def test_a_buffer_leaves_as_it_came_whatever_a_forward_pass_puts_into_it(
    settings: Settings, line: Any, unit: str
) -> None:
    """No noise is on it. Remembering the last batch is allowed, and so is a new tensor."""

    class Showing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("written", torch.zeros(30))
            self.register_buffer("anew", torch.zeros(30))

        def forward(self, x: Tensor) -> Tensor:
            self.written.copy_(x.detach().mean(0))
            self.anew = x.detach().mean(0)
            return x

    class Kept(line):  # type: ignore[misc]
        def model(self, totals: Any) -> nn.Module:
            return nn.Sequential(Showing(), super().model(totals))

    config = settings(f"[privacy]\nunit='{unit}'\n{QUIET}[training]\nlocal_steps=2\n")
    data = Examples(torch.rand(20, 30), torch.rand(20))
    shard = OwnShard("a", Kept(features=30), config, lambda: data)
    hospital = Hospital(shard, place=Place(simulated=True))
    model = build_model(hospital.task, {}, 1)
    before = model_arrays(model)
    private = PrivateRound(
        hospital, Proposal("run", 1, 1, 1, 1.0, 20.0, 1.0), Schedule(0.02, 1.0, 2, 1, 20.0)
    )
    request = TrainRequest(SentModel(ArrayRecord(), 1))
    plain = Plain(dict(model.named_parameters()), request, ClientState(RecordDict()))
    work = local_update(hospital, model, data, before, plain, private)
    told = work.arrays if work.protect is None else before | work.protect
    for name in ("0.written", "0.anew"):
        assert np.array_equal(told[name], before[name]) and not before[name].any()
