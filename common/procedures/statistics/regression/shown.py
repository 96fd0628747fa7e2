"""What is shown of a regression: its table, its forest plot, figures of fit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln
from scipy.stats import norm
from scipy.stats import t as student

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding.cells import rounded
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.families import Family
from wardround.common.procedures.statistics.regression.newton import Search
from wardround.common.procedures.statistics.regression.rows import scale_of
from wardround.common.procedures.statistics.regression.solve import (
    cholesky,
    inverse,
    symmetric,
)
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses import RegressionOptions

Floats = NDArray[np.float64]
_ERRORS = {
    "model": "of the family",
    "robust": "robust (HC1)",
    "persons": "robust, clustered by person",
    "hospitals": "robust, clustered by hospital",
}


@dataclass(frozen=True)
class Estimates:
    """Coefficients, P each; NaN where a column follows from others.

    degrees : of freedom of Student's t; infinite for the normal distribution
    """

    names: Sequence[str]
    values: Floats
    errors: Floats
    degrees: float = math.inf

    @property
    def statistics(self) -> Floats:
        """P, over their errors."""
        found: Floats = self.values / self.errors
        return found

    @property
    def p(self) -> Floats:
        """P, two-sided."""
        found: Floats = 2 * (
            norm.sf(np.abs(self.statistics))
            if math.isinf(self.degrees)
            else student.sf(np.abs(self.statistics), self.degrees)
        )
        return found

    def ends(self, level: float) -> tuple[Floats, Floats]:
        """P each: of the intervals."""
        share = 0.5 + level / 2
        far = norm.ppf(share) if math.isinf(self.degrees) else student.ppf(share, self.degrees)
        return self.values - far * self.errors, self.values + far * self.errors


@dataclass(frozen=True)
class Fitted:
    """A search that ended, and the last two totals around it.

    before : of ``rows``
    end : at the answer
    """

    options: RegressionOptions
    family: Family
    design: Design
    found: Search
    before: Sums
    end: Sums

    @property
    def rows(self) -> float:
        return float(self.before["rows"][0])

    @property
    def kept(self) -> NDArray[np.bool_]:
        """P, of the columns."""
        return self.found.kept[: len(self.design.names)]

    @property
    def dispersion(self) -> float:
        """Pearson's statistic over its degrees of freedom; 1 where the family has none."""
        return float(self.end["fit"][2]) / self.free if self.family.dispersed else 1.0

    @property
    def free(self) -> float:
        """Rows less columns."""
        return self.rows - float(self.kept.sum())

    @property
    def alpha(self) -> tuple[float, float] | None:
        """Of a negative binomial whose alpha is estimated, with its standard error."""
        if len(self.found.at) == len(self.design.names):
            return None
        alpha = math.exp(float(self.found.at[-1]))
        return alpha, alpha * math.sqrt(max(0.0, float(self._bread()[-1, -1])))

    def _bread(self) -> Floats:
        """Of the standard columns (with alpha): the inverse information, the observed one in a
        sandwich and beside an alpha, else the expected one, as statsmodels has them."""
        if "meat" in self.end or len(self.found.at) > len(self.design.names):
            matrix = symmetric(self.found.total["curvature"], len(self.found.at))
        else:
            matrix = symmetric(self.end["expected"], len(self.design.names))
        factor, kept = cholesky(matrix)
        return inverse(factor, kept)

    def estimates(self) -> Estimates:
        """In the columns' own units."""
        width = len(self.design.names)
        inner = self._bread()[:width, :width]
        if "meat" in self.end:
            clusters = float(self.end["clusters"][0])
            more = self.rows / self.free
            if self.options.errors != "robust":
                more = clusters / (clusters - 1) * (self.rows - 1) / self.free
            inner = more * inner @ symmetric(self.end["meat"], width) @ inner
        else:
            inner = inner * self.dispersion
        back = scale_of(self.design, self.before).back(self.design.names)
        values = np.where(self.kept, self.found.at[:width], 0.0)
        errors = np.sqrt(np.maximum(0.0, np.diag(back @ inner @ back.T)))
        lost = ~self.kept
        values, errors = back @ values, np.where(lost, np.nan, errors)
        values[lost] = np.nan
        degrees = math.inf
        if self.options.family == "linear":
            degrees = self.free
            if self.options.errors == "hospitals":
                degrees = float(self.end["clusters"][0]) - 1
        return Estimates(self.design.names, values, errors, degrees)

    def figures(self) -> dict[str, float]:
        """Of fit."""
        likelihood, deviance, pearson, around, logs, gamma = map(float, self.end["fit"])
        n, weighted = self.rows, self.options.weights is not None
        found = {"degrees of freedom": self.free, "deviance": deviance, "Pearson": pearson}
        parameters = float(self.found.kept.sum())
        if self.options.family == "linear":
            logged = float(self.before["outcome"][3])
            likelihood = -n / 2 * (math.log(2 * math.pi * deviance / n) + 1) + logged / 2
            found["residual standard error"] = math.sqrt(self.dispersion)
            if self.design.names[0] == INTERCEPT and around > 0:
                found["R squared"] = 1 - deviance / around
                found["R squared, adjusted"] = 1 - self.dispersion / (around / (n - 1))
        elif self.options.family == "gamma":
            phi = self.dispersion
            found["dispersion"] = phi
            shape = 1 / phi
            likelihood = n * (shape * math.log(shape) - float(gammaln(shape)))
            likelihood += (shape - 1) * logs - shape * gamma
            if weighted:
                likelihood = math.nan
        found |= {"log-likelihood": likelihood, "AIC": 2 * parameters - 2 * likelihood}
        if self.alpha is not None:
            found |= {"alpha": self.alpha[0], "alpha, standard error": self.alpha[1]}
        return found


def shown(fitted: Fitted, told: Told) -> Result:
    """All of it. Raises nothing: what has no value is none."""
    options, estimates = fitted.options, fitted.estimates()
    effect = fitted.family.effect
    lines = [
        f"{options.family.replace('_', ' ').capitalize()} regression, {options.formula}; standard "
        f"errors {_ERRORS[options.errors]}.",
    ]
    lost = [name for name, kept in zip(estimates.names, fitted.kept, strict=True) if not kept]
    if lost:
        lines.append(f"No coefficient, as other columns give theirs: {', '.join(lost)}.")
    figures = fitted.figures()
    counts: dict[str, float] = {"rows (rounded)": rounded(fitted.rows, told.least)}
    if fitted.family.counts:
        events = rounded(float(fitted.before["people"][1]), told.least)
        counts["persons with an event (rounded)"] = events
    fit: list[Sequence[Cell]] = [(name, value) for name, value in (counts | figures).items()]
    sheets = [
        coefficients(estimates, options.level, effect),
        Sheet(("figure", "value"), fit, "fit", "Fit"),
    ]
    named = [name for name, kept in zip(estimates.names, fitted.kept, strict=True) if kept]
    values = stored(estimates) | {"fit": {key: _none(value) for key, value in figures.items()}}
    plot = forest(estimates, options.level, effect)
    return Result(sheets, [plot] if len(named) > 1 else [], lines, values)


def coefficients(
    estimates: Estimates, level: float, effect: str, name: str = "", title: str = "Coefficients"
) -> Sheet:
    """The table of them. ``effect``: what an exponentiated one is called; '' for none."""
    low, high = estimates.ends(level)
    share = f"{100 * level:g} %"
    sign = "z" if math.isinf(estimates.degrees) else "t"
    head = ["coefficient", f"{share} from", f"{share} to", "p", "standard error", sign]
    columns = [estimates.values, low, high, estimates.p, estimates.errors, estimates.statistics]
    if effect:  # first, with p beside it: what a paper's table has
        head = [effect, f"{effect} from", f"{effect} to", "p", *head[:3], *head[4:]]
        effects = [_exp(estimates.values), _exp(low), _exp(high)]
        columns = [*effects, estimates.p, *columns[:3], *columns[4:]]
    head = ["term", *head]
    cells = np.column_stack(columns).tolist()
    lines = [
        (term, *(_none(value) for value in values))
        for term, values in zip(estimates.names, cells, strict=True)
    ]
    return Sheet(head, lines, name, title)


def forest(estimates: Estimates, level: float, effect: str) -> Mapping[str, Any]:
    """A forest plot of all but the intercept."""
    low, high = estimates.ends(level)
    points = np.column_stack([estimates.values, low, high])
    points = _exp(points) if effect else points
    rows = []
    for name, (at, left, right) in zip(estimates.names, points.tolist(), strict=True):
        drawable = math.isfinite(at) and math.isfinite(right) and (left > 0 or not effect)
        if name != INTERCEPT and drawable:
            text = f"{at:.3g} ({left:.3g} to {right:.3g})"
            rows.append({"name": name, "estimate": at, "low": left, "high": right, "text": text})
    plot = {"type": "forest", "title": f"{effect or 'coefficient'}s", "x": effect or "coefficient"}
    return plot | {"rows": rows, "log": bool(effect), "at": 1.0 if effect else 0.0}


def stored(estimates: Estimates) -> dict[str, Any]:
    """For programs: each coefficient by its name."""
    columns = [estimates.values, estimates.errors, estimates.p]
    return {
        "coefficients": {
            name: dict(zip(("estimate", "standard_error", "p"), map(_none, values), strict=True))
            for name, values in zip(estimates.names, np.column_stack(columns).tolist(), strict=True)
        }
    }


def _exp(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        found: Floats = np.exp(values)
    return found


def _none(value: float) -> float | None:
    return value if math.isfinite(value) else None
