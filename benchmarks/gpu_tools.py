"""What the parts of ``benchmarks.gpu`` share: the device, its clock, networks and images."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.report import Row
from benchmarks.simulation_sides import make_task
from benchmarks.simulation_work import WORKLOADS, Workload
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import parse_config
from wardround.common.tasks.base import Examples
from wardround.common.tasks.imaging.networks import with_group_norm

SEED = (1, 1, "north")


class Bench:
    """The device, how much work it gets, and the rows so far."""

    def __init__(self, device: str, quick: bool) -> None:
        self.device, self.quick, self.rows = device, quick, list[Row]()
        self.gpu = device.startswith("cuda")
        self.seconds = 0.5 if quick or not self.gpu else 3.0

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.gpu:
            torch.cuda.synchronize()

    def rate(self, step: Callable[[], Any], per_step: float) -> float:
        """``per_step`` things a call: per second, the median of calls after two."""
        for _ in range(2):
            step()
        self.wait()
        found, until = [], time.perf_counter() + self.seconds
        while len(found) < 3 or (time.perf_counter() < until and len(found) < 500):
            started = time.perf_counter()
            step()
            self.wait()
            found.append(per_step / (time.perf_counter() - started))
        return statistics.median(found)

    def peak_gb(self, step: Callable[[], Any]) -> float | None:
        """Of one step, above what lies there; None on a CPU."""
        if not self.gpu:
            return None
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        self.wait()
        return (torch.cuda.max_memory_allocated() - before) / 1e9

    def add(
        self, case: str, metric: str, value: float | None, better: str = "higher", **peers: Any
    ) -> None:
        """A row, where there is a figure."""
        if value is not None:
            self.rows.append(Row(case, metric, value, better, dict(peers)))


def resnet18() -> nn.Module:
    """For images of 32 x 32, groups of channels in the place of batches."""
    from monai.networks.nets import resnet18 as of_monai

    body = of_monai(
        spatial_dims=2, n_input_channels=3, num_classes=10, no_max_pool=True, conv1_t_size=3
    )
    return with_group_norm(body, 8)


WORKLOADS["resnet18"] = Workload(resnet18, (3, 32, 32), 10, 0)


def images(count: int, shape: tuple[int, ...] = (3, 32, 32)) -> Examples:
    """Random ones of ten classes."""
    return Examples(torch.randn(count, *shape), torch.randint(0, 10, (count,)))


def trainer(
    bench: Bench, model: nn.Module, data: Examples, batch: int, **options: Any
) -> Callable[[], Any]:
    """An epoch as a hospital trains it."""
    task = make_task("cnn", 1)
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    config = parse_config(
        "\n".join(
            ["[training]", f"device = '{bench.device}'", f"batch_size = {batch}", "lr = 0.01"]
            + lines
        )
    )
    return lambda: train_on_batches(model, data, task, config, SEED)
