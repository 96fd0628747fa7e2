"""Biomedical questions answered by a language model of 134.5 M parameters: before any training,
federated, pooled, with every document protected, and by each hospital alone.

    python -m benchmarks.medical_qa [--quick] [--json PATH]

``examples/medical_qa`` on PubMedQA's published split: 500 documents at four hospitals to train on,
500 to test on, SmolLM2-135M-Instruct, LoRA of rank 8 beside q and v, secure aggregation on. The
answer is the likeliest of yes, no and maybe; always saying yes is right in .552. ``private``: every
document protected, noise under the masks, epsilon 8 at delta 1e-4, rank 4. ``pooled``: one
model of all hospitals' documents in one place, as many passes over them. ``alone``: the same of a
hospital's own documents, asked its own test's; beside it, what the federated model said of these.

Rows of a variant are written to PATH as soon as it is done, and what stands there isn't measured
again: a stopped run goes on. ``--quick`` takes a step of which nothing is learned, for bytes.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.flamby_data import data_folder
from benchmarks.report import Row, arguments, emit
from wardround.client.training.evaluation import evaluate_model
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.figures.records import OVERALL
from wardround.common.figures.sums import add_sums
from wardround.common.tasks.base import Examples
from wardround.common.tasks.text.causal.rows import DOCUMENT
from wardround.simulations import Result, simulate
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.baselines import (
    Failures,
    local_figures,
    own_totals,
    pooled_figures,
)

EXAMPLE = Path(__file__).parent.parent / "examples" / "medical_qa"
FILES = ("ori_pqal.json", "test_ground_truth.json")
QUICK = ("federation.rounds=1", "training.local_steps=1", "evaluation.every=100")
QUICK_LINES = 12
ALWAYS_YES = 0.552


@dataclass(frozen=True)
class Place:
    """Where the example runs. ``sets``: what is set beside its files."""

    hospitals: Path
    sets: tuple[str, ...]

    def names(self) -> list[str]:
        """The hospitals', the largest first."""
        files = sorted(self.hospitals.glob("*.jsonl"), key=lambda path: -path.stat().st_size)
        return [path.stem for path in files]

    def population(self) -> Population:
        """The hospitals."""
        config = load_config(EXAMPLE / "federation.toml", list(self.sets))
        return Population(config, make_task(config))

    def run(self, file: str, *sets: str) -> Result:
        """A run without the models that it is compared with."""
        more = [*self.sets, "simulation.baselines=false", *sets]
        return simulate(EXAMPLE / file, overrides=more)


Variant = Callable[[Place], list[Row]]


def main() -> None:
    """Run, print and write."""
    options = arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder / "hospitals", QUICK_LINES if options.quick else None)
        sets = (f'federation.runs="{folder}/runs"', f'data.path="{folder}/hospitals"')
        place = Place(folder / "hospitals", (*sets, *(QUICK if options.quick else ())))
        rows = measured(place, variants(place, options.quick), options.json)
    emit("Biomedical questions, four hospitals", rows, options.json)


def variants(place: Place, quick: bool) -> Mapping[str, Variant]:
    """What is measured, by the case of its rows; what would be missed most comes first."""
    if quick:
        return {
            "training": training,
            "federated": partial(federated, accuracy=False),
            "all weights": all_weights,
        }
    return {
        "before training": zero_shot,
        "training": training,
        "federated": federated,
        "pooled": pooled,
        "private": private,
        **{f"alone: {name}": partial(alone, name) for name in place.names()},
        "all weights": all_weights,
    }


def measured(place: Place, wanted: Mapping[str, Variant], kept: Path | None) -> list[Row]:
    """Rows of all variants; those in ``kept`` are taken from there."""
    rows = []
    if kept is not None and kept.exists():
        rows = [Row(**one) for one in json.loads(kept.read_text("utf-8"))]
    for case, measure in wanted.items():
        if any(row.case == case for row in rows):
            continue
        began, used = time.monotonic(), time.process_time()
        rows += measure(place)
        rows.append(Row(case, "minutes", (time.monotonic() - began) / 60, "lower"))
        rows.append(Row(case, "minutes of a core", (time.process_time() - used) / 60, "lower"))
        emit("Biomedical questions, so far", rows, kept)
    return rows


def prepare(folder: Path, most: int | None) -> None:
    """The example's own preparation. ``most``: lines of each hospital."""
    spec = importlib.util.spec_from_file_location("prepare", EXAMPLE / "prepare.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(*(data_folder("pubmedqa") / name for name in FILES), folder)
    for path in folder.glob("*.jsonl") if most else ():
        path.write_text("".join(path.open(encoding="utf-8").readlines()[:most]), "utf-8")


def accuracy_of(case: str, figures: Mapping[str, Any], **peers: float) -> list[Row]:
    """Accuracy; and balanced accuracy, which is 1/3 of a model that says one answer always."""
    found = [Row(case, "accuracy", figures["accuracy"], "higher", dict(peers), ALWAYS_YES)]
    balanced = figures["balanced_accuracy"]
    return [*found, Row(case, "balanced accuracy", balanced, "higher", {}, 1 / 3)]


def zero_shot(place: Place) -> list[Row]:
    """The base model as it came, in the precision that the others are trained in."""
    population, sums, tokens = place.population(), [], 0
    model, used = population.task.model({}), 0.0
    for examples in prepared(population):
        used -= time.process_time()
        sums.append(
            evaluate_model(model, examples["test"], population.task, population.config.training)
        )
        used += time.process_time()
        tokens += tokens_of(examples["test"])
    figures = population.task.summarise(add_sums(sums))
    speed = Row("before training", "tokens asked a second of a core", tokens / used, "higher")
    return [*accuracy_of("before training", figures), speed]


def training(place: Place) -> list[Row]:
    """How fast it trains: a round's steps of the hospital that comes first."""
    population = place.population()
    task, config = population.task, population.config
    model, rows = task.model({}), next(prepared(population))["train"]
    asked = (config.training.local_steps or 1) * config.training.batch_size
    used = time.process_time()
    train_on_batches(model, rows, task, config, (1, 1, "speed"))
    used = time.process_time() - used
    tokens = tokens_of(rows) / len(rows) * asked  # about: batches are drawn
    return [Row("training", "tokens trained a second of a core", tokens / used, "higher")]


def federated(place: Place, *, accuracy: bool = True) -> list[Row]:
    """All hospitals together, and what they send."""
    result = place.run("federation.toml")
    rows = bytes_rows(result, "federated")
    if not accuracy:
        return rows
    for row in result.comparison:
        if row["hospital"] in place.names():
            case = f"federated, at {row['hospital']}"
            rows.append(Row(case, "accuracy", row["federated"]["accuracy"], "higher"))
    return [*rows, *accuracy_of("federated", result.comparison[-1]["federated"])]


def all_weights(place: Place) -> list[Row]:
    """Bytes of a round in which all weights travel: a step, of which nothing is learned."""
    more = ("task.tuning=full", "task.base_dtype=float32", "training.lr=1e-6")
    return bytes_rows(place.run("federation.toml", *QUICK, *more), "all weights")


def bytes_rows(result: Result, case: str) -> list[Row]:
    """Up and down of one hospital in a round."""
    first = result.rounds[0]
    hospitals = len(first["cohort"])
    return [
        Row(
            case, f"MB {way} a round and hospital", first[f"bytes_{way}"] / hospitals / 1e6, "lower"
        )
        for way in ("up", "down")
    ]


def private(place: Place) -> list[Row]:
    """Every document protected, also in this."""
    result = place.run("private.toml")
    spent = max(one["epsilon"] for one in result.rounds[-1]["privacy"]["hospitals"].values())
    rows = accuracy_of("private", result.comparison[-1]["federated"])
    return [*rows, Row("private", "epsilon", spent, "lower", {}, 8.0)]


def pooled(place: Place) -> list[Row]:
    """One model of all documents in one place."""
    population, failures = place.population(), Failures()
    names = population.names
    totals = own_totals(population.hospital(names[0]))
    figures = pooled_figures(population, names, totals, failures, shown=names)
    check(failures)
    return accuracy_of("pooled", figures[OVERALL])


def alone(name: str, place: Place) -> list[Row]:
    """One hospital's own model."""
    population, failures = place.population(), Failures()
    totals = own_totals(population.hospital(name))
    figures = local_figures(population, [name], totals, failures)
    check(failures)
    return accuracy_of(f"alone: {name}", figures[name])


def check(failures: Failures) -> None:
    """Stop where something couldn't be trained."""
    if failures.notes:
        raise SystemExit("; ".join(failures.notes))


def prepared(population: Population) -> Iterator[dict[str, Examples]]:
    """Each hospital's examples."""
    for name in population.names:
        hospital = population.hospital(name)
        yield hospital.examples(own_totals(hospital), "")


def tokens_of(examples: Examples) -> int:
    """Without padding."""
    planes: Any = examples.inputs
    return int((planes[:, DOCUMENT] > 0).sum())


if __name__ == "__main__":
    main()
