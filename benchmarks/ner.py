"""Disease names in two corpora, one a hospital: entity F1 and bytes, adapters and full fine-tuning.

    python -m benchmarks.ner [--quick] [--json PATH]

NCBI-disease and BC5CDR-disease (IOB files of MTL-Bioinformatics-2016), MiniLM-L6-H384 as encoder.
So that it fits two cores, every corpus is a random sample of ``TRAIN`` training and ``TEST`` test
sentences of its own splits (5,424 and 940, 4,560 and 4,797 in full), cut at 64 tokens: figures
compare the ways of training with each other, not with papers that train on all of it. Every way has
the same rounds of one epoch. ``--quick`` is a smoke run of still fewer sentences.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.flamby_data import data_folder
from benchmarks.report import Row, arguments, emit
from wardround.simulations import Result, parse_config, simulate

BASE = """
[federation]
name = "ner"
min_clients = 2
[task]
name = "text"
entities = ["Disease"]
max_length = 64
[training]
optimizer = "adamw"
batch_size = 16
[simulation]
partition = "sites"
executor = "processes"  # a core each
[evaluation]
every = 100
[secure_aggregation]
enabled = false  # two hospitals: each would know the other's part of a sum
"""
CORPORA = ("ncbi_disease", "bc5cdr_disease")
SEED = 0


@dataclass(frozen=True)
class Size:
    """Sentences of each corpus, and rounds."""

    train: int
    test: int
    rounds: int


FULL, QUICK = Size(400, 400, 4), Size(48, 48, 1)
LR = {"lora": 5e-3, "ffa_lora": 5e-3, "full": 2e-4}


def sentences(path: Path) -> Iterator[str]:
    """The blocks of an IOB file."""
    yield from (block for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip())


def write_sample(source: Path, target: Path, size: Size) -> None:
    """A corpus as a hospital's folder, with fewer sentences."""
    target.mkdir(parents=True)
    for name, count in (("train", size.train), ("test", size.test)):
        blocks = list(sentences(source / f"{name}.tsv"))
        chosen = np.random.default_rng(SEED).permutation(len(blocks))[:count]
        text = "\n\n".join(blocks[row].strip("\n") for row in chosen)
        (target / f"{name}.tsv").write_text(text + "\n", encoding="utf-8")


def run(data: Path, folder: Path, tuning: str, rounds: int, baselines: bool) -> Result:
    """One federated run."""
    overrides = [
        f'federation.runs="{folder}/runs"',
        f"federation.rounds={rounds}",
        f'data.path="{data}"',
        f"task.tuning={tuning}",
        f"training.lr={LR[tuning]}",
        f"simulation.baselines={str(baselines).lower()}",
    ]
    return simulate(parse_config(BASE, overrides))


def round_bytes(result: Result) -> float:
    """Down and up, of one round and all hospitals."""
    last = result.rounds[-1]
    return float(last["bytes_down"] + last["bytes_up"])


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    size = QUICK if options.quick else FULL
    source = data_folder("bio_ner")
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus in CORPORA:
            write_sample(source / corpus, folder / "data" / corpus, size)
            write_sample(source / corpus, folder / "few" / corpus, Size(4, 4, 1))
        result = run(folder / "data", folder, "lora", size.rounds, baselines=True)
        for row in result.comparison:
            if row["hospital"] != "overall":
                figures = {kind: row[kind]["f1"] for kind in ("local", "federated", "pooled")}
                federated = figures.pop("federated")
                rows.append(
                    Row(f"LoRA, {row['hospital']}", "entity F1", federated, "higher", figures)
                )
        if not options.quick:
            for tuning in ("ffa_lora", "full"):
                other = run(folder / "data", folder, tuning, size.rounds, baselines=False)
                for hospital in (*CORPORA, "mean"):
                    value = other.figure("f1", hospital)
                    rows.append(Row(f"{tuning}, {hospital}", "entity F1", value, "higher"))
        # bytes depend on the model alone: one sentence will do
        full = round_bytes(run(folder / "few", folder, "full", 2, baselines=False))
        for tuning in ("lora", "ffa_lora"):
            sent = round_bytes(run(folder / "few", folder, tuning, 2, baselines=False))
            rows.append(Row(tuning, "MB a round", sent / 1e6, "lower", {"full": full / 1e6}))
            rows.append(Row(tuning, "% of full fine-tuning", 100 * sent / full, "lower"))
    sample = f"{size.train} training sentences a corpus, {size.rounds} rounds"
    emit(f"Entities in two corpora ({sample})", rows, options.json)


if __name__ == "__main__":
    main()
