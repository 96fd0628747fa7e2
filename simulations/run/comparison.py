"""The final table: each hospital's own model, the federated and the pooled one, on the same test
rows.

It compares those who took part, and what can't be trained or measured costs its cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wardround.common.config.load import Config
from wardround.common.figures.records import MEAN, OVERALL, evaluation_of, mean_figures
from wardround.common.model.saved import SavedModel
from wardround.common.run.directory import RunDirectory
from wardround.common.run.sums import KeptSums, read_kept
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.server.rounds.federation import FederationOutcome
from wardround.simulations.population.hospitals import Population
from wardround.simulations.run.baselines import (
    Failures,
    Figures,
    federated_figures,
    local_figures,
    pooled_figures,
)
from wardround.simulations.run.saved_models import check_overall, check_saved

_EXACT = "figures of this table are exact, as only a simulation has them; the run's own carry noise"
Comparison = list[dict[str, Any]]


def compare(
    config: Config,
    population: Population,
    run: RunDirectory,
    outcome: FederationOutcome,
    saved: SavedModel,
    observer: Observer,
) -> Comparison:
    """Rows of the table, kept in the run's summary with notes on what is missing: figures of the
    hospitals that evaluations ask; of a virtual population the federated mean and overall only."""
    rounds = run.rounds()
    row, failures = evaluation_of(rounds, outcome.round), Failures()
    if "test" not in row.get("overall", {}):
        notes = []
        few = population.members is None  # of a million clients nobody is looked at
        if few and not any(member.sizes["test"] for member in outcome.members):
            notes = ["there are no test figures: no hospital has test rows (data.test_fraction)"]
        observer.warnings(notes)
        run.update(comparison=[], comparison_notes=notes)
        return []
    noised = row.get("intervals") is not None
    if noised:  # nothing saved can be held against figures with noise
        federated = federated_figures(population, outcome, saved, failures)
    elif rounds[-1].get("hidden"):
        federated = federated_figures(population, outcome, saved, failures)
        check_overall(population, row, federated)
    else:
        parts = row["hospitals"].items()
        federated = Figures({name: part["test"] for name, part in parts if "test" in part})
        check_saved(population, outcome, saved, run.rounds())
        if config.simulation.baselines and population.members is None:  # to be told apart from
            again = federated_figures(population, outcome, saved, failures)
            federated.intervals = again.intervals
    names = sorted(set(federated) - {OVERALL})
    if not noised or OVERALL not in federated:
        _add_overall(federated, row["overall"]["test"], read_kept(run))
    columns: dict[str, Figures] = {"federated": federated}
    if config.simulation.baselines and population.members is None:
        observer.progress("training local and pooled models to compare with")
        made = rounds[-1]["round"]  # fewer than configured where the run ended early
        trained = took_part(outcome.members, rounds)
        own = [name for name in names if name in trained]
        common = (outcome.totals, failures)
        columns["local"] = local_figures(population, own, *common, rounds=made)
        columns["pooled"] = pooled_figures(population, trained, *common, shown=names, rounds=made)
    notes = [*failures.notes, *_make_comparable(columns, names), *([_EXACT] if noised else [])]
    shown = names if population.members is None else []
    table = [_row(columns, name, population.titles) for name in [*shown, MEAN, OVERALL]]
    observer.warnings(notes)
    run.update(comparison=table, comparison_notes=notes)
    return table


def _add_overall(figures: Figures, overall: dict[str, float], kept: KeptSums | None) -> None:
    """The run's own figures of all rows together, with their intervals."""
    figures[OVERALL] = overall
    figures.intervals[OVERALL] = kept.intervals("test", overall) if kept is not None else {}


def _row(columns: Mapping[str, Figures], name: str, titles: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"hospital": name, "title": titles.get(name, name)}
    row |= {kind: one.get(name, {}) for kind, one in columns.items()}
    return row | {"intervals": {k: one.intervals.get(name, {}) for k, one in columns.items()}}


def took_part(members: Sequence[Member], rounds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Who trains, but for hospitals that were asked and never once accepted."""
    asked: set[str] = set()
    accepted: set[str] = set()
    for row in rounds:
        asked.update(row["cohort"])
        accepted.update(row["accepted"])
    never = asked - accepted
    return [member.name for member in members if member.trains and member.name not in never]


def _make_comparable(columns: dict[str, Figures], names: list[str]) -> list[str]:
    """Add the means, over hospitals of which every kind of model has figures, and drop what is over
    other rows than the federated model's; sentences on both."""
    made = [figures for figures in columns.values() if set(names) & set(figures)]
    everywhere = [name for name in names if all(name in figures for figures in made)]
    for figures in columns.values():
        if not set(names) <= set(figures):
            figures.pop(OVERALL, None)
            figures.intervals.pop(OVERALL, None)
        if everywhere and everywhere[0] in figures:  # else none were made of this kind
            figures[MEAN] = mean_figures(figures[name] for name in everywhere)
    if len(everywhere) == len(names):
        return []
    lacking = [name for name in names if name not in everywhere]
    return [
        f"the comparison's means are over {len(everywhere)} of {len(names)} hospitals, for all "
        f"kinds of model; without {', '.join(lacking[:5])}{' and others' * (len(lacking) > 5)}"
    ]
