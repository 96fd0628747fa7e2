"""What is shown of groups' counts by time: tables, plots and notes, without telling of few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from wardround.common.procedures.hiding import rounded
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.survival import steps
from wardround.common.procedures.statistics.survival.curves import (
    Curve,
    Floats,
    LifeTable,
    area,
    at,
    curve,
    least,
    median,
    restricted_mean,
)
from wardround.common.procedures.statistics.survival.logrank import LogRank, log_rank
from wardround.common.settings.analyses.survival import KaplanMeierOptions

_TICKS = 6
_HIDDEN = 16.0
"""Power of ten of the tables that a step must hide for figures of every time to be shown: four
times the digits of one figure."""
_DIGITS = 4


@dataclass(frozen=True)
class Line:
    """A group's curve as it is shown, and the tables behind it.

    counts : what can be shown of
    places : numbers of the shown times, (J,)
    moved : of which steps all rows count at the end, (J,)
    steps : the table by step
    table : that the curve is worked out from, of every time of the grid, (M,)
    curve, low : of that table; S, and the least that it can be, (M,)
    exact : the table of every time as it is, for figures of the whole curve; None where the steps
        hide too little for it
    digits : of figures of the whole curve; None for all
    grains : of which multiples are shown at each step, (J,); None: values as they are
    """

    name: str
    counts: steps.Counts
    places: steps.Places
    moved: Sequence[bool]
    steps: LifeTable
    table: LifeTable
    curve: Curve
    low: Floats
    exact: LifeTable | None
    digits: int | None
    grains: Sequence[float] | None

    @property
    def whole(self) -> LifeTable:
        """What figures of the whole curve are worked out from."""
        return self.exact or self.table

    @property
    def rows(self) -> float:
        """How many there are."""
        return float((self.counts.events + self.counts.censored).sum())

    def off(self, horizon: float) -> float:
        """By how much the restricted mean may be too large."""
        low = self.low.copy()
        for (first, last), moved in zip(steps.runs(self.places), self.moved, strict=True):
            if moved:
                low[max(0, first - 1) : last] = low[last]
        times = self.table.times
        return area(times, self.curve.survival, horizon) - area(times, low, horizon)


def shown_curves(
    counts: Sequence[steps.Counts],
    names: Sequence[str],
    options: KaplanMeierOptions,
    people: int,
    told: Told,
) -> Result:
    """Of G groups. ``people``: persons of all hospitals, in a group or in none."""
    lines, common = _lines(counts, names, options, told.least, people)
    notes = _notes(options, told, lines, len(lines) < len(names))
    if not lines:
        return Result(notes=["Fewer persons had an event than may be told of.", *notes])
    horizon = options.restricted_mean or min(line.steps.times[-1] for line in lines)
    test = _test(lines, common)
    summary = Sheet(
        ("group", "rows", "events", "median", "from", "to", "mean", "error", "off by at most"),
        [_summary(name, lines, horizon, told.least) for name in names],
        title=f"Median with its 95 % interval; mean up to {horizon:g} with its standard error",
    )
    sheets = [summary, *([_test_sheet(test)] if test else []), _curve_sheet(lines, told.least)]
    values: dict[str, Any] = {
        "curves": [_values(line, told.least) for line in lines],
        "restricted_mean_until": horizon,
    }
    if test:
        values["log_rank"] = {"statistic": test.statistic, "freedom": test.freedom, "p": test.p}
    return Result(sheets, _plots(lines, options, told.least), notes, values)


def _lines(
    counts: Sequence[steps.Counts],
    names: Sequence[str],
    options: KaplanMeierOptions,
    least: int,
    people: int,
) -> tuple[list[Line], steps.Places]:
    """Those that are shown, and the ends of their common steps."""
    found = [
        (name, one)
        for name, each in zip(names, counts, strict=True)
        if (one := steps.shown(each, least)) is not None
    ]
    there = sum(one.people(0, len(one.events) - 1) for _, one in found)
    if len(found) < len(names) and 0 < people - there < least:
        found = found[1:]  # else who knows all rows could subtract: few are in no curve
    kept = [one for _, one in found]
    size = len(counts[0].events)
    common = steps.merged(kept, 0, size, least) if len(kept) > 1 else ()
    lines = []
    for name, one in found:
        if places := steps.refined(one, common, least):
            lines.append(_line(name, one, places, options, least))
    return lines, common


def _line(
    name: str,
    counts: steps.Counts,
    places: steps.Places,
    options: KaplanMeierOptions,
    least_cell: int,
) -> Line:
    hidden = steps.hidden(counts, places)
    moved = [not options.exact and one < _HIDDEN for one in hidden]
    used = steps.moved(counts, places, moved)
    every = tuple(range(len(counts.events)))
    table, exact = used.table(every, options.grid), counts.table(every, options.grid)
    ends = np.zeros(len(every), np.bool_)
    ends[[place for place, yes in zip(places, moved, strict=True) if yes]] = True
    by_step = counts.table(places, options.grid)
    whole = options.exact or sum(hidden) >= 2 * _HIDDEN
    return Line(
        name,
        counts,
        places,
        moved,
        by_step,
        table,
        curve(table),
        least(table, used.entered, ends),
        exact if whole else None,
        None if options.exact else _DIGITS,
        None if options.exact else steps.grains(by_step, least_cell * counts.each),
    )


def _test(lines: Sequence[Line], common: steps.Places) -> LogRank | None:
    """Of every time; where a line hides too little for it, of the steps that all have in common."""
    if len(lines) < 2:
        return None
    whole = [line.exact for line in lines if line.exact is not None]
    if len(whole) == len(lines):
        found = log_rank(whole)
    elif common:
        found = log_rank([line.counts.table(common, 1.0) for line in lines])
    else:
        found = None
    if found is None:
        return None
    figures = lines[0].digits
    return replace(found, statistic=digits(found.statistic, figures), p=digits(found.p, figures))


# --- tables ---------------------------------------------------------------------------------------
def _summary(name: str, lines: Sequence[Line], horizon: float, least: int) -> list[Cell]:
    line = next((one for one in lines if one.name == name), None)
    if line is None:
        return [name, "not shown", "not shown", *[None] * 6]
    found = curve(line.whole)
    ends = line.steps.times[-1]
    middle, low, high = median(found.until(ends))
    if ends < horizon and at(found, ends) > 0:
        mean = error = off = math.nan  # the curve ends before
    else:
        mean, error = (digits(one, line.digits) for one in restricted_mean(line.whole, horizon))
        off = 0.0 if line.exact is not None else digits(line.off(horizon), 2)
    rows, events = (rounded(one, least) for one in (line.rows, line.counts.events.sum()))
    return [name, rows, events, *map(_or_none, (middle, low, high, mean, error, off))]


def _test_sheet(test: LogRank) -> Sheet:
    return Sheet(
        ("chi square", "degrees of freedom", "p"),
        [(test.statistic, test.freedom, test.p)],
        "log-rank",
        "Log-rank test",
    )


def _curve_sheet(lines: Sequence[Line], least: int) -> Sheet:
    rows: list[list[Cell]] = []
    for line in lines:
        found = _values(line, least)
        columns = [found[key] for key in _COLUMNS]
        rows += [[line.name, *cells] for cells in zip(*columns, strict=True)]
    return Sheet(("group", *_COLUMNS), rows, "curve", "Survival and cumulative hazard")


_COLUMNS = (
    "time",
    "at_risk",
    "survival",
    "lower",
    "upper",
    "least",
    "hazard",
    "hazard_lower",
    "hazard_upper",
)


def _values(line: Line, least: int) -> dict[str, Any]:
    """As lists, from time 0 on. ``at_risk``: after the time, to the nearest multiple of k."""
    where = np.searchsorted(line.curve.times, line.steps.times)
    found: dict[str, Any] = {
        "group": line.name,
        "time": [0.0, *map(float, line.steps.times)],
        "at_risk": [rounded(one, least) for one in _staying(line)],
        "least": [1.0, *_rounded(line.low[where], line.grains)],
    }
    for key in ("survival", "lower", "upper", "hazard", "hazard_lower", "hazard_upper"):
        values = getattr(line.curve, key)[where]
        first = 0.0 if key.startswith("hazard") else 1.0
        found[key] = [first, *_rounded(values, line.grains)]
    found["survival"] = np.minimum.accumulate(found["survival"]).tolist()
    return found


def _rounded(values: Floats, grains: Sequence[float] | None) -> list[float]:
    if grains is None:
        return [float(one) for one in values]
    return [to_grain(float(one), grain) for one, grain in zip(values, grains, strict=True)]


def to_grain(value: float, grain: float) -> float:
    """The nearest multiple."""
    return round(round(value / grain) * grain, 4)


def digits(value: float, count: int | None) -> float:
    """To so many digits; None: to all."""
    return value if count is None else float(f"{value:.{count}g}")


def _staying(line: Line) -> list[float]:
    """Rows under observation right after time 0 and each step."""
    table = line.steps
    left = table.at_risk - table.events - table.censored
    return [float(table.at_risk[0]), *map(float, left)]


# --- plots and notes ------------------------------------------------------------------------------
def _plots(lines: Sequence[Line], options: KaplanMeierOptions, least: int) -> list[dict[str, Any]]:
    values = [_values(line, least) for line in lines]
    ticks = _ticks(max(line.steps.times[-1] for line in lines))
    risk = {"times": ticks, "rows": [_at_risk(one, ticks) for one in values]}
    plot = {"type": "curves", "x": options.time}
    return [
        plot
        | {
            "title": "Survival with 95 % bands",
            "y": f"share without event ({options.event})",
            "lines": [_drawn(one, "survival", "lower", "upper") for one in values],
            "limits": [0.0, 1.0],
            "risk": risk,
        },
        plot
        | {
            "title": "Cumulative hazard with 95 % bands",
            "y": "cumulative hazard",
            "lines": [_drawn(one, "hazard", "hazard_lower", "hazard_upper") for one in values],
        },
    ]


def _drawn(values: dict[str, Any], key: str, low: str, high: str) -> dict[str, Any]:
    return {
        "name": values["group"],
        "x": values["time"],
        "y": values[key],
        "low": values[low],
        "high": values[high],
        "step": True,
    }


def _ticks(last: float) -> list[float]:
    raw = last / _TICKS
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(one * unit for one in (1, 2, 2.5, 5, 10) if one * unit >= raw * 0.999)
    return [number * step for number in range(math.floor(last / step + 1e-9) + 1)]


def _at_risk(values: dict[str, Any], ticks: Sequence[float]) -> dict[str, Any]:
    places = np.searchsorted(values["time"], ticks, side="right") - 1
    ends = values["time"][-1]
    shown = [
        str(values["at_risk"][place]) if tick <= ends else ""
        for place, tick in zip(places, ticks, strict=True)
    ]
    return {"name": values["group"], "counts": shown}


def _notes(
    options: KaplanMeierOptions, told: Told, lines: Sequence[Line], some_few: bool
) -> list[str]:
    k, late = told.least, ", entries down" if options.entry else ""
    found = [
        f"Times are rounded up to multiples of {options.grid:g}{late}: the server saw the sums of "
        f"all hospitals by these times, also of few persons. Rows with a gap don't count, and "
        f"where fewer than {k} persons of a group are censored, these don't.",
    ]
    if options.exact:
        found.append(
            f"Steps of {k} persons with an event or more are shown. Their values are of every time "
            "of the grid: from their digits readers may work out the order of events and "
            "censorings within a step, also of few."
        )
    else:
        found.append(
            f"Shown are steps of {k} persons or more with an event, and none or {k} or more who "
            "were censored. Figures are of every time of the grid, so far rounded that they "
            "don't tell what happened when within a step. Within others it counts at the step's "
            "end: “least” is what survival can't be below then, and the shown value is the most."
        )
        if moved := [line.name for line in lines if line.exact is None]:
            found.append(
                f"That concerns the median and mean of {', '.join(moved)}, too: the mean is too "
                "large by “off by at most” at most. The log-rank test beside it is of the steps "
                "that all groups have in common, if there are, and finds less. A finer grid, or "
                "exact = true, helps."
            )
    found.append(
        f"Numbers at risk are those right after the last shown time, to the nearest multiple of "
        f"{k}. Kaplan-Meier with log-log bands and Nelson-Aalen as in lifelines."
    )
    if some_few:
        found.append(
            f"A group is not shown whose events are of fewer than {k} persons, or which "
            "would tell of one that is."
        )
    return found


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
