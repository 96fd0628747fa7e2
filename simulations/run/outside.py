"""The model at hospitals that took no part: what it would do where nobody trained it.

``simulation.leave_out`` names them. All their rows are evaluated, as none of them was trained on;
preparation and model are those that the others agreed on.
"""

from __future__ import annotations

from typing import Any

from wardround.client.training.evaluation import evaluate_model
from wardround.common.errors import WardroundError
from wardround.common.figures.intervals import figure_intervals
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.saved import SavedModel
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.outside import OUTSIDE
from wardround.common.tasks.base import concatenate
from wardround.server.observer import Observer
from wardround.server.rounds.federation import FederationOutcome
from wardround.simulations.population.hospitals import Population


def evaluate_outside(
    population: Population,
    run: RunDirectory,
    outcome: FederationOutcome,
    saved: SavedModel,
    observer: Observer,
) -> list[dict[str, Any]]:
    """{hospital, title, rows, figures, intervals, why} of each left out; it stands in ``run.json``.

    ``why`` says what kept it from being evaluated: columns that don't fit, or layers that each
    hospital trains for itself.
    """
    found = []
    for name in population.outside:
        row = {"hospital": name, "title": population.titles.get(name, name), "why": ""}
        try:
            if outcome.form.entries.of_hospitals:
                raise WardroundError("its layers stay with each hospital, and this one has none")
            found.append(row | _figures(population, outcome, saved, name))
        except WardroundError as error:
            row["why"] = error.what or str(error)
            found.append(row | {"rows": 0, "figures": {}, "intervals": {}})
            observer.warnings([f"{name}: the model can't be evaluated there: {row['why']}"])
    if found:
        run.update(**{OUTSIDE: found})
    return found


def _figures(
    population: Population, outcome: FederationOutcome, saved: SavedModel, name: str
) -> dict[str, Any]:
    task, training = population.task, population.config.training
    parts = population.hospital(name).examples(outcome.totals, digest_arrays(outcome.totals))
    examples = concatenate(list(parts.values()))
    model = next(model for _, model in saved.each([None])).to(training.device)
    sums = evaluate_model(model, examples, task, training)
    figures = task.summarise(sums)
    return {
        "rows": len(examples),
        "figures": figures,
        "intervals": {k: list(v) for k, v in figure_intervals(figures, sums).items()},
    }
