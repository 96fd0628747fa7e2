"""The report's plots as plain plotly figures (JSON-ready dictionaries, no random ids)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wardround.common.figures import figure as figures
from wardround.common.figures.records import MEAN, OVERALL, Change, Record, model_figure
from wardround.common.run.report.grouping import labels

Figure = dict[str, Any]
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#9A8B00")
"""Okabe and Ito's colours, told apart by colour-blind readers too; dashes tell more apart."""
_DASHES = ("solid", "dash", "dot", "dashdot")
_MANY = 12
_MOST_TICKS = 40
_SHORT_LEGEND, _LEGEND_LINE = 6, 12


def curves(
    records: list[Record],
    split: str,
    metric: str,
    titles: Mapping[str, str] | None = None,
    figure: figures.Figure | None = None,
    changes: Sequence[Change] = (),
) -> Figure | None:
    """A figure per hospital and overall over rounds; a band where there are too many to tell.

    figure : what it is; the broad line is whose figure stands for the model
    changes : from when on the curves are over other hospitals than before
    """
    figure = figure or figures.Figure(metric)
    series: dict[str, tuple[list[int], list[float | None]]] = {}
    for row in records:
        if row["split"] == split and row["metric"] == metric:
            rounds, values = series.setdefault(row["hospital"], ([], []))
            rounds.append(row["round"])
            values.append(_number(row["value"]))
    if not series:
        return None
    hospitals = {name: xy for name, xy in series.items() if name not in (MEAN, OVERALL)}
    if len(hospitals) > _MANY:
        traces = _band(hospitals)
    else:
        shown = labels(sorted(hospitals), titles or {})
        traces = _lines({shown[name]: xy for name, xy in sorted(hospitals.items())})
    stands = figure.stands if figure.stands in series else OVERALL
    for name in sorted({MEAN, OVERALL} & set(series), key=lambda name: name == stands):
        rounds, values = series[name]
        broad = {"width": 4, "dash": "solid"} if name == stands else {"width": 2, "dash": "dash"}
        traces.append(_trace(figure.name_of(name), rounds, values, broad | {"color": "ink"}))
    return {"data": traces, "layout": layout("round", metric, len(traces)) | _marks(changes)}


def _marks(changes: Sequence[Change]) -> dict[str, Any]:
    """A dotted line where the hospitals change, with who came and went above it."""
    if not changes:
        return {}
    line = {"color": "gray", "width": 1, "dash": "dot"}
    ends = {"type": "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "line": line}
    place = {"y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom", "showarrow": False}
    marked = [(change.round - 0.5, change.short()) for change in changes[:_MANY]]
    return {
        "shapes": [ends | {"x0": x, "x1": x} for x, _ in marked],
        "annotations": [place | {"x": x, "text": text} for x, text in marked],
    }


def _lines(series: dict[str, tuple[list[int], list[float | None]]]) -> list[dict[str, Any]]:
    return [
        _trace(
            name,
            rounds,
            values,
            {
                "width": 1.5,
                "color": PALETTE[index % len(PALETTE)],
                "dash": _DASHES[index // len(PALETTE) % len(_DASHES)],
            },
        )
        for index, (name, (rounds, values)) in enumerate(series.items())
    ]


def _band(series: dict[str, tuple[list[int], list[float | None]]]) -> list[dict[str, Any]]:
    """10th to 90th percentile over hospitals, per round."""
    by_round: dict[int, list[float]] = {}
    for rounds, values in series.values():
        for server_round, value in zip(rounds, values, strict=True):
            if value is not None:
                by_round.setdefault(server_round, []).append(value)
    rounds = sorted(by_round)
    low = [float(np.quantile(by_round[r], 0.1)) for r in rounds]
    high = [float(np.quantile(by_round[r], 0.9)) for r in rounds]
    line = {"width": 0.5, "color": PALETTE[4]}
    upper = _trace("90th percentile of hospitals", rounds, list(high), line)
    lower = _trace("10th percentile of hospitals", rounds, list(low), line)
    return [upper, lower | {"fill": "tonexty", "fillcolor": "rgba(86,180,233,0.25)"}]


def by_time(rounds: list[dict[str, Any]], split: str, figure: figures.Figure) -> Figure | None:
    """What stands for the model by simulated hours; None for a run without a clock."""
    known = [
        (row["simulated_time_s"] / 3600, value)
        for row in rounds
        if "simulated_time_s" in row and (value := model_figure(row, split, figure)) is not None
    ]
    if not known:
        return None
    hours, values = [list(column) for column in zip(*known, strict=True)]
    line = {"width": 4, "color": "ink"}
    name = figure.name_of(figure.stands)
    trace = {"type": "scatter", "mode": "lines+markers", "name": name, "line": line}
    return {
        "data": [trace | {"x": hours, "y": values}],
        "layout": layout("simulated hours", figure.name),
    }


def sizes(
    hospitals: list[dict[str, Any]], titles: Mapping[str, str] | None = None, counted: str = "rows"
) -> Figure | None:
    """What is counted (rows, patients) per hospital and split.

    Names are categories, also where they look like numbers.
    """
    if not hospitals:
        return None
    shown = labels([row["hospital"] for row in hospitals], titles or {})
    names = list(shown.values())
    traces = [
        {
            "type": "bar",
            "name": split,
            "x": names,
            "y": [row.get(split, 0) for row in hospitals],
            "marker": {"color": color, "pattern": {"shape": shape}},
        }
        for split, color, shape in (
            ("train", PALETTE[0], ""),
            ("validation", PALETTE[2], "/"),
            ("test", PALETTE[1], "x"),
        )
        if any(row.get(split) for row in hospitals)
    ]
    found = layout("", counted) | {"barmode": "stack"}
    found["xaxis"] |= {"type": "category"}
    if len(names) > _MOST_TICKS:  # the pointer shows whose a bar is
        found["xaxis"] |= {"showticklabels": False, "title": {"text": f"{len(names)} hospitals"}}
    return {"data": traces, "layout": found}


def timings(rounds: list[dict[str, Any]]) -> Figure | None:
    """Seconds per round, by step."""
    if not rounds:
        return None
    steps = [name for name in rounds[0]["seconds"] if name != "total"]
    traces = [
        {
            "type": "bar",
            "name": step,
            "x": [row["round"] for row in rounds],
            "y": [row["seconds"].get(step, 0) for row in rounds],
            "marker": {"color": PALETTE[index], "pattern": {"shape": "" if index == 0 else "/"}},
        }
        for index, step in enumerate(steps)
    ]
    return {"data": traces, "layout": layout("round", "seconds") | {"barmode": "stack"}}


def _trace(
    name: str, x: list[int], y: list[float | None] | list[float], line: dict[str, Any]
) -> dict[str, Any]:
    mode = "lines+markers" if len(x) < 3 else "lines"
    return {"type": "scatter", "mode": mode, "name": name, "x": x, "y": y, "line": line}


def layout(x: str, y: str, traces: int = 0) -> dict[str, Any]:
    """Of a plot with these axes. ``traces`` of a long legend get room below the plot, which keeps
    its own height."""
    return {
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "legend": {"orientation": "h", "y": -0.22},
        "hovermode": "x unified",
        "height": 380 + _LEGEND_LINE * max(0, traces - _SHORT_LEGEND),
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
