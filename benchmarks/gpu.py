"""What one GPU does for a hospital and for a simulation, in a few minutes: ``make gpu``.

    python -m benchmarks.gpu [--device cuda|cpu] [--quick] [--json PATH]

Everything beside the same machine's CPU (one thread a core) or a peer of the same run:

cohorts      clients per second of MLP 784-200-10, pfl's CNN for CIFAR-10 and ResNet-18 with groups
             of channels; 50 examples a client, batches of 10; pfl-research's own loop on the same
             GPU where ``make bench-peers`` has set it up (a plain loop of torch stands beside it)
precision    examples per second of the CNN in float32, bf16 and fp16
private      examples per second of a private step, ours beside Opacus' fastest, example and patient
             level; noise from torch on both sides, and ours from the operating system
prefetch     batches of images that are copied ahead beside batches that aren't
memory       GB at the peak with activations kept and computed again
compile      steps per second compiled and plain
language     tokens per second and GB of LoRA on the model of 135 M, by form of its base
shared       two processes on one GPU beside one: examples per second together
several      two GPUs (nccl) beside one, where there are two

A part that can't run (no wheel, no second GPU) is said, and leaves its cells empty. On the CPU
(``--device cpu``) it takes the same ways with less work: to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_private import language, private, several
from benchmarks.gpu_tools import Bench, images, resnet18, trainer
from benchmarks.report import Row, emit
from benchmarks.simulation_sides import make_task
from benchmarks.simulation_work import EXAMPLES, LR, WORKLOADS
from wardround.client.training.batches import batches, on_device
from wardround.common.config.load import parse_config
from wardround.common.rng import client_keys
from wardround.common.settings import TrainingTable
from wardround.server.observer import Observer
from wardround.simulations import simulate

PFL = Path(".peers/pfl/bin/python")


def cohorts(bench: Bench) -> None:
    """Through ``simulate``, from commit to commit; a plain loop and pfl on the same device."""
    sizes = {"mlp": 1000, "cnn": 100, "resnet18": 20} if bench.gpu else {"mlp": 20, "cnn": 4}
    for name, clients in sizes.items():
        ours = clients / statistics.median(simulated(name, clients, bench.device, "cohort"))
        one_by_one = clients / statistics.median(
            simulated(name, clients, bench.device, "sequential", rounds=1)
        )
        loop = clients / plain_loop(name, clients, bench)
        peers = {"sequential": one_by_one, "torch loop": loop, "pfl": pfl(name, clients, bench)}
        bench.add(f"cohort, {name}, {clients} clients", "clients per second", ours, **peers)


def simulated(name: str, clients: int, device: str, executor: str, rounds: int = 3) -> list[float]:
    """Seconds of each round but the first."""

    class Clock(Observer):
        stamps: list[float] = []

        def round_committed(self, row: dict[str, Any]) -> None:
            self.stamps.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            f"[federation]\nrounds = {rounds + 1}\nruns = '{folder}'\n[data]\ntest_fraction = 0.0\n"
            f"[training]\nlr = {LR}\nbatch_size = 10\ndevice = '{device}'\n"
            "[secure_aggregation]\nenabled = false\n"
            f"[simulation]\nclients = {clients}\npartition = 'iid'\nbaselines = false\n"
            f"executor = '{executor}'\n"
        )
        clock = Clock()
        clock.stamps = []
        simulate(config, task=make_task(name, clients), observer=clock)
    return [b - a for a, b in zip(clock.stamps, clock.stamps[1:], strict=False)]


def plain_loop(name: str, clients: int, bench: Bench) -> float:
    """Seconds of a round of the shortest loop that one would write for this device."""
    work = WORKLOADS[name]
    model = work.make().to(bench.device)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = torch.randn(EXAMPLES, *work.shape, device=bench.device)
    targets = torch.randint(0, work.classes, (EXAMPLES,), device=bench.device)
    count = min(clients, 20)

    def some() -> None:
        for _ in range(count):
            model.load_state_dict(start)
            optimizer = torch.optim.SGD(model.parameters(), lr=LR)
            for rows in torch.randperm(EXAMPLES, device=bench.device).split(10):
                optimizer.zero_grad()
                F.cross_entropy(model(inputs[rows]), targets[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    return clients / bench.rate(some, count)


def pfl(name: str, clients: int, bench: Bench) -> float | None:
    """Clients per second of pfl-research's own loop, which takes the GPU by itself if there is
    one; None where it isn't installed or doesn't know the model."""
    if not PFL.exists() or name == "resnet18":
        return None
    command = [str(PFL), "-m", "benchmarks.simulation_pfl", name, str(clients), "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        return None
    seconds: list[float] = json.loads(lines[-1].removeprefix("RESULT "))
    return clients / statistics.median(seconds)


def precision(bench: Bench) -> None:
    """float32, bf16, fp16 of the same CNN."""
    count = 4096 if bench.gpu else 64
    data, rates = images(count), {}
    for kind in ("float32", "bf16", "fp16"):
        if kind == "fp16" and not bench.gpu:
            continue
        step = trainer(bench, WORKLOADS["cnn"].make().to(bench.device), data, 256, precision=kind)
        rates[kind] = bench.rate(step, count)
    base = rates["float32"]
    for kind, rate in rates.items():
        bench.add(f"CNN, {kind}", "examples per second", rate, float32=base)


def prefetch(bench: Bench) -> None:
    """Batches that come while others are used, and those that are waited for."""
    count = 2048 if bench.gpu else 64
    data = images(count, (3, 128, 128))
    drawn = list(batches(count, TrainingTable(batch_size=128), client_keys(1, "x", 1, ["a"])))
    layer = nn.Conv2d(3, 32, 7).to(bench.device)

    def use(inputs: Tensor) -> None:
        with torch.no_grad():
            for _ in range(3):
                layer(inputs)

    def ahead() -> None:
        for inputs, _ in on_device(data, drawn, bench.device):
            use(inputs)

    def waited() -> None:
        for rows in drawn:
            use(data.batch(rows)[0].to(bench.device))

    plain = bench.rate(waited, count)
    bench.add("batches copied ahead", "images per second", bench.rate(ahead, count), waited=plain)


def memory(bench: Bench) -> None:
    """Activations of ResNet-18, kept and computed again."""
    try:
        model = resnet18().to(bench.device)
    except ImportError:
        print("memory, ResNet-18: needs monai")
        return
    data, found = images(256 if bench.gpu else 8), {}
    for again in (False, True):
        step = trainer(bench, model, data, 256, checkpoint_activations=again)
        step()
        found[again] = bench.peak_gb(step)
    bench.add(
        "ResNet-18, batch 256, recomputed", "peak GB", found[True], "lower", kept=found[False]
    )


def compiled(bench: Bench) -> None:
    """Steps of the CNN."""
    count, rates = 2048 if bench.gpu else 64, {}
    for kind in (False, True):
        step = trainer(
            bench, WORKLOADS["cnn"].make().to(bench.device), images(count), 256, compile=kind
        )
        rates[kind] = bench.rate(step, count)
    bench.add("CNN, compiled", "examples per second", rates[True], plain=rates[False])


def shared(bench: Bench) -> None:
    """Two hospitals' processes on one GPU, each with its own model."""
    context = multiprocessing.get_context("spawn")
    found = {}
    for processes in (1, 2):
        with context.Pool(processes) as pool:
            rates = pool.starmap(_alone, [(bench.device, bench.quick)] * processes)
        found[processes] = sum(rates)
    bench.add("two processes on one device", "examples per second", found[2], one=found[1])


def _alone(device: str, quick: bool) -> float:
    bench = Bench(device, quick)
    count = 2048 if bench.gpu else 32
    step = trainer(bench, WORKLOADS["cnn"].make().to(device), images(count), 256)
    return bench.rate(step, count)


PARTS = (cohorts, precision, private, prefetch, memory, compiled, language, shared, several)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to see that it runs")
    parser.add_argument("--quick", action="store_true", help="shorter")
    parser.add_argument("--only", default="", help="one part, by name")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows here")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: torch sees no GPU here; --device cpu shows that the code runs")
    bench = Bench(options.device, options.quick)
    if bench.gpu:
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    every: list[Row] = []
    for part in PARTS:
        if options.only in ("", part.__name__):
            started, bench.rows = time.perf_counter(), []
            part(bench)
            took_s = time.perf_counter() - started
            emit(f"{part.__name__} on {options.device}, {took_s:.0f} s", bench.rows, None)
            every += bench.rows
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in every], indent=2) + "\n")


if __name__ == "__main__":
    main()
