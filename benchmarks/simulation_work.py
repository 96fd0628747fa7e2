"""The work that every side of ``benchmarks.simulation`` does; imports nothing but torch.

K clients a round, all of them, each with 50 examples of its own, one epoch of SGD in batches of 10,
no evaluation. The shapes are those of pfl-research's own benchmarks, smaller.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EXAMPLES, BATCH, LR = 50, 10, 0.1


def cnn() -> nn.Module:
    """pfl-research's ``simple_cnn`` for CIFAR-10, with channels first."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(12544, 128),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(128, 10),
    )


def mlp() -> nn.Module:
    """784 to 200 to 10."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 10))


def logreg() -> nn.Module:
    """30 inputs, two classes."""
    return nn.Linear(30, 2)


@dataclass(frozen=True)
class Workload:
    """A model and its data. ``flops``: forward and backward of one example."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    flops: int


_CONV = 30 * 30 * 32 * 27, 28 * 28 * 64 * 288
WORKLOADS = {
    "logreg": Workload(logreg, (30,), 2, 4 * 60),
    "mlp": Workload(mlp, (28, 28), 10, 6 * (784 * 200 + 2000) - 2 * 784 * 200),
    "cnn": Workload(cnn, (3, 32, 32), 10, 6 * (sum(_CONV) + 12544 * 128 + 1280) - 2 * _CONV[0]),
}


def pooled(name: str, clients: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all clients, client after client."""
    work, generator = WORKLOADS[name], torch.Generator().manual_seed(0)
    inputs = torch.randn(clients * EXAMPLES, *work.shape, generator=generator)
    return inputs, torch.randint(0, work.classes, (clients * EXAMPLES,), generator=generator)


def gemm_gflops() -> float:
    """What one thread reaches in a large product, 10^9 operations per second."""
    torch.set_num_threads(1)
    one, other = torch.randn(1024, 1024), torch.randn(1024, 1024)
    times = []
    for _ in range(12):
        started = time.perf_counter()
        torch.mm(one, other)
        times.append(time.perf_counter() - started)
    return 2 * 1024**3 / statistics.median(times) / 1e9
