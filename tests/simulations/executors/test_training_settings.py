"""How clients train holds in every executor; what a cohort can't do, it does one client at a time
and says why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.client.small_models import residual
from wardround.common.config.load import parse_config
from wardround.common.settings import TrainingTable
from wardround.simulations.executors import make_executor
from wardround.simulations.executors.trainer import one_at_a_time
from wardround.simulations.executors.workers.processes import processes

ONE_AT_A_TIME = {
    "processes = 2": "training.processes = 2, and a simulated client has one process",
    "precision = 'bf16'": "training.precision = 'bf16'",
    "micro_batch_size = 3": "training.micro_batch_size = 3",
    "checkpoint_activations = true": "training.checkpoint_activations = true",
    "distillation = 0.5": "training.distillation = 0.5",
}
TOGETHER = [
    "schedule = 'cosine'",
    "schedule = 'linear'\nwarmup_rounds = 1",
    "schedule = 'step'\nlr_decay = 0.5\nstep_rounds = 1",
    "schedule = 'constant'",
]


def text(line: str, more: str = "") -> str:
    return (
        "[federation]\nrounds = 3\nseed = 5\n[data]\ntest_fraction = 0.3\n"
        f"[training]\nbatch_size = 4\nlr = 0.3\n{line}\n{more}"
    )


def models(run: Any) -> Any:
    return run.outcome.model.items()


@pytest.fixture
def scores(net: type) -> Any:
    """The conftest's task with residual blocks; its outputs are scores of classes."""
    own = {"class_scores": True, "model": lambda self, totals: residual(2, dropout=0.2)}
    return type("Scores", (net,), own)()


@pytest.mark.parametrize("strategy", ["fedavg", "scaffold"])
@pytest.mark.parametrize("line", [*ONE_AT_A_TIME, *TOGETHER])
def test_executors_agree(settings, federate, scores, make_hospitals, line, strategy) -> None:
    config = settings(text(line, f"[strategy]\nname = '{strategy}'\n"))
    shards = make_hospitals([7, 1, 12, 5])
    single = federate(config, shards, scores)
    executor = make_executor("cohort")
    cohort = federate(config, shards, scores, executor=executor)
    for (name, value), (_, other) in zip(models(single), models(cohort), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=2e-5, err_msg=name)
    reason = ONE_AT_A_TIME.get(line)
    expected = [f"clients train one at a time: {reason}"] if reason else []
    assert executor.notes() == expected


def test_processes_tell_it_too(settings, federate, scores, make_hospitals) -> None:
    config = settings(text("distillation = 0.5"))
    shards = make_hospitals([7, 1, 12, 5])
    single = federate(config, shards, scores)
    executor = processes(2)
    try:
        spread = federate(config, shards, scores, executor=executor)
        assert executor.notes() == ["clients train one at a time: training.distillation = 0.5"]
    finally:
        executor.close()
    for (name, value), (_, other) in zip(models(single), models(spread), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=2e-5, err_msg=name)


def test_every_key_was_thought_of() -> None:
    """A key of ``[training]`` is one that cohorts honour, or one that they refuse."""
    honoured = {
        "optimizer", "lr", "schedule", "lr_decay", "step_rounds", "warmup_rounds", "momentum",
        "weight_decay", "batch_size", "local_epochs", "local_steps", "max_grad_norm", "device",
        "compile", "distillation_temperature",
    }  # fmt: skip
    refused = {line.partition(" =")[0] for line in ONE_AT_A_TIME}
    assert honoured | refused == set(TrainingTable.model_fields)
    assert one_at_a_time(TrainingTable(compile=True, optimizer="adam")) is None
    for line, reason in ONE_AT_A_TIME.items():
        assert one_at_a_time(parse_config(f"[training]\n{line}\n").training) == reason
