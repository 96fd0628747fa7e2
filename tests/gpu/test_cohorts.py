"""Cohorts of clients in one computation on the GPU: what one after the other gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Examples, Task
from wardround.common.tasks.imaging.networks import with_group_norm
from wardround.simulations.executors import make_executor
from wardround.simulations.executors.workers.processes import processes

SIZES = [7, 1, 12, 33, 12, 5]
SHAPES = {"mlp": (28, 28), "cnn": (3, 16, 16), "resnet18": (3, 8, 8)}


def resnet18() -> nn.Module:
    """With groups of channels in the place of batches, for images of 8 x 8."""
    nets = pytest.importorskip("monai.networks.nets")
    body = nets.resnet18(
        spatial_dims=2, n_input_channels=3, num_classes=4, no_max_pool=True, conv1_t_size=3
    )
    return with_group_norm(body, 8)


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(392, 4),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 4))


MODELS = {"mlp": mlp, "cnn": cnn, "resnet18": resnet18}


class Pictures(Task[Examples]):
    """Four classes; the last hospital lacks one of them."""

    primary_metric = "loss"

    def __init__(self, form: str) -> None:
        self.form = form

    def load(self, path: Path | None) -> Examples:
        raise NotImplementedError

    def model(self, totals: Sums) -> nn.Module:
        return MODELS[self.form]()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        losses = self.loss(outputs, targets).double()
        return {"loss": losses.sum().reshape(1).cpu().numpy(), "n": np.array([float(len(losses))])}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {"loss": float(sums["loss"][0]) / max(1.0, float(sums["n"][0]))}


def hospitals(form: str) -> dict[str, Examples]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"h{number}": Examples(
            torch.randn(size, *SHAPES[form], generator=generator),
            torch.randint(0, 3 if number == 5 else 4, (size,), generator=generator),
        )
        for number, size in enumerate(SIZES)
    }


def text(device: str) -> str:
    return (
        f"[training]\nbatch_size = 4\nlr = 0.05\ndevice = '{device}'\n"
        "[federation]\nrounds = 2\nseed = 5\nmin_clients = 1\n"
    )


@pytest.mark.parametrize("form", MODELS)
def test_a_cohorts_model_is_the_one_of_single_clients_on_the_cpu(
    settings, federate, device, form
) -> None:
    task, shards = Pictures(form), hospitals(form)
    if form == "cnn":  # each device has dropout's numbers of its own
        task.model = lambda totals: nn.Sequential(*(x for x in cnn() if type(x) is not nn.Dropout))
    executor = make_executor("cohort")
    cohort = federate(settings(text(device)), shards, task, executor=executor)
    assert not executor.notes()
    single = federate(settings(text("cpu")), shards, task)
    for name, value in single.outcome.model.items():
        there = cohort.outcome.model[name]
        scale = max(1.0, float(np.abs(value).max()))
        # convolutions of float32 are in TF32 on a GPU, ten bits of mantissa
        assert np.abs(value - there).max() <= 5e-3 * scale, name


def test_it_is_the_same_model_twice(settings, federate, device) -> None:
    task, shards = Pictures("mlp"), hospitals("mlp")
    one, other = (
        federate(settings(text(device)), shards, task, executor=make_executor("cohort"))
        for _ in range(2)
    )
    for name, value in one.outcome.model.items():
        assert np.array_equal(value, other.outcome.model[name]), name


def test_two_processes_share_one_gpu(settings, federate, device) -> None:
    task, shards = Pictures("mlp"), hospitals("mlp")
    executor = processes(2)
    try:
        spread = federate(settings(text(device)), shards, task, executor=executor)
        assert not executor.notes()
    finally:
        executor.close()
    alone = federate(settings(text(device)), shards, task, executor=make_executor("cohort"))
    for name, value in alone.outcome.model.items():
        assert np.abs(value - spread.outcome.model[name]).max() <= 1e-4, name
