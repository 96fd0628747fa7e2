"""What a federation is held against: each hospital alone, and all rows in one place.

Both train with the federation's own settings and as many passes over the data, on inputs prepared
as the federation prepares them: what differs is who trains on whose rows. Only a simulation can
know the pooled model, which is what the federation tries to reach without pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.training.evaluation import evaluate_model
from wardround.client.training.steps import train_on_batches
from wardround.common.config.load import Config
from wardround.common.errors import reason_of
from wardround.common.figures.intervals import Intervals, figure_intervals
from wardround.common.figures.records import OVERALL
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.entries import entries_of
from wardround.common.model.named import build_model, load_arrays, model_arrays
from wardround.common.model.saved import ModelForm, SavedModel
from wardround.common.tasks.base import Examples, Task
from wardround.server.rounds.federation import FederationOutcome
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.saved_models import sums_of, with_model


class Figures(dict[str, dict[str, float]]):
    """Figures by hospital, and 'overall'. ``intervals``: of those that have one, by the same."""

    def __init__(self, figures: Mapping[str, dict[str, float]] | None = None) -> None:
        super().__init__(figures or {})
        self.intervals: dict[str, Intervals] = {}


@dataclass
class Failures:
    """Why cells of the table are empty: what fails here costs a cell, not the report."""

    notes: list[str] = field(default_factory=list)

    @contextmanager
    def costing(self, what: str) -> Iterator[None]:
        """Go on after an error in the block, and keep why under ``what`` it cost."""
        try:
            yield
        except Exception as error:  # of a task, of torch, of memory: the federated model is there
            note = f"{what} ({reason_of(error)})"
            if note not in self.notes:
                self.notes.append(note)


def local_figures(
    population: Population,
    names: Sequence[str],
    totals: Sums,
    failures: Failures,
    *,
    rounds: int | None = None,
) -> Figures:
    """Test figures of each named hospital's own model, and 'overall' from their added sums.

    Its rows are prepared as in the federation (``totals``): classes, categories and bins are the
    federation's, so that figures can be compared and sums added. Where nothing is trained on, there
    is no model.

    rounds : as many as the federation made; by default all of them
    """
    by_hospital: dict[str, Sums] = {}
    digest = digest_arrays(totals)
    for name in names:
        with failures.costing(f"{name}: no local model"):
            examples = population.hospital(name).examples(totals, digest)
            if "test" in examples and "train" in examples:
                model = _train(population, examples["train"], totals, name, 1, rounds)
                by_hospital[name] = _sums(population, model, examples["test"])
    return summarise_all(population.task, by_hospital, failures)


def pooled_figures(
    population: Population,
    names: Sequence[str],
    totals: Sums,
    failures: Failures,
    *,
    shown: Sequence[str],
    rounds: int | None = None,
) -> Figures:
    """Test figures of each hospital in ``shown``, of one model trained on the named hospitals' rows
    together.

    Each hospital's rows are prepared as in the federation (``totals``), so the two models see the
    same inputs.
    """
    digest = digest_arrays(totals)
    prepared: dict[str, dict[str, Examples]] = {}
    for name in dict.fromkeys([*names, *shown]):
        with failures.costing(f"{name}: not in the pooled model"):
            prepared[name] = population.hospital(name).examples(totals, digest)
    rows = [prepared[x]["train"] for x in names if x in prepared and "train" in prepared[x]]
    by_hospital: dict[str, Sums] = {}
    if rows:
        with failures.costing("no pooled model"):
            pooled = population.task.join(rows)
            model = _train(population, pooled, totals, "pooled", len(rows), rounds)
            for name in shown:
                if "test" in prepared.get(name, {}):
                    by_hospital[name] = _sums(population, model, prepared[name]["test"])
    return summarise_all(population.task, by_hospital, failures)


def federated_figures(
    population: Population,
    outcome: FederationOutcome,
    saved: SavedModel,
    failures: Failures,
) -> Figures:
    """Test figures of the saved model at each hospital, as that hospital itself sees them.

    With secure aggregation the server doesn't know them; whoever simulates all hospitals may.
    """
    by_hospital = {}
    for name, model in saved.each(with_model(outcome, population.config)):
        with failures.costing(f"{name}: no figures of its own"):
            sums = sums_of(population, outcome, name, model, "test")
            if sums is not None:
                by_hospital[name] = sums
    return summarise_all(population.task, by_hospital, failures)


def own_totals(hospital: Hospital) -> Sums:
    """The preparation as if this hospital were alone."""
    totals: Sums = {}
    for phase in range(hospital.task.phases):
        totals = totals | hospital.statistics(phase, totals)
    return hospital.task.condense(totals)


def summarise_all(task: Task[Any], by_hospital: dict[str, Sums], failures: Failures) -> Figures:
    """Figures per hospital, and 'overall' from the added sums."""
    figures = Figures()
    for name, sums in by_hospital.items():
        with failures.costing(f"{name}: no figures"):
            figures[name] = task.summarise(sums)
            figures.intervals[name] = figure_intervals(figures[name], sums)
    if by_hospital:
        with failures.costing("no figures of all rows together"):
            total = add_sums(by_hospital.values())
            figures[OVERALL] = task.summarise(total)
            figures.intervals[OVERALL] = figure_intervals(figures[OVERALL], total)
    return figures


def _sums(population: Population, model: nn.Module, examples: Examples) -> Sums:
    return evaluate_model(model, examples, population.task, population.config.training)


def _train(
    population: Population,
    examples: Examples,
    totals: Sums,
    name: str,
    hospitals: int,
    rounds: int | None,
) -> nn.Module:
    """As many passes over these examples as the federation makes over its hospitals' rows."""
    # what is compared with has no teacher: that one knows all hospitals' rows
    config: Config = population.config.model_copy(update={"teacher": None})
    if (steps := config.training.local_steps) is not None:
        longer = config.training.model_copy(update={"local_steps": steps * hospitals})
        config = config.model_copy(update={"training": longer})
    model = build_model(population.task, totals, config.federation.seed)
    if population.initial is not None:
        form = ModelForm.of(population.task, model, entries_of(config, model))
        load_arrays(model, population.initial.over(model_arrays(model), form).arrays)
    model.to(config.training.device)
    for server_round in range(1, (rounds or config.federation.rounds) + 1):
        seed = (config.federation.seed, server_round, f"baseline:{name}")
        train_on_batches(model, examples, population.task, config, seed)
    return model
