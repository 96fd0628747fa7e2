"""The forms of local training, each on models that it suits, by the number of clients in a chunk.

    python -m benchmarks.forms [--quick] [--json PATH]

Clients per second of the cohort's training alone (50 examples, one epoch of SGD in batches of 10),
median of some passes, beside one client after the other in the same run. The chunk sizes show where
a core's cache ends; 'norm' is a model with layer normalisation, which the dense form doesn't take.
'vmap, compiled' leaves out the time to compile, which is a row of its own.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.report import Row, arguments, emit
from benchmarks.simulation_work import BATCH, EXAMPLES, LR, WORKLOADS
from wardround.client.data.hospital import Hospital
from wardround.client.data.shard import OwnShard
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import Config, parse_config
from wardround.common.figures.sums import Sums
from wardround.common.model.named import load_arrays, model_arrays
from wardround.common.tasks.base import Examples, Task
from wardround.simulations.executors.engines.dense import Dense
from wardround.simulations.executors.engines.vmapped import Vmapped
from wardround.simulations.executors.example_pool import Client
from wardround.simulations.executors.trainer import CohortTrainer, Terms

MODELS: dict[str, tuple[Any, tuple[int, ...], int]] = {
    name: (work.make, work.shape, work.classes) for name, work in WORKLOADS.items()
} | {
    "norm": (
        lambda: nn.Sequential(nn.Linear(30, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 2)),
        (30,),
        2,
    )
}
FULL = (
    ("logreg", "dense", (64, 256, 1024, 4096)),
    ("logreg", "vmap", (256,)),
    ("mlp", "dense", (4, 16, 64, 256)),
    ("mlp", "vmap", (4, 16)),
    ("cnn", "vmap", (2, 8)),
    ("norm", "vmap", (16, 64, 256)),
    ("norm", "vmap, compiled", (256,)),
)
QUICK = (("logreg", "dense", (256, 1024)), ("mlp", "dense", (16, 64)), ("norm", "vmap", (64,)))


class Work(Task[Examples]):
    """A model of the table."""

    def __init__(self, name: str) -> None:
        self._name = name

    def load(self, path: Any) -> Examples:
        raise NotImplementedError

    def model(self, totals: Sums) -> nn.Module:
        model: nn.Module = MODELS[self._name][0]()
        return model

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets, reduction="none")

    def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> Sums:
        return {}

    def summarise(self, sums: Sums) -> dict[str, float]:
        return {}


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    rows, passes = [], 3 if options.quick else 7
    for name, form, chunks in QUICK if options.quick else FULL:
        alone = _alone(name, passes)
        for chunk in chunks:
            speed, first_s = _together(name, form, chunk, passes)
            case = f"{name}, {form}, {chunk} at once"
            peers = {"one at a time": alone}
            rows.append(Row(case, "clients per second", speed, "higher", peers))
            if "compiled" in form:
                rows.append(Row(case, "first pass, s", first_s, "lower"))
    emit("Forms of local training, one thread", rows, options.json)


def _config() -> Config:
    return parse_config(
        f"[data]\ntest_fraction = 0.0\n[training]\nlr = {LR}\nbatch_size = {BATCH}\n"
    )


def _clients(name: str, count: int) -> list[Client]:
    _, shape, classes = MODELS[name]
    generator, task, config = torch.Generator().manual_seed(0), Work(name), _config()
    found = []
    for number in range(count):
        inputs = torch.randn(EXAMPLES, *shape, generator=generator)
        shard = Examples(inputs, torch.randint(0, classes, (EXAMPLES,), generator=generator))
        own = OwnShard(f"h{number}", task, config, lambda x=shard: x)  # type: ignore[misc]
        hospital = Hospital(own)
        found.append(Client(number, hospital, shard))
    return found


def _alone(name: str, passes: int) -> float:
    """Clients per second, one after the other, as a hospital trains."""
    model, task, config = Work(name).model({}), Work(name), _config()
    clients, times = _clients(name, 4), []
    start = model_arrays(model)
    for number in range(passes + 1):
        started = time.perf_counter()
        for client in clients:
            load_arrays(model, start)
            seed = (0, number, client.hospital.name)
            train_on_batches(model, client.examples, task, config, seed)
        times.append(time.perf_counter() - started)
    return len(clients) / statistics.median(times[1:])


def _together(name: str, form: str, count: int, passes: int) -> tuple[float, float]:
    """Clients per second of one chunk of ``count``, and the seconds of the first pass."""
    task, config = Work(name), _config()
    model = task.model({})
    trainer = CohortTrainer(model, task, config)
    kind = Dense(model, task) if form == "dense" else Vmapped(model, task, "compiled" in form)
    trainer.use(kind)
    start = {key: p.detach().clone() for key, p in model.named_parameters()}
    terms, clients, times = Terms(start, {}, shared=frozenset(start)), _clients(name, count), []
    for number in range(passes + 1):
        started = time.perf_counter()
        trained = trainer.train(clients, number, terms)
        assert trained is not None, trainer.notes
        trained.result.weighted_change(torch.from_numpy(np.ones(count, np.float32)))
        times.append(time.perf_counter() - started)
    return count / statistics.median(times[1:]), times[0]


if __name__ == "__main__":
    main()
