"""Biomedical questions answered by a language model of 134.5 M parameters: federated, by each
hospital alone, pooled, and before any training.

    python -m benchmarks.medical_qa [--quick] [--json PATH]

``examples/medical_qa`` on PubMedQA's published split: 500 documents at four hospitals to train on,
500 to test on, SmolLM2-135M-Instruct, LoRA of rank 8 beside q and v, secure aggregation on. The
answer is the likeliest of yes, no and maybe; always saying yes is right in .552. ``private``: every
document protected, noise under the masks, epsilon 8 at delta 1e-4, rank 4. ``--quick`` takes a few
steps, of which nothing is learned, and measures bytes and tokens a second.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.flamby_data import data_folder
from benchmarks.report import Row, arguments, emit
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.simulations import Result, simulate

EXAMPLE = Path(__file__).parent.parent / "examples" / "medical_qa"
FILES = ("ori_pqal.json", "test_ground_truth.json")
QUICK = ("federation.rounds=1", "training.local_steps=1", "evaluation.every=100")
QUICK_LINES = 12


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder / "hospitals", QUICK_LINES if options.quick else None)
        sets = (
            f'federation.runs="{folder}/runs"',
            f'data.path="{folder}/hospitals"',
            *(QUICK if options.quick else ()),
        )
        rows = federated(sets, options.quick)
        rows += full(sets)
        if not options.quick:
            rows += zero_shot(sets)
            rows += private(sets)
    emit("Biomedical questions, four hospitals", rows, options.json)


def prepare(folder: Path, most: int | None) -> None:
    """The example's own preparation. ``most``: lines of each hospital."""
    spec = importlib.util.spec_from_file_location("prepare", EXAMPLE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(*(data_folder("pubmedqa") / name for name in FILES), folder)
    for path in folder.glob("*.jsonl") if most else ():
        path.write_text("".join(path.open(encoding="utf-8").readlines()[:most]), "utf-8")


def federated(sets: tuple[str, ...], quick: bool) -> list[Row]:
    """Accuracy beside local and pooled models', bytes, seconds and tokens a second."""
    began = time.monotonic()
    baselines = f"simulation.baselines={str(not quick).lower()}"
    result = simulate(EXAMPLE / "federation.toml", overrides=[*sets, baselines])
    took_s = time.monotonic() - began
    rows = [*bytes_rows(result, "LoRA"), Row("federated", "s in all", took_s, "lower")]
    first = result.rounds[0]["seconds"]
    rows.append(Row("LoRA", "s to train a round, all hospitals", first["train"], "lower"))
    if quick:
        return rows
    tokens = trained_tokens(sets)
    rows.append(Row("LoRA", "tokens trained a second", tokens / first["train"], "higher"))
    for row in result.comparison:
        peers = {kind: row[kind]["accuracy"] for kind in ("local", "pooled") if row.get(kind)}
        rows.append(
            Row(row["hospital"], "accuracy", row["federated"]["accuracy"], "higher", peers, 0.552)
        )
    rows.append(Row("all", "accuracy", result.figure("accuracy"), "higher", {}, 0.552))
    return rows


def full(sets: tuple[str, ...]) -> list[Row]:
    """Bytes of a round in which all weights travel: a step, of which nothing is learned."""
    more = (*QUICK, "task.tuning=full", "training.lr=1e-6", "simulation.baselines=false")
    return bytes_rows(simulate(EXAMPLE / "federation.toml", overrides=[*sets, *more]), "full")


def bytes_rows(result: Result, case: str) -> list[Row]:
    """Up and down of one hospital in a round without evaluation."""
    first = result.rounds[0]
    hospitals = len(first["cohort"])
    return [
        Row(
            case, f"MB {way} a round and hospital", first[f"bytes_{way}"] / hospitals / 1e6, "lower"
        )
        for way in ("up", "down")
    ]


def zero_shot(sets: tuple[str, ...]) -> list[Row]:
    """The base model as it came, on all test documents."""
    config = load_config(EXAMPLE / "federation.toml", list(sets))
    task: Any = make_task(config)
    model = task.model({}).eval()
    folder = Path(json.loads(sets[1].partition("=")[2]))
    hits = total = 0.0
    for path in sorted(folder.glob("*.jsonl")):
        raw = task.load(path)
        test = task.select(raw, (task.given_split(raw) == "test").nonzero()[0])
        examples = task.prepare(test, {}, test)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            parts = [model(part) for part in examples.inputs.split(16)]
        sums = task.metrics(torch.cat(parts), examples.targets)
        hits, total = hits + float(sums["chosen"][0]), total + float(sums["questions"][0])
    return [Row("before training", "accuracy", hits / total, "higher", {}, 0.552)]


def trained_tokens(sets: tuple[str, ...]) -> int:
    """Of a round, about: each hospital's documents of its local steps, as long as its mean one;
    padding not counted."""
    config = load_config(EXAMPLE / "federation.toml", list(sets))
    task: Any = make_task(config)
    folder = Path(json.loads(sets[1].partition("=")[2]))
    documents = (config.training.local_steps or 0) * config.training.batch_size
    means = []
    for path in folder.glob("*.jsonl"):
        raw = task.load(path)
        means.append(float(raw.lengths[task.given_split(raw) == "train"].mean()))
    return round(documents * sum(means))


def private(sets: tuple[str, ...]) -> list[Row]:
    """The private variant."""
    sets = (*sets, "simulation.baselines=false")
    result = simulate(EXAMPLE / "private.toml", overrides=list(sets))
    spent = max(one["epsilon"] for one in result.rounds[-1]["privacy"]["hospitals"].values())
    figure = result.figure("accuracy")
    return [
        Row("private", "accuracy", figure, "higher", {}, 0.552),
        Row("private", "epsilon", spent, "lower", {}, 8.0),
    ]


if __name__ == "__main__":
    main()
