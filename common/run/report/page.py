"""One self-contained HTML page about a run: opens offline, asks no one for anything.

Names and reasons come from outside, so everything is escaped: text by jinja2, plot data by writing
every '<' of its JSON as an escape. Equal input gives equal bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from wardround.common.durable.files import write_atomically
from wardround.common.figures.compared import (
    compared,
    intervals,
    mean_interval,
    mean_over,
    own_figures,
    same_hospitals,
    span_of,
    standing_row,
)
from wardround.common.figures.figure import BOUND_SENTENCE, FigureTable, is_number
from wardround.common.figures.records import (
    EPSILON,
    MEAN,
    OVERALL,
    PRIVACY,
    Record,
    changes_of_hospitals,
    human_seconds,
)
from wardround.common.run.curves import Curves
from wardround.common.run.report import plots
from wardround.common.run.report.grouping import (
    grouped_failures,
    grouped_refusals,
    grouped_warnings,
    hospitals_of,
    in_rounds,
)
from wardround.common.run.report.quality import HEAD, Quality
from wardround.common.run.traffic import human_bytes, training_bytes
from wardround.common.tasks.coefficients import Coefficient
from wardround.common.text import to_json

HIDDEN = "hidden"
"""Stands for a figure that the server can't know."""
KINDS = ("local", "federated", "pooled")
_LONG = 30
"""Rows of a table that is folded away, also in print, with a line that sums it up."""
_FIRST = ("auc", "c_index", "accuracy", "balanced_accuracy", "rmse", "r2", "f1", "loss")


@dataclass(frozen=True)
class ReportData:
    """What the page shows.

    records : flat rows {round, hospital, split, metric, value}; see ``common/figures/records.py``
    rounds : the lines of ``metrics.jsonl``
    purpose : of a network's study, as its researcher wrote it
    hospitals : {hospital, train, validation, test, warnings, prevalence, epsilon}
    protection : whether, and how, the run is differentially private
    counted : what the hospitals' numbers count: rows, or units as they were announced
    titles : what hospitals are called, by name, where that is something else
    absent : {hospital, reason} of those that can't take part
    virtual_clients : how many there are, where nobody lists them
    members : how many hospitals there are, where the page is for those that are shown none of them
    comparison : {hospital, local, federated, pooled}, each of the last three {metric: value}; and
        ``intervals`` of these
    curves : of the model that the run leaves, by split
    thresholds : {rule, threshold, figures} of its ``thresholds.json``
    coefficients : of a linear model
    """

    name: str
    created: str
    status: str
    config_toml: str
    environment: dict[str, str]
    figures: FigureTable
    records: list[Record]
    rounds: list[dict[str, Any]]
    hospitals: list[dict[str, Any]]
    comparison: list[dict[str, Any]]
    notes: list[str]
    purpose: str = ""
    protection: str = ""
    virtual_clients: int = 0
    members: int = 0
    counted: str = "rows"
    titles: dict[str, str] = field(default_factory=dict)
    absent: list[dict[str, str]] = field(default_factory=list)
    curves: dict[str, Curves] = field(default_factory=dict)
    thresholds: list[dict[str, Any]] = field(default_factory=list)
    coefficients: list[Coefficient] = field(default_factory=list)

    @property
    def primary(self) -> str:
        """Name of the figure that chooses the best round."""
        return self.figures.primary.name


def write_report(data: ReportData, path: Path) -> None:
    """Write the page, atomically."""
    write_atomically(path, render(data).encode())


def write_figures(
    figures: dict[str, plots.Figure],
    title: str,
    path: Path,
    sections: dict[str, list[str]] | None = None,
) -> None:
    """A page of sentences (by heading) and figures (by caption), atomically."""
    template = _environment().get_template("figures.html")
    text = template.render(
        title=title,
        sections=sections or {},
        captions=list(figures),
        figures_json=_script_json({"figures": list(figures.values())}),
        plotly=Markup(get_plotlyjs()),
    )
    write_atomically(path, text.encode())


def render(data: ReportData) -> str:
    """The page as HTML text."""
    split = "test" if any(r["split"] == "test" for r in data.records) else "validation"
    evaluated = next((s for s in ("test", "validation") if s in data.curves), "")
    primary, changes = data.figures.primary, changes_of_hospitals(data.rounds, split)
    figures = {
        "primary": plots.curves(data.records, split, data.primary, data.titles, primary, changes),
        "by-time": plots.by_time(data.rounds, split, primary),
        "loss": None
        if data.primary == "loss"
        else plots.curves(data.records, split, "loss", data.titles, None, changes),
        "train-loss": plots.curves(data.records, "train", "loss"),
        "epsilon": plots.curves(data.records, PRIVACY, EPSILON, data.titles),
        "sizes": plots.sizes(data.hospitals, data.titles, data.counted),
        "timings": plots.timings(data.rounds),
    }
    shown = {name: figure for name, figure in figures.items() if figure is not None}
    quality = Quality.of(data.curves, data.thresholds, evaluated)
    shown |= quality.figures
    return _template().render(
        data=data,
        split=split,
        figures=shown,
        figures_json=_script_json(shown),
        plotly=Markup(get_plotlyjs()),
        tables=_tables(data),
        quality=quality,
        quality_head=HEAD,
        answer=_answer(data),
        kinds=[kind for kind in KINDS if any(row.get(kind) for row in data.comparison)],
        single=any(row["hospital"] not in (MEAN, OVERALL) for row in data.comparison),
        refused=grouped_refusals(data.rounds, data.titles),
        unmask=any(one["step"] == "unmask" for row in data.rounds for one in row["refused"]),
        failed=grouped_failures(data.rounds),
        hospitals_of=hospitals_of,
        repeated=in_rounds(
            r["round"] for r in data.rounds if r["attempt"] > 1 and not r.get("lost")
        ),
        lost=[row for row in data.rounds if row.get("lost")],
        warnings=grouped_warnings(data.hospitals, data.titles),
        positive="prevalence" in data.figures,
        long=_LONG,
        simulated=all("simulated_time_s" in row for row in data.rounds),
        total_bytes=sum(r["bytes_down"] + r["bytes_up"] for r in data.rounds),
        training_bytes=training_bytes(data.rounds),
        total_seconds=sum(r["seconds"]["total"] for r in data.rounds),
    )


def _answer(data: ReportData) -> list[tuple[str, str, str]]:
    """The primary figure that stands for each kind of model, for the head of the page: kind, figure
    and what it is of."""
    figure, kinds = data.figures.primary, _kinds(data)
    row = standing_row(data.comparison, figure, kinds)
    if not row:
        return []
    what, cells = figure.name_of(row["hospital"]), compared(row, kinds, figure, number)
    found = []
    for kind, (text, _) in zip(kinds, cells, strict=True):
        span = span_of(row, kind, figure)
        if row["hospital"] == MEAN:
            span = mean_interval(own_figures(data.comparison, kind, figure)) or span
        reach = f"; 95 % interval {number(span[0])} to {number(span[1])}" if span else ""
        found.append((kind, text, what + reach))
    return found


def _kinds(data: ReportData) -> list[str]:
    return [kind for kind in KINDS if any(kind in row for row in data.comparison)]


def _tables(data: ReportData) -> list[dict[str, Any]]:
    """One comparison table per metric, the primary one first."""
    if not data.comparison:
        return []
    metrics = dict.fromkeys(
        metric for row in data.comparison for kind in KINDS for metric in row.get(kind, {})
    )
    hidden = data.figures.counts() | data.figures.bounds()
    order = [data.primary, *(m for m in _FIRST if m in metrics and m != data.primary)]
    order += [m for m in metrics if m not in order and m not in hidden]
    return [_table(data, metric) for metric in order]


def _table(data: ReportData, metric: str) -> dict[str, Any]:
    kinds, figure = _kinds(data), data.figures[metric]
    rows: list[dict[str, Any]] = []
    for row in data.comparison:
        cells: list[Any] = list(compared(row, kinds, figure, number, data.comparison))
        if row["hospital"] == MEAN and not same_hospitals(data.comparison, kinds, figure):
            cells = [(text, False) for text, _ in cells]
        reach = [span_of(row, kind, figure) for kind in kinds]
        cells = [(text, star, span) for (text, star), span in zip(cells, reach, strict=True)]
        name = figure.name_of(data.titles.get(row["hospital"], row["hospital"]))
        summary = row["hospital"] in (MEAN, OVERALL)
        rows.append({"name": name, "cells": cells, "summary": summary})
    spans = intervals(data.comparison, kinds, figure)
    notes = [f"95 % interval of the mean over hospitals: {spans}."] if spans else []
    if over := mean_over(data.comparison, kinds, figure):
        notes.insert(0, f"{over[:1].upper()}{over[1:]}.")
    if any(span for row in rows for _, _, span in row["cells"]):
        notes.append("Beside a figure stands its 95 % interval, with every row for one patient.")
    if any("±" in text for row in rows for text, _, _ in row["cells"]):
        notes.append(f"{BOUND_SENTENCE}.")
    return {"metric": metric, "kinds": kinds, "rows": rows, "notes": notes}


def number(value: Any) -> str:
    """Three decimals, or a dash where there is no finite number; what is hidden says so."""
    if value == HIDDEN:
        return HIDDEN
    return f"{value:.3f}" if is_number(value) else "–"


def _script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element, whatever texts it holds."""
    text = to_json(json.loads(to_json(value)))
    for character, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(character, escape)
    return Markup(text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _template() -> jinja2.Template:
    return _environment().get_template("page.html")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["human_bytes"] = human_bytes
    environment.filters["human_seconds"] = human_seconds
    return environment
