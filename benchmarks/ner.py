"""Disease names in two corpora, one a hospital: entity F1 and bytes, adapters and full fine-tuning.

    python -m benchmarks.ner [--quick] [--json PATH]

NCBI-disease and BC5CDR-disease (IOB files of MTL-Bioinformatics-2016), MiniLM-L6-H384 as encoder,
in mixed precision (bf16). So that it fits two cores, every corpus is a random sample (``FULL``) of
the training and the test sentences of its own splits (5,424 and 940, 4,560 and 4,797 in full), cut
at 64 tokens: figures compare the ways of training with each other, not with papers that train on
all of it. Every way has the same rounds of one epoch, one seed. Learning rates (``LR``) were chosen
by the F1 on 250 devel sentences a corpus. 'private': FFA-LoRA with every sentence protected, noise
by each hospital, epsilon at delta 1e-4. ``--quick`` measures bytes; of so few sentences nothing is
learned.
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
precision = "bf16"
schedule = "linear"
[simulation]
partition = "sites"
[evaluation]
every = 100
[secure_aggregation]
enabled = false  # two hospitals: each would know the other's part of a sum
"""
CORPORA = ("ncbi_disease", "bc5cdr_disease")
SEED = 0
PRIVATE = (
    "privacy.unit=example",
    "privacy.epsilon=8.0",
    "privacy.delta=1e-4",
    "training.batch_size=100",
)


@dataclass(frozen=True)
class Size:
    """Sentences of each corpus, and rounds."""

    train: int
    test: int
    rounds: int


FULL, QUICK, FEW = Size(800, 400, 5), Size(32, 32, 2), Size(4, 4, 2)
LR = {"lora": 8e-3, "ffa_lora": 2e-2, "full": 3e-4}


def sentences(path: Path) -> Iterator[str]:
    """The blocks of an IOB file."""
    yield from (block for block in path.read_text(encoding="utf-8").split("\n\n") if block.strip())


def write_sample(source: Path, target: Path, size: Size, part: int = 0) -> None:
    """A corpus as a hospital's folder, with fewer sentences. ``part``: of several hospitals with
    one corpus, which have no sentence in common."""
    target.mkdir(parents=True)
    for name, count in (("train", size.train), ("test", size.test)):
        blocks = list(sentences(source / f"{name}.tsv"))
        order = np.random.default_rng(SEED).permutation(len(blocks))
        chosen = order[part * count : (part + 1) * count]
        text = "\n\n".join(blocks[row].strip("\n") for row in chosen)
        (target / f"{name}.tsv").write_text(text + "\n", encoding="utf-8")


def run(
    data: Path, folder: Path, tuning: str, size: Size, baselines: bool, extra: tuple[str, ...] = ()
) -> Result:
    """One federated run. ``extra``: further overrides."""
    overrides = [
        f'federation.runs="{folder}/runs"',
        f"federation.rounds={size.rounds}",
        f'data.path="{data}"',
        f"task.tuning={tuning}",
        f"training.lr={LR[tuning]}",
        f"simulation.baselines={str(baselines).lower()}",
        f"simulation.executor={'processes' if size is FULL else 'sequential'}",
        *extra,
    ]
    result = simulate(parse_config(BASE, overrides))
    took_s = sum(row["seconds"]["total"] for row in result.rounds)
    print(
        f"{tuning}: {size.rounds} rounds of {size.train} sentences took {took_s:.0f} s", flush=True
    )
    return result


def round_bytes(result: Result) -> float:
    """Down and up, of a round in which nobody evaluates, and all hospitals."""
    first = result.rounds[0]
    return float(first["bytes_down"] + first["bytes_up"])


def figures(result: Result, tuning: str) -> list[Row]:
    """Entity F1 of each hospital and their mean; with local and pooled models where they are."""
    rows = []
    compared = {row["hospital"]: row for row in result.comparison}
    for hospital in (*CORPORA, "mean"):
        peers = {kind: compared[hospital].get(kind) for kind in ("local", "pooled")}
        known = {kind: found["f1"] for kind, found in peers.items() if found}
        value = compared[hospital]["federated"]["f1"]
        rows.append(Row(f"{tuning}, {hospital}", "entity F1", value, "higher", known))
    return rows


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    size = QUICK if options.quick else FULL
    source = data_folder("bio_ner")
    rows = []
    sent: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for corpus in CORPORA:
            write_sample(source / corpus, folder / "data" / corpus, size)
            write_sample(source / corpus, folder / "few" / corpus, FEW)
        for tuning in LR:
            whole = tuning == "lora" or not options.quick
            data = folder / ("data" if whole else "few")  # bytes depend on the model alone
            result = run(data, folder, tuning, size if whole else FEW, tuning == "lora")
            sent[tuning] = round_bytes(result)
            rows += figures(result, tuning) if whole else []
        if not options.quick:
            private = run(folder / "data", folder, "ffa_lora", size, False, PRIVATE)
            rows += figures(private, "private ffa_lora")
            spent = max(claim["epsilon"] for claim in private.rounds[-1]["privacy"].values())
            rows.append(Row("private ffa_lora", "epsilon", spent, "lower", {}, 8.0))
    for tuning, count in sent.items():
        full = {"full": sent["full"] / 1e6}
        rows.append(Row(tuning, "MB a round", count / 1e6, "lower", full))
        rows.append(Row(tuning, "% of full", 100 * count / sent["full"], "lower"))
    sample = f"{size.train} training sentences a corpus, {size.rounds} rounds"
    emit(f"Entities in two corpora ({sample})", rows, options.json)


if __name__ == "__main__":
    main()
