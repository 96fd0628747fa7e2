"""The engines of ``[privacy] engine``, beside each other and beside one unit after the other.

    python -m benchmarks.engines [--quick] [--json PATH]

One thread, batches of 64, clipped sums alone (no noise, no update): examples per second as medians
over rounds in which all take turns, and how much memory a step needs above what the process has
before it, MiB, each in a process of its own. A cell is empty where an engine refuses the model.

own      book-keeping, or ``vmap`` where that has no form
opacus   Opacus's samples
auto     what is taken by default
loop     one unit after the other by autograd: what any model can have, and what is right

Units are the examples, and 16 patients of 4 records each. Before anything is timed, every engine's
sums are compared with the loop's.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.dpsgd import AGREES, PATIENTS, losses
from benchmarks.dpsgd_models import BATCH, CASES, Case
from benchmarks.report import Row, arguments, emit
from benchmarks.tables import status_kb
from wardround.client.gradients import Clipping, make_unit_gradients
from wardround.common.errors import TaskError

ENGINES = ("own", "opacus", "auto", "loop")
LENGTH = 32


class Recurrent(nn.Module):
    """64 wide, on 32 tokens."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.tokens = nn.Embedding(1000, 64)
        self.inner, self.head = kind(64, 64, batch_first=True), nn.Linear(64, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        """B x 32, int64, to B x 2."""
        return self.head(self.inner(self.tokens(tokens))[0][:, -1])  # type: ignore[no-any-return]


def transformer() -> nn.Module:
    """Two of torch's own layers, 64 wide, on 32 tokens."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
    return nn.Sequential(
        nn.Embedding(1000, 64),
        nn.TransformerEncoder(layer, 2),
        nn.Flatten(),
        nn.Linear(64 * LENGTH, 2),
    )


ALL = (
    *CASES,
    Case("LSTM, 64 wide", lambda: Recurrent(nn.LSTM), None, 2),
    Case("GRU, 64 wide", lambda: Recurrent(nn.GRU), None, 2),
    Case("torch's transformer", transformer, None, 2),
)
Step = Callable[[], list[Tensor]]


def step_of(case: Case, engine: str, patients: bool) -> Step:
    """Gives the clipped sum of the first batch. Raises TaskError where the engine refuses."""
    inputs, targets = case.batch()
    units = torch.arange(BATCH) // (BATCH // PATIENTS) if patients else None
    count = PATIENTS if patients else BATCH
    gradients = make_unit_gradients(case.model(), losses, engine)

    def step() -> list[Tensor]:
        return gradients.clipped_sum(inputs, targets, units, count, Clipping(1.0)).gradients

    step()  # whatever it finds out first
    return step


def steps_of(case: Case, patients: bool) -> dict[str, Step]:
    """By engine. Raises RuntimeError for one whose sum is not the loop's."""
    found = {}
    for engine in ENGINES:
        try:
            found[engine] = step_of(case, engine, patients)
        except TaskError as error:
            print(f"{case.name}, {engine}: {error}", file=sys.stderr)
    wanted = torch.cat([g.flatten() for g in found["loop"]()])
    for engine, step in found.items():
        error = float((torch.cat([g.flatten() for g in step()]) - wanted).norm())
        if not error <= AGREES * float(wanted.norm()):
            raise RuntimeError(f"{case.name}, {engine}: the clipped sum is wrong")
    return found


def rates(steps: dict[str, Step], seconds: float) -> dict[str, float]:
    """Examples per second of each: medians over rounds in which all take turns."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(found["loop"]) < 3:
        for name, step in steps.items():
            start, turns = time.perf_counter(), 0
            while turns == 0 or time.perf_counter() - start < 0.02:
                step()
                turns += 1
            found[name].append(BATCH * turns / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in found.items()}


def memory(number: int, engine: str) -> float | None:
    """MiB of one step above what was there before the first; None where the engine refuses."""
    command = [sys.executable, "-m", "benchmarks.engines", "--memory", str(number), engine]
    kept = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back at once
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=kept)
    return float(done.stdout) if done.returncode == 0 else None


def print_memory(number: int, engine: str) -> None:
    """What ``memory`` reads: Linux's peak, forgotten right before the step."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    try:
        step = step_of(ALL[number], engine, patients=False)
    except TaskError:
        sys.exit(1)
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before = status_kb("VmRSS")
    step()
    print((status_kb("VmHWM") - before) / 1024)


def measure(number: int, seconds: float) -> list[Row]:
    """The rows of one model."""
    case, rows = ALL[number], []
    for level, patients in (("example", False), ("patient", True)):
        found = rates(steps_of(case, patients), seconds)
        peers = {engine: found.get(engine) for engine in ENGINES[:-1]}
        name = f"{level} level, examples/s, beside loop"
        rows.append(Row(case.name, name, found["loop"], "higher", peers))
        if "own" in found:
            ratio = found["own"] / found["opacus"]
            rows.append(Row(case.name, f"{level} level, own / opacus", ratio, "higher"))
    peaks = {engine: memory(number, engine) for engine in ENGINES}
    loop = peaks.pop("loop") or 0.0
    rows.append(Row(case.name, "memory of a step, MiB, beside loop", loop, "lower", peaks))
    return rows


def main() -> None:
    """Run, print and write."""
    if sys.argv[1:2] == ["--memory"]:
        print_memory(int(sys.argv[2]), sys.argv[3])
        return
    options = arguments(__doc__ or "")
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    rows = []
    for number, case in enumerate(ALL):
        print(f"{case.name} ...", file=sys.stderr, flush=True)
        rows += measure(number, 1.0 if options.quick else 15.0)
    emit("Engines, batches of 64, one thread", rows, options.json)


if __name__ == "__main__":
    main()
