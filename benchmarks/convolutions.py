"""Local training of image networks, with convolutions' weights channels innermost and as they lie.

    python -m benchmarks.convolutions [--quick] [--json PATH]

One thread of a CPU, SGD, the product's own local steps (``client/training``) on random images; the
peer is the same steps with the weights in torch's usual order. Processor time of a step, the least
of several turns in which all take part: another process' work only adds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest import mock

import torch
from monai.networks.nets import DenseNet121, resnet18
from torch import nn

from benchmarks.report import Row, arguments, emit
from benchmarks.simulation_sides import make_task
from benchmarks.simulation_work import cnn
from wardround.client.training import steps
from wardround.common.config.load import parse_config
from wardround.common.tasks.base import Examples
from wardround.common.tasks.imaging.networks import with_group_norm

Case = tuple[Callable[[], nn.Module], tuple[int, ...], int]
"""A network, the shape of an image, the size of a batch."""
CASES: dict[str, Case] = {
    "pfl's CNN for CIFAR-10, batches of 10": (cnn, (3, 32, 32), 10),
    "ResNet-18, group norm, 64 x 64, 8": (
        lambda: with_group_norm(resnet18(spatial_dims=2, n_input_channels=1, num_classes=2), 8),
        (1, 64, 64),
        8,
    ),
    "DenseNet-121, 64 x 64, 4": (
        lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=2),
        (1, 64, 64),
        4,
    ),
}


def round_of(case: Case, precision: str) -> Callable[[], None]:
    """Five steps of local training."""
    make, shape, batch = case
    torch.manual_seed(0)
    model, count = make(), 5 * batch
    examples = Examples(torch.randn(count, *shape), torch.arange(count) % 2)
    config = parse_config(
        f"[training]\nlr = 1e-4\nbatch_size = {batch}\nprecision = '{precision}'\n"
    )
    task = make_task("cnn", 1)
    return lambda: void(steps.train_on_batches(model, examples, task, config, (0, 1, "a")))


def void(_: object) -> None:
    """Nothing of it."""


def processor_ms(one: Callable[[], None]) -> float:
    """Of a step."""
    started = time.process_time()
    one()
    return 1e3 * (time.process_time() - started) / 5


def measure(name: str, turns: int) -> list[Row]:
    """The rows of one network."""
    rows = []
    for precision in ("float32", "bf16"):
        inner = round_of(CASES[name], precision)
        usual, least = round_of(CASES[name], precision), [float("inf")] * 2
        for turn in range(turns + 1):
            found = [processor_ms(inner)]
            with mock.patch.object(steps, "channels_last", lambda *_: nullcontext()):
                found.append(processor_ms(usual))
            if turn:  # the first one chooses kernels
                least = [min(pair) for pair in zip(least, found, strict=True)]
        peers: dict[str, float | None] = {"usual order": least[1]}
        rows.append(Row(f"{name}, {precision}", "processor ms of a step", least[0], "lower", peers))
        rows.append(Row(f"{name}, {precision}", "times as fast", least[1] / least[0], "higher"))
    return rows


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    rows = [row for name in CASES for row in measure(name, 2 if options.quick else 10)]
    emit("Convolutions with channels innermost, one thread", rows, options.json)


if __name__ == "__main__":
    main()
