"""What is shown of proportional hazards: coefficients, forest plot, fit, the test of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding import rounded
from wardround.common.procedures.statistics.regression.newton import Search
from wardround.common.procedures.statistics.regression.shown import (
    Estimates,
    coefficients,
    forest,
    stored,
)
from wardround.common.procedures.statistics.regression.solve import cholesky, inverse, symmetric
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.procedures.statistics.survival.partial import Floats
from wardround.common.settings.analyses.survival import CoxOptions

_EFFECT = "hazard ratio"


@dataclass(frozen=True)
class Fitted:
    """A search that ended.

    names : P, of the columns
    found : in the columns' units
    unit : P, what these are
    null : likelihood, slope and information of no effect
    rows : totals before the search
    end : pairs of patients within hospitals
    drift : P, the sum over events of time times Schoenfeld's residual
    times : how many events, the sum of their times, that of the squares
    ends : of pooled risk sets, the times at which they were summed
    """

    options: CoxOptions
    names: Sequence[str]
    found: Search
    unit: Floats
    null: Sums
    rows: Sums
    end: Sums
    drift: Floats
    times: Floats
    ends: Floats | None = None

    def covariance(self) -> Floats:
        """P x P, in the columns' units; 0 where a column follows from others."""
        matrix = symmetric(self.found.total["curvature"], len(self.names))
        factor, kept = cholesky(matrix)
        return inverse(factor, kept)

    def estimates(self) -> Estimates:
        """In the columns' own units."""
        lost = ~self.found.kept
        errors = np.sqrt(np.diag(self.covariance())) / self.unit
        values = self.found.at / self.unit
        return Estimates(self.names, np.where(lost, np.nan, values), np.where(lost, np.nan, errors))

    def figures(self) -> dict[str, float]:
        """Of fit."""
        likelihood, null = float(self.found.total["fit"][0]), float(self.null["fit"][0])
        free = float(self.found.kept.sum())
        ratio = 2 * (likelihood - null)
        right, tied, pairs = (
            float(self.end[name][0]) for name in ("concordant", "tied", "comparable")
        )
        found = {
            "log-likelihood": likelihood,
            "log-likelihood without columns": null,
            "likelihood ratio": ratio,
            "degrees of freedom": free,
            "p of the likelihood ratio": float(chi2.sf(ratio, free)),
            "AIC": 2 * free - 2 * likelihood,
        }
        if self.options.entry is None:
            found["concordance within hospitals"] = (
                (right + tied / 2) / pairs if pairs else math.nan
            )
        return found

    def proportional(self) -> tuple[Floats, Floats]:
        """Chi square of one degree of freedom, and p, of each column: whether its effect changes
        with time (Grambsch and Therneau 1994, as lifelines' ``proportional_hazard_test`` with the
        time as it is)."""
        count, total, squares = (float(one) for one in self.times)
        spread = squares - total**2 / count
        covariance = self.covariance()
        scaled = count * (covariance @ self.drift)
        below = count * np.diag(covariance) * spread
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.where(below > 0, scaled**2 / below, np.nan)
        return found, chi2.sf(found, 1)


def lost(names: Sequence[str], found: Search) -> str:
    """Why a search has no end."""
    moved = np.abs(found.step)
    if not moved.any():
        return "The search for the coefficients didn't end."
    return (
        f"The search for the coefficients didn't end: that of {names[int(moved.argmax())]} grows "
        "without end. Events are on one side of its values alone, as of a level that has none: "
        "join levels, or leave it out."
    )


def shown(fitted: Fitted, notes: Sequence[str], told: Told) -> Result:
    """All of it."""
    options, estimates = fitted.options, fitted.estimates()
    lines = [*_notes(options, told.least), *notes]
    kept = [name for name, one in zip(fitted.names, fitted.found.kept, strict=True) if one]
    if gone := [name for name in fitted.names if name not in kept]:
        lines.append(f"No coefficient, as other columns give theirs: {', '.join(gone)}.")
    figures = fitted.figures()
    without, events = (float(one) for one in fitted.rows["people"])
    counts: dict[str, float] = {
        "rows (rounded)": rounded(float(fitted.rows["rows"][0]), told.least),
        "persons with an event (rounded)": rounded(events, told.least),
    }
    fit: list[Sequence[Cell]] = [(name, _none(one)) for name, one in (counts | figures).items()]
    squares, chances = fitted.proportional()
    tests: list[Sequence[Cell]] = [
        (name, _none(square), _none(p))
        for name, square, p in zip(fitted.names, squares.tolist(), chances.tolist(), strict=True)
    ]
    plot = forest(estimates, options.level, _EFFECT)
    return Result(
        [
            coefficients(estimates, options.level, _EFFECT),
            Sheet(("figure", "value"), fit, "fit", "Fit"),
            Sheet(
                ("term", "chi square", "p"),
                tests,
                "proportional",
                "Does an effect change with time? (Schoenfeld's residuals)",
            ),
        ],
        [plot] if kept else [],
        lines,
        stored(estimates)
        | {
            "fit": {name: _none(one) for name, one in figures.items()},
            "proportional_hazards": {name: p for name, _, p in tests},
        }
        | ({} if fitted.ends is None or not options.merged else {"times": fitted.ends.tolist()}),
    )


def _notes(options: CoxOptions, least: int) -> list[str]:
    ties = "Efron" if options.ties == "efron" else "Breslow"
    if options.risk_sets == "hospital":
        return [
            f"Proportional hazards, {options.formula}; ties after {ties}, stratified by hospital: "
            "each has its own baseline hazard and risk sets, at its exact times. The server saw "
            "sums of their likelihoods, slopes and informations, none by time."
        ]
    merged = f"merged until {least} persons or more have an event at each" * options.merged
    return [
        f"Proportional hazards, {options.formula}; ties after {ties}, risk sets of all hospitals "
        f"at multiples of {options.grid:g}, to which times are rounded up, "
        f"{merged or 'each that has an event'}. The server saw sums over these risk sets, and so "
        "over those who left between two of them."
    ]


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None
