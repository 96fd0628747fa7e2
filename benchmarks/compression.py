"""Small messages against 32 bits: what they save, and what the model loses, on four tasks.

    python -m benchmarks.compression [--quick] [--json PATH]

Each task is trained with ``[compression] bits = 8`` and without, over the same seeds, under masks.
The primary figure and the loss
of the last round on all test rows are compared by pairs of seeds: difference in the mean, and its
standard error over the seeds beside that of the 32-bit runs themselves. Bytes are those of one
hospital and one round's training, up; CPU seconds are of the whole simulation, in one thread.

| task | data | model |
|---|---|---|
| breast cancer | the default configuration: five hospitals | logistic, 31 numbers |
| X-rays | ``examples/pneumonia``, 30 rounds | CNN of width 8 |
| heart | FLamby's four hospitals, FedAvg | logistic, 14 numbers |
| named entities | two corpora, each at two hospitals of 100 sentences | MiniLM with LoRA, bf16 |

Then the time to write and read a million numbers (scale, rotation, rounding; and back), beside a
copy of as many floats in the same process, in processor time. ``--quick``: two seeds, no named
entities.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import fed_heart, ner
from benchmarks.flamby_data import data_folder, heart_disease
from benchmarks.report import Row, arguments, emit
from wardround.common.compression.writing import CLIP, Writing
from wardround.common.config.load import Config, load_config, parse_config
from wardround.common.secagg.encoding import Encoding, dequantise
from wardround.common.secagg.rounding import quantise
from wardround.simulations import simulate

XRAYS = Path(__file__).parent.parent / "examples" / "pneumonia" / "federation.toml"
SHORT = ("federation.rounds=30", "task.model.width=8")
SMALL = "compression.bits=8"
NUMBERS = 10**6


@dataclass(frozen=True)
class Outcome:
    """Of one run: figures of the last round, bytes up of a hospital and round, CPU seconds."""

    figure: float
    loss: float
    up_bytes: float
    seconds: float


def outcome(config: Config, figure: str) -> Outcome:
    """Run it, in one thread."""
    started = time.process_time()
    result = simulate(config)
    seconds = time.process_time() - started
    last = next(row for row in reversed(result.rounds) if row["overall"])["overall"]["test"]
    summary = json.loads((Path(result.run_directory) / "run.json").read_text())
    return Outcome(last[figure], last["loss"], summary["training_bytes"]["up"], seconds)


def heart_folder(folder: Path) -> Path:
    """FLamby's four hospitals as CSV files."""
    folder.mkdir()
    for name, rows in heart_disease().items():
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def tasks(folder: Path, quick: bool) -> dict[str, tuple[str, str, list[str]]]:
    """By name: primary figure, the configuration's text or path, overrides."""
    images = data_folder("pneumoniamnist") / "pneumoniamnist.npz"
    found = {
        "breast cancer": ("auc", "", []),
        "heart": (
            "auc",
            fed_heart.BASE.partition("[secure_aggregation]")[0],
            [f'data.path="{heart_folder(folder / "heart")}"', "training.lr=0.01"],
        ),
        "X-rays": ("auc", str(XRAYS), [f'data.path="{images.resolve()}"', *SHORT]),
    }
    if not quick:
        found["named entities"] = ("f1", ner.BASE, entities(folder / "ner"))
    return found


def entities(folder: Path) -> list[str]:
    """Overrides of ``ner.BASE``: four hospitals, so that a masked sum has 31 levels for each."""
    size = ner.Size(100, 100, 4)
    for corpus in ner.CORPORA:
        for part in range(2):
            target = folder / f"{corpus}-{part + 1}"
            ner.write_sample(data_folder("bio_ner") / corpus, target, size, part)
    return [
        f'data.path="{folder}"',
        f"federation.rounds={size.rounds}",
        "federation.min_clients=4",
        "secure_aggregation.enabled=true",
        "task.tuning=lora",
        "training.batch_size=8",
        f"training.lr={ner.LR['lora']}",
    ]


def compared(name: str, figure: str, text: str, overrides: list[str], seeds: range) -> list[Row]:
    """Runs of both kinds over the seeds, and what they differ by."""
    pairs = []
    for seed in seeds:
        more = [*overrides, f"federation.seed={seed}", "simulation.baselines=false"]
        more.append('simulation.executor="sequential"')
        made = []
        for small in ([], [SMALL]):
            config = (
                load_config(Path(text), [*more, *small])
                if text.endswith(".toml")
                else parse_config(text or "", [*more, *small])
            )
            made.append(outcome(config, figure))
        print(name, seed, *made, flush=True)
        pairs.append((made[0], made[1]))
    rows = []
    for what, better in (("figure", "higher"), ("loss", "lower")):
        wide, small = (np.array([getattr(pair[i], what) for pair in pairs]) for i in (0, 1))
        root = math.sqrt(len(pairs))
        peers = {
            "32 bits": float(wide.mean()),
            "32 bits, s. e.": float(wide.std(ddof=1) / root),
            "difference": float((small - wide).mean()),
            "its s. e.": float((small - wide).std(ddof=1) / root),
        }
        label = figure if what == "figure" else what
        rows.append(Row(name, label, float(small.mean()), better, dict(peers)))
    for what, label in (("up_bytes", "bytes up"), ("seconds", "CPU s")):
        wide, small = (np.mean([getattr(pair[i], what) for pair in pairs]) for i in (0, 1))
        rows.append(Row(name, label, float(small), "lower", {"32 bits": float(wide)}))
    return rows


def coding() -> list[Row]:
    """Milliseconds for a million numbers, the best of five, and of a copy of as many floats."""
    config = parse_config(f"[compression]\n{SMALL.partition('.')[2]}\n")
    change = np.random.default_rng(0).normal(size=NUMBERS).astype(np.float32)
    how, encoding = Writing.of(config, 1, ["a"], np.ones(1)), Encoding(8, CLIP, 5, 1)
    unturned = replace(how, rotation="none")
    words, other = np.zeros(NUMBERS, np.uint8), np.empty_like(change)

    def write(how: Writing) -> None:
        quantise(how.written("a", change), 1.0, encoding, bytes(16), words)

    def as_now() -> None:
        quantise(change, 1.0, Encoding(32, 8.0, 5, 1), bytes(16), np.zeros(NUMBERS, np.uint32))

    copy = _best(lambda: np.copyto(other, change))
    rows = []
    for case, work in (
        ("write, 8 bits", lambda: write(how)),
        ("write, 8 bits, no rotation", lambda: write(unturned)),
        ("write, 32 bits, as ever", as_now),
        ("read, 8 bits", lambda: how.read("a", dequantise(words, encoding.step))),
    ):
        rows.append(Row(case, "ms per million", _best(work), "lower", {"a copy": copy}))
    return rows


def _best(work: Callable[[], object]) -> float:
    found = []
    for _ in range(5):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1e3 * min(found)


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    seeds = range(2) if options.quick else range(5)
    rows = coding()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = f'federation.runs="{folder / "runs"}"'
        for task, (figure, text, overrides) in tasks(folder, options.quick).items():
            rows += compared(task, figure, text, [*overrides, runs], seeds)
    emit(f"8 bits against 32, {len(seeds)} seeds", rows, options.json)


if __name__ == "__main__":
    main()
