"""A simulation's last act: the hospitals' whole models, and proof that what was saved is what was
measured.

Models are loaded from disk and evaluated again. With secure aggregation that gives the hospitals'
own figures, which nobody else knows; else as many hospitals are checked as ``SHARE`` of the run's
time allows, one at least.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from wardround.client.training.evaluation import evaluate_model
from wardround.common.config.load import Config
from wardround.common.errors import CheckpointError
from wardround.common.figures.records import OVERALL
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.entries import Kind
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import SavedModel, hospital_path
from wardround.common.run.directory import RunDirectory
from wardround.server.members.sampling import evaluated
from wardround.server.rounds.federation import FederationOutcome
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.client_states import PersonalEntries

SHARE = 0.02
"""Of the time of all rounds, for evaluating again."""
_CLOSE = 1e-3
"""Relative: what is left to other orders of summation, precisions and devices."""
Row = Mapping[str, Any]
"""A line of ``metrics.jsonl``."""


def with_model(outcome: FederationOutcome, config: Config) -> list[str]:
    """Hospitals that the model can be evaluated at: of those that evaluations ask; where entries
    are personal, only such as train."""
    personal = outcome.form.entries.of_hospitals
    asked = evaluated(outcome.members, config)
    return [member.name for member in asked if member.trains or not personal]


def write_hospital_models(
    run: RunDirectory, population: Population, outcome: FederationOutcome
) -> None:
    """The whole model of each hospital that trains, where entries are personal; of a virtual
    population, of those that evaluations ask."""
    form, config = outcome.form, population.config
    if not form.entries.of_hospitals:
        return
    kept = PersonalEntries(run, outcome.round, outcome.accepted)
    model = build_model(population.task, outcome.totals, config.federation.seed)
    first = form.entries.only(model_arrays(model), Kind.PERSONAL)
    names = [member.name for member in outcome.members if member.trains]
    if population.members is not None:
        names = with_model(outcome, config)
    for name in names:
        path = hospital_path(run.model, name)
        path.parent.mkdir(exist_ok=True)
        arrays = outcome.model | (kept.of(name) or first)
        form.write(path, arrays, outcome.round, config.federation.seed, name)


def sums_of(
    population: Population,
    outcome: FederationOutcome,
    name: str,
    model: nn.Module,
    split: str = "test",
) -> Sums | None:
    """Metric sums of a saved model at a hospital, as that hospital itself sees them; None where it
    has no rows of this split."""
    training = population.config.training
    examples = population.hospital(name).examples(outcome.totals, digest_arrays(outcome.totals))
    if split not in examples:
        return None
    model.to(training.device)
    return evaluate_model(model, examples[split], population.task, training)


def check_saved(
    population: Population, outcome: FederationOutcome, saved: SavedModel, rounds: Sequence[Row]
) -> None:
    """Evaluate what was saved at some hospitals, against the figures of its round.

    Raises CheckpointError if it isn't the model that was measured.
    """
    row = next((one for one in rounds if one["round"] == outcome.round), {})
    parts = row.get("hospitals", {}).items()
    measured = {name: part["test"] for name, part in parts if "test" in part}
    if not measured:
        return
    until = time.monotonic() + SHARE * sum(one["seconds"]["total"] for one in rounds)
    for name, model in saved.each(sorted(measured)):
        sums = sums_of(population, outcome, name, model)
        if sums is not None:
            rows = population.hospital(name).sizes()["test"]
            _compare(name, measured[name], population.task.summarise(sums), rows, outcome.round)
        if time.monotonic() > until:
            break


def check_overall(
    population: Population, row: Row, found: Mapping[str, Mapping[str, float]]
) -> None:
    """The same where only sums are known: ``found`` are figures of the saved model.

    Raises CheckpointError.
    """
    names = found.keys() - {OVERALL}
    if OVERALL in found and not row["refused"]:
        rows = sum(population.hospital(name).sizes()["test"] for name in names)
        _compare(OVERALL, row["overall"]["test"], found[OVERALL], rows, row["round"])


def _compare(
    name: str,
    measured: Mapping[str, float | None],
    found: Mapping[str, float],
    rows: int,
    server_round: int,
) -> None:
    """Raise CheckpointError unless both are figures of one model.

    rows : how many were evaluated: a score at a threshold may fall on either side of it
    """
    for figure, value in measured.items():
        again = found.get(figure, math.nan)
        if value is None or not math.isfinite(value) or not math.isfinite(again):
            continue
        if abs(again - value) > _CLOSE * max(1.0, abs(value)) + 2 / max(1, rows):
            raise CheckpointError(
                f"{name}: the saved model gives {figure} {again:.4g}, in round {server_round} "
                f"{value:.4g} was measured: a model must not draw random numbers in evaluation; if "
                "it doesn't, this is a fault of wardround's own: please report it"
            )
