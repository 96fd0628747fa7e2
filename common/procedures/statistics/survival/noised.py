"""Curves of counts with noise, and bands that include it.

Of events d and censorings c by time, each with noise of variance s^2, n(j) is the sum of d and c
from j on. log S(k), the sum of log(1 - d/n) up to k, changes with each noised number by

    v(j) + U(min(j, k))  with d(j), where j <= k for v;   U(min(j, k))  with c(j);
    u = 1 / (n - d) - 1 / n,   v = -1 / (n - d),   U(k) = u(0) + ... + u(k)

so that noise adds s^2 times the squares of all of these to Greenwood's variance. S is made falling
afterwards (the nearest falling curve), and ends where n is lost in its noise.

Shapes: M times of the grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression

from wardround.common.figures.sums import Sums
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.survival.curves import Floats, Z, quantile
from wardround.common.settings.analyses.survival import KaplanMeierOptions

_CLEAR = 3.0
"""Standard deviations of its noise that n must have, or the curve ends."""


def noised_survival(events: Floats, censored: Floats, noise: float) -> tuple[Floats, Floats]:
    """S by time up to where n is lost in noise, and the standard error of log S; (K,), K <= M.

    noise : standard deviation of that on each count
    """
    n = (events + censored)[::-1].cumsum()[::-1]
    spread = noise * np.sqrt(2.0 * np.arange(len(n), 0, -1))
    lost = np.flatnonzero((n < np.maximum(1.0, _CLEAR * spread)) | (n - events < 1.0))
    end = int(lost[0]) if len(lost) else len(n)
    n, d = n[:end], events[:end]
    log = np.cumsum(np.log1p(-d / n))
    greenwood = np.cumsum(np.maximum(d, 0.0) / (n * (n - d)))
    u, v = 1.0 / (n - d) - 1.0 / n, -1.0 / (n - d)
    reached = np.cumsum(u)
    inside = np.cumsum((reached + v) ** 2 + reached**2)
    behind = 2.0 * (len(events) - 1 - np.arange(end)) * reached**2
    error = np.sqrt(greenwood + noise**2 * (inside + behind))
    if not end:
        return log, error
    falling = isotonic_regression(np.exp(log), increasing=False).x
    return np.clip(falling, 0.0, 1.0), error


def noised_curves(
    totals: Sums, names: Sequence[str], options: KaplanMeierOptions, told: Told
) -> Result:
    """Tables and a plot of G groups; medians from where the bands reach 1/2."""
    summary: list[list[Cell]] = []
    rows: list[list[Cell]] = []
    lines: list[dict[str, Any]] = []
    for place, name in enumerate(names):
        events, censored = totals["events"][place], totals["censored"][place]
        survival, error = noised_survival(events, censored, told.noise)
        counted = float((events + censored).sum())
        wide = math.ceil(Z * told.noise * math.sqrt(2 * len(events)))
        cells: list[Cell] = [name, round(counted), wide]
        if not len(survival):
            summary.append([*cells, None, None, None])
            continue
        times = options.grid * np.arange(len(survival), dtype=np.float64)
        low: Floats = np.clip(survival * (1 - Z * error), 0.0, 1.0)
        high: Floats = np.clip(survival * (1 + Z * error), 0.0, 1.0)
        medians = (quantile(times, one) for one in (survival, low, high))
        summary.append([*cells, *(one if math.isfinite(one) else None for one in medians)])
        columns = [list(map(float, one)) for one in (times, survival, low, high)]
        rows += [[name, *each] for each in zip(*columns, strict=True)]
        keys = ("x", "y", "low", "high")
        lines.append({"name": name, "step": True} | dict(zip(keys, columns, strict=True)))
    plot = {
        "type": "curves",
        "title": "Survival with 95 % bands, noise included",
        "x": options.time,
        "y": f"share without event ({options.event})",
        "lines": lines,
        "limits": [0.0, 1.0],
    }
    head = ("group", "rows", "rows ±", "median", "from", "to")
    return Result(
        [
            Sheet(head, summary, title="Median with its 95 % interval"),
            Sheet(("group", "time", "survival", "lower", "upper"), rows, "curve", "Survival"),
        ],
        [plot] if lines else [],
        [
            f"Events and censorings by multiples of {options.grid:g} carry noise: from readers and "
            "from the server. Bands and intervals include it, and Greenwood's variance. A curve "
            "ends where the number at risk is lost in its noise: a larger grid lets it go on. "
            "Neither the log-rank test nor restricted means are worked out from noised counts."
        ],
    )
