"""From a run directory to its ``report.html``: reads what a run wrote, computes nothing new."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wardround.common.calibration.thresholds import read_thresholds
from wardround.common.config.load import Config, load_config
from wardround.common.errors import ModelRefused, WardroundError
from wardround.common.figures.areas import around
from wardround.common.figures.compared import compared, intervals, span_of
from wardround.common.figures.figure import MEAN, OVERALL, Figure, FigureTable, is_number
from wardround.common.figures.noised import NOT_MEASURABLE
from wardround.common.figures.records import (
    changes_of_hospitals,
    evaluation_of,
    flat_records,
    mean_of_some,
    model_rows,
    simulated_time_notes,
)
from wardround.common.protocol.names import HELD_OUT
from wardround.common.run.curves import Curves, curves_of
from wardround.common.run.directory import RunDirectory
from wardround.common.run.report.aggregation_notes import aggregation_notes
from wardround.common.run.report.of_procedures import report_procedure
from wardround.common.run.report.outside import OUTSIDE, outside_lines
from wardround.common.run.report.page import HIDDEN, ReportData, write_report
from wardround.common.run.report.privacy_notes import latest_claims, privacy_notes
from wardround.common.run.traffic import traffic_notes
from wardround.common.tasks.coefficients import coefficients_in

_MOST_CHANGES = 10


def report_run(run: RunDirectory) -> Path:
    """Write the run's ``report.html`` (again) and return its path. Raises RunDirectoryError."""
    if report_procedure(run):
        return run.report
    summary, rounds, config = run.summary(), run.rounds(), _config(run)
    claims, curves = latest_claims(rounds), _curves(run, summary, rounds)
    stamp = time.localtime(run.config_path.stat().st_mtime)
    data = ReportData(
        name=str(summary.get("name", run.path.name)),
        created=time.strftime("%Y-%m-%dT%H:%M:%S", stamp),
        status=str(summary.get("status", "stopped before the first round")),
        purpose=str(summary.get("purpose", "")),
        config_toml=run.config_path.read_text("utf-8"),
        environment=run.environment() | _devices(summary),
        figures=FigureTable.read(summary),
        records=flat_records(rounds),
        rounds=rounds,
        hospitals=[
            _with_prevalence(row, rounds)
            | {"warnings": _warnings(row, summary), "epsilon": _epsilon(row, claims)}
            for row in summary.get("hospitals", [])
        ],
        comparison=list(summary.get("comparison", [])) or _model_rows(summary, rounds, curves),
        curves=curves,
        thresholds=_thresholds(run),
        coefficients=coefficients_in(run.model),
        notes=_notes(run, config),
        protection=config.privacy.sentence if config else "",
        virtual_clients=int(summary.get("population", {}).get("clients", 0)),
        members=int(summary.get("members", 0)),
        counted=_counted(config),
        titles=dict(summary.get("titles", {})),
        absent=list(summary.get("absent", [])),
    )
    write_report(data, run.report)
    return run.report


def _curves(
    run: RunDirectory, summary: dict[str, Any], rounds: list[dict[str, Any]]
) -> dict[str, Curves]:
    """Of the model that the run leaves, by split. Raises RunDirectoryError."""
    overall = evaluation_of(rounds, _chosen(summary, rounds)).get("overall", {})
    return curves_of(run.path, overall)


def _thresholds(run: RunDirectory) -> list[dict[str, Any]]:
    """Of the model's ``thresholds.json``; empty where it has none, or one that can't be read."""
    try:
        rows: list[dict[str, Any]] = [
            {
                "rule": str(one["rule"]),
                "threshold": float(one["threshold"]),
                "figures": {str(k): list(map(_or_none, v)) for k, v in one["figures"].items()},
            }
            for one in read_thresholds(run.model)
        ]
    except (ModelRefused, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [row for row in rows if 0 <= row["threshold"] <= 1]


def _or_none(value: Any) -> float | None:
    return float(value) if is_number(value) else None


def _devices(summary: dict[str, Any]) -> dict[str, str]:
    """What computed, as the hospitals said it."""
    counts = Counter(row["device"] for row in summary.get("hospitals", []) if row.get("device"))
    said = [
        f"{device} ({count} hospital{'s' if count > 1 else ''})"
        for device, count in sorted(counts.items())
    ]
    if one := summary.get("population", {}).get("device"):
        said = [one]
    return {"computed on": ", ".join(said)} if said else {}


def final_lines(run: RunDirectory) -> list[str]:
    """What the model that the run leaves has reached, a line for each held-out split: its primary
    figure as the mean of the hospitals and of all rows, with intervals. One line that says so if
    there is none.

    Raises RunDirectoryError.
    """
    summary, rounds = run.summary(), run.rounds()
    chosen, figure = _chosen(summary, rounds), FigureTable.read(summary).primary
    lines, evaluation = [], evaluation_of(rounds, chosen)
    curves = _curves(run, summary, rounds)
    for split in HELD_OUT:
        rows = _with_intervals(evaluation, split, curves.get(split))
        parts = []
        for row in rows:
            if row["hospital"] in (MEAN, OVERALL):
                ((text, _),) = compared(row, ["federated"], figure, _number)
                of, over = mean_of_some(evaluation, split, figure)
                some = f"mean of {of} of {over} hospitals" if row["hospital"] == MEAN and of else ""
                span = span_of(row, "federated", figure)
                if text:
                    of_what = some or figure.name_of(row["hospital"])
                    reach = f"; 95 % interval {span[0]:.3f} to {span[1]:.3f}" if span else ""
                    parts.append(f"{text} ({of_what}{reach})")
        if parts:
            line = f"model of round {chosen}, {split} rows: {figure.name} {', '.join(parts)}"
            spans = intervals(rows, ["federated"], figure).removeprefix("federated ")
            lines.append(line + (f"; 95 % interval of the mean: {spans}" if spans else ""))
        hidden = evaluation.get("overall", {}).get(split, {}).get(figure.name, 0.0) is None
        if evaluation.get("intervals") is not None and hidden:
            lines.append(
                f"model of round {chosen}, {split} rows: {figure.name} is {NOT_MEASURABLE}: the "
                "noise, or chance with so few rows, hides it"
            )
    if not lines and rounds:
        lines.append(f"model of round {chosen or rounds[-1]['round']}: no figure was measured")
    return lines


def _number(value: Any) -> str:
    return f"{value:.3f}" if is_number(value) else ""


def _chosen(summary: dict[str, Any], rounds: list[dict[str, Any]]) -> int:
    """The round whose model the run leaves; 0 if none was evaluated."""
    evaluated = [row["round"] for row in rounds if row["overall"]]
    return int(summary.get("chosen_round") or max(evaluated, default=0))


def _model_rows(
    summary: dict[str, Any], rounds: list[dict[str, Any]], curves: Mapping[str, Curves]
) -> list[dict[str, Any]]:
    """The model's figures where nothing was computed to compare it with, as between machines."""
    evaluation = evaluation_of(rounds, _chosen(summary, rounds))
    return _with_intervals(evaluation, "test", curves.get("test"))


def _with_intervals(
    evaluation: Mapping[str, Any], split: str, curves: Curves | None
) -> list[dict[str, Any]]:
    """The model's rows with the intervals that are known: of all rows together by the added sums,
    of the hospitals' mean by the sampling variances of their own figures."""
    rows = model_rows(evaluation, split)
    within = evaluation.get("within", {}).get(split, {})
    means = {
        name: around(one["mean"], one["variance"])
        for name, one in within.items()
        if is_number(one.get("variance")) and is_number(one.get("mean"))
    }
    spans = curves.intervals if curves is not None else {}
    spans = evaluation.get("intervals", {}).get(split, spans)  # of figures with noise
    known = {MEAN: means, OVERALL: spans}
    return [row | {"intervals": {"federated": known.get(row["hospital"], {})}} for row in rows]


def _epsilon(row: dict[str, Any], claims: dict[str, dict[str, float | None]]) -> float | None:
    """What the hospital claims to have spent; None in a run without privacy."""
    return claims.get(row["hospital"], {}).get("epsilon")


def _warnings(hospital: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    """What the hospital told the server, or what the simulation's own machine noted."""
    own = f"{hospital['hospital']}: "
    noted = [line for line in summary.get("warnings", []) if line.startswith(own)]
    return [*hospital.get("warnings", []), *noted]


def _with_prevalence(hospital: dict[str, Any], rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Add the share of positive test rows, where an evaluation told it."""
    for row in reversed(rounds):
        figures = row["hospitals"].get(hospital["hospital"], {}).get("test", {})
        if figures.get("prevalence") is not None:
            return hospital | {"prevalence": figures["prevalence"]}
    hidden = any(row.get("hidden") for row in rounds)
    return hospital | {"prevalence": HIDDEN if hidden else None}


def _counted(config: Config | None) -> str:
    """What the hospitals' sizes are, as the server was told them."""
    unit = config.privacy.unit if config else "none"
    return {
        "none": "rows",
        "example": "rows, as announced with noise",
        "patient": "patients, as announced with noise",
        "hospital": "1 where there may be rows; how many isn't announced",
    }[unit]


def _config(run: RunDirectory) -> Config | None:
    try:
        return load_config(run.config_path)
    except WardroundError:
        return None


def _notes(run: RunDirectory, config: Config | None) -> list[str]:
    """What a reader must know before trusting or sharing the figures."""
    simulated, summary, rounds = not run.deployed, run.summary(), run.rounds()
    comparison = summary.get("comparison", [])
    made = [kind for kind in ("local", "pooled") if any(row.get(kind) for row in comparison)]
    notes = [
        *summary.get("left_out", []),
        *aggregation_notes(config, rounds, simulated, bool(comparison), summary.get("masks")),
        *_factor_notes(rounds),
        *(privacy_notes(config, rounds, simulated, made) if config else []),
        *_model_notes(summary, rounds, config),
        *([f"{line[:1].upper()}{line[1:]}."] if (line := summary.get("falling")) else []),
        *_figure_notes(FigureTable.read(summary).primary, rounds),
    ]
    if any(row["overall"] for row in rounds):
        notes.append(
            "'overall' adds the hospitals' sums (every row counts the same); 'mean' is the plain "
            "mean of the hospitals' figures (every hospital counts the same)."
        )
    if config is None:
        return notes
    notes += traffic_notes(rounds, config.evaluation.every)
    scenario = config.simulation.scenario
    notes[:0] = simulated_time_notes(
        rounds,
        FigureTable.read(summary).primary,
        scenario.get("target") if isinstance(scenario, dict) else None,
    )
    notes[:0] = _who_was_not_there(summary)
    notes[:0] = outside_lines(summary.get(OUTSIDE, []), FigureTable.read(summary).primary)
    if initial := summary.get("initial"):
        notes.append(f"The first model took {initial['taken']} arrays from {initial['file']}.")
    if not_chosen := summary.get("not_chosen"):
        notes.append(f"evaluation.select is 'best', but {not_chosen}.")
    elif config.evaluation.select == "best" and summary.get("chosen_round"):
        chance = ", as far as noise let it be seen" if any("intervals" in x for x in rounds) else ""
        notes.append(f"The model is that of the round with the best validation figure{chance}.")
    virtual = config.simulation.partition == "virtual"
    if virtual:
        notes.append(
            "The population is virtual: its clients were made when they were sampled. Figures are "
            "of a sample of them, the same in every round."
        )
    if made:
        notes.append(
            f"{' and '.join(repr(kind) for kind in made)}: trained with the same settings, on "
            "inputs prepared the same way, with as many passes over the data as the federation"
            f"{'; a pooled model exists only in a simulation' * ('pooled' in made)}."
        )
    notes += [f"{line[:1].upper()}{line[1:]}." for line in summary.get("comparison_notes", [])]
    return notes


def _who_was_not_there(summary: dict[str, Any]) -> list[str]:
    """Why a run ended early, and whom it was without."""
    early, titles = summary.get("ended_early"), summary.get("titles", {})
    return [
        *([f"The run ended early: {early}."] if early else []),
        *(f"{name} took no part: {why}." for name, why in summary.get("unfit", {}).items()),
        *(
            f"{titles.get(name, name)} wasn't there at the end: {why.rstrip('.')}."
            for name, why in summary.get("away", {}).items()
        ),
    ]


def _model_notes(
    summary: dict[str, Any], rounds: list[dict[str, Any]], config: Config | None
) -> list[str]:
    """What the run's own evaluation of the model that it leaves is of, where no comparison of
    single hospitals says it."""
    if not rounds or summary.get("comparison") or summary.get("too_few"):
        return []
    chosen, figure = _chosen(summary, rounds), FigureTable.read(summary).primary
    evaluation = evaluation_of(rounds, chosen)
    if not evaluation.get("overall"):
        line = f"No figure of the model of round {chosen or rounds[-1]['round']} was measured."
        if config is not None and config.secure_aggregation.enabled:
            line += (
                " Under secure aggregation a figure is of at least "
                f"{config.secure_aggregation.min_cohort} hospitals with held-out rows, or of more "
                "where a hospital wants more."
            )
        return [line]
    of, over = mean_of_some(evaluation, "test", figure)
    if not of or evaluation.get("hospitals"):
        return []
    return [
        f"The mean of {figure.name} is of {of} of the {over} hospitals that evaluated: on the "
        "others' rows it is undefined."
    ]


def _figure_notes(primary: Figure, rounds: list[dict[str, Any]]) -> list[str]:
    """What the primary figure is of, and which hospitals it is over."""
    notes = [change.sentence() for change in changes_of_hospitals(rounds, "test")]
    notes += [
        f"In round {row['round']} other hospitals evaluated than before: the best model so far "
        f"(round {row['again']['round']}) was evaluated again by them, and held against the new "
        "one there."
        for row in rounds
        if "again" in row
    ]
    if len(notes) > _MOST_CHANGES:
        notes[_MOST_CHANGES:] = ["The hospitals that evaluate changed oftener than is told here."]
    if primary.within:
        notes.append(
            f"{primary.name} of all rows together ranks patients of different hospitals against "
            "each other, so it also measures how their prevalences differ: models are compared by "
            "the mean of the hospitals' own."
        )
    return notes


def _factor_notes(rounds: list[dict[str, Any]]) -> list[str]:
    """What averaging low-rank factors has cost, where hospitals told it."""
    errors = [row["factors_error"] for row in rounds if row.get("factors_error") is not None]
    if not errors:
        return []
    middle = sorted(errors)[len(errors) // 2]
    return [
        "Averaging A and B of the adapters is not averaging their products: it changed a round's "
        f"step by {middle:.1%} of its size (the middle of {len(errors)} rounds; at most "
        f"{max(errors):.1%}), as estimated from 16 numbers a layer. task.lora_aggregation has "
        "exact ways."
    ]
