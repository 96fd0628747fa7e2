"""The sides of ``benchmarks.simulation`` that share our environment.

    python -m benchmarks.simulation_sides SIDE WORKLOAD CLIENTS ROUNDS

SIDE: an executor's name, 'bf16' ('processes-sequential' in mixed precision), 'masked' (secure
aggregation), 'private' (each client's update clipped, noise on the mean, a ledger of its own),
'engine' (the training of a cohort alone, beside the product), 'loop' (a plain loop over deep
copies, one thread) or 'flower' (Flower's engine, two one-CPU actors). Prints the seconds of each
round; of ours, from one commit to the next.
"""

from __future__ import annotations

import copy
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.simulation_work import BATCH, EXAMPLES, LR, WORKLOADS, pooled

PRIVATE = """
[privacy]
unit = "hospital"
noise = "central"
clipping_norm = 0.5
noise_multiplier = 0.5
"""
STEPS = 5
DP_SGD = f"""
[privacy]
unit = "example"
clipping_norm = 1.0
noise_multiplier = 1.0
size_noise = 1.0
[training]
local_steps = {STEPS}
"""


def main() -> None:
    """Run one side and print."""
    side, name, clients, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sides = {"flower": flower, "loop": loop, "engine": engine, "opacus": opacus}
    seconds = (
        sides[side](name, clients, rounds) if side in sides else ours(side, name, clients, rounds)
    )
    print("RESULT " + json.dumps(seconds), flush=True)


def make_task(name: str, clients: int) -> Any:
    """The workload as a task of ours."""
    from wardround.common.figures.sums import Sums
    from wardround.common.tasks.base import Examples, Task

    class Work(Task[Examples]):
        def load(self, path: Path | None) -> Examples:
            return Examples(*pooled(name, clients))

        def model(self, totals: Sums) -> torch.nn.Module:
            return WORKLOADS[name].make()

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(outputs, targets, reduction="none")

        def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> Sums:
            return {"loss": np.array([float(self.loss(outputs, targets).sum())])}

        def summarise(self, sums: Sums) -> dict[str, float]:
            return {"loss": float(sums["loss"][0])}

    return Work()


def ours(side: str, name: str, clients: int, rounds: int) -> list[float]:
    """Through ``simulate``: grid, messages, strategy, checks, commits."""
    from wardround.server.observer import Observer
    from wardround.simulations import parse_config, simulate

    class Clock(Observer):
        stamps: list[float] = []

        def round_committed(self, row: dict[str, Any]) -> None:
            self.stamps.append(time.perf_counter())

    masked, private = side == "masked", {"private": PRIVATE, "dp-sgd": DP_SGD}.get(side, "")
    executor = {"bf16": "processes-sequential"} | dict.fromkeys(
        ("masked", "private", "dp-sgd"), "cohort"
    )
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            f"[federation]\nrounds = {rounds + 1}\nruns = '{folder}'\n[data]\ntest_fraction = 0.0\n"
            f"[training]\nlr = {LR}\nbatch_size = {BATCH}\n"
            f"precision = '{'bf16' if side == 'bf16' else 'float32'}'\n"
            + private.partition("[training]")[2]
            + f"\n"
            f"[secure_aggregation]\nenabled = {str(masked).lower()}\n"
            f"[simulation]\nclients = {clients}\npartition = 'iid'\nbaselines = false\n"
            f"executor = '{executor.get(side, side)}'\n" + private.partition("[training]")[0]
        )
        clock = Clock()
        simulate(config, task=make_task(name, clients), observer=clock)
    return [b - a for a, b in zip(clock.stamps, clock.stamps[1:], strict=False)]


def engine(name: str, clients: int, rounds: int) -> list[float]:
    """The cohort's training and the sum of its updates, without anything around them."""
    from wardround.client.data.hospital import Hospital
    from wardround.client.data.shard import OwnShard
    from wardround.simulations import parse_config
    from wardround.simulations.executors.example_pool import Client
    from wardround.simulations.executors.trainer import CohortTrainer, Terms

    torch.set_num_threads(1)
    task = make_task(name, clients)
    config = parse_config(
        f"[data]\ntest_fraction = 0.0\n[training]\nlr = {LR}\nbatch_size = {BATCH}\n"
    )
    examples = task.load(None)
    shards = [
        examples.select(np.arange(start, start + EXAMPLES))
        for start in range(0, clients * EXAMPLES, EXAMPLES)
    ]
    everyone = []
    for number, shard in enumerate(shards):
        own = OwnShard(f"h{number}", task, config, lambda x=shard: x)  # type: ignore[misc]
        everyone.append(Client(number, Hospital(own), shard))
    model = WORKLOADS[name].make()
    trainer = CohortTrainer(model, task, config)
    start = {key: p.detach().clone() for key, p in model.named_parameters()}
    terms = Terms(start, {}, shared=frozenset(start))
    seconds = []
    for number in range(rounds + 1):
        started = time.perf_counter()
        for chunk in trainer.chunks(everyone, corrected=False):
            trained = trainer.train(chunk, number, terms)
            assert trained is not None
            trained.result.weighted_change(torch.full((len(chunk),), float(EXAMPLES)))
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def loop(name: str, clients: int, rounds: int) -> list[float]:
    """A deep copy, a fresh optimiser and a difference of state dicts for each client."""
    torch.set_num_threads(1)
    model = WORKLOADS[name].make().train()
    inputs, targets = pooled(name, clients)
    parts = list(zip(inputs.split(EXAMPLES), targets.split(EXAMPLES), strict=True))
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        total = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
        for x, y in parts:
            local = copy.deepcopy(model)
            optimizer = torch.optim.SGD(local.parameters(), lr=LR)
            for rows in torch.randperm(EXAMPLES).split(BATCH):
                optimizer.zero_grad()
                F.cross_entropy(local(x[rows]), y[rows]).backward()
                optimizer.step()
            for key, value in local.state_dict().items():
                total[key] += value
        model.load_state_dict({key: value / clients for key, value in total.items()})
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def opacus(name: str, clients: int, rounds: int) -> list[float]:
    """DP-SGD by Opacus in a plain loop: each client's five steps on Poisson draws
    of its own, at the noise of 'dp-sgd', by torch's generator."""
    from opacus import PrivacyEngine
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    model = WORKLOADS[name].make().train()
    inputs, targets = pooled(name, clients)
    parts = list(zip(inputs.split(EXAMPLES), targets.split(EXAMPLES), strict=True))
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        total = {key: torch.zeros_like(value) for key, value in model.state_dict().items()}
        for x, y in parts:
            local = copy.deepcopy(model)
            made = PrivacyEngine(accountant="rdp").make_private(
                module=local,
                optimizer=torch.optim.SGD(local.parameters(), lr=LR),
                data_loader=DataLoader(TensorDataset(x, y), batch_size=BATCH),
                noise_multiplier=1.0,
                max_grad_norm=1.0,
            )
            wrapped, optimizer, loader = made
            for rows, labels in loader:
                optimizer.zero_grad()
                F.cross_entropy(wrapped(rows), labels).backward()
                optimizer.step()
            for key, value in local.state_dict().items():
                total[key] += value
        model.load_state_dict({key: value / clients for key, value in total.items()})
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def flower(name: str, clients: int, rounds: int) -> list[float]:
    """Flower's simulation engine, FedAvg."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.getcwd()  # where its actors find the work
    import logging

    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    logging.getLogger("flwr").setLevel(logging.ERROR)
    client, server = ClientApp(), ServerApp()
    stamps: list[float] = []

    @client.train()
    def train(message: Message, context: Context) -> Message:
        # imported here: what this function finds in its module would be sent along, torch itself
        import torch
        import torch.nn.functional as F

        from benchmarks.simulation_work import WORKLOADS

        torch.set_num_threads(1)
        model = WORKLOADS[name].make().train()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        generator = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
        work = WORKLOADS[name]
        inputs = torch.randn(EXAMPLES, *work.shape, generator=generator)
        targets = torch.randint(0, work.classes, (EXAMPLES,), generator=generator)
        optimizer = torch.optim.SGD(model.parameters(), lr=LR)
        for rows in torch.randperm(EXAMPLES).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
        content = {
            "arrays": ArrayRecord(model.state_dict()),
            "metrics": MetricRecord({"num-examples": EXAMPLES}),
        }
        return Message(RecordDict(content), reply_to=message)

    class Timed(FedAvg):
        def configure_train(self, *args: Any, **kwargs: Any) -> Any:
            stamps.append(time.perf_counter())
            return super().configure_train(*args, **kwargs)

        def aggregate_train(self, server_round: int, replies: Any) -> Any:
            replies = list(replies)
            if any(reply.has_error() for reply in replies):  # a failure would look fast
                raise RuntimeError(replies[0].error.reason)
            return super().aggregate_train(server_round, replies)

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        strategy = Timed(
            fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients
        )
        arrays = ArrayRecord(WORKLOADS[name].make().state_dict())
        strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds + 1)
        stamps.append(time.perf_counter())

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0}, "init_args": {"num_cpus": 2}}
    run_simulation(server, client, clients, backend_config=resources)  # type: ignore[arg-type]
    return [b - a for a, b in zip(stamps, stamps[1:], strict=False)][1:]


if __name__ == "__main__":
    main()
