"""A linear model with an intercept of each hospital's: ``kind = "mixed_model"``.

y = X b + u + e, with u ~ N(0, ratio sigma^2) by hospital and e ~ N(0, sigma^2). For a given ratio
the likelihood's best b and sigma follow from sums over hospitals of their products, less what their
own mean takes up (V^-1 = I - c 1 1', c = ratio / (1 + n ratio)). So a search for the ratio by
Newton's steps on the profiled, restricted likelihood takes some ten sums (Laird and Ware,
Biometrics 38, 1982; Bates and DebRoy, J. Multivar. Anal. 91, 2004).

Two such sums of unlike hospitals give each hospital's column sums away: the server solves for them
by their sizes. No row's values, but no secret between hospitals either; so the plan has to say
``tells_hospitals = true``. Hospitals of fewer persons than the smallest cell send zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.regression.by_formula import (
    LEAST_HOSPITALS,
    ByFormula,
    Known,
)
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.rows import Rows
from wardround.common.procedures.statistics.regression.shown import (
    Estimates,
    coefficients,
    forest,
    stored,
)
from wardround.common.procedures.statistics.regression.solve import (
    cholesky,
    inverse,
    solve,
    symmetric,
    triangle,
    upper,
)
from wardround.common.procedures.statistics.result import Result, Sheet, Told
from wardround.common.settings.analyses import MixedOptions

Floats = NDArray[np.float64]
_MOST_POINTS, _NEAR, _LONGEST, _FIRST = 40, 1e-9, 2.0, 0.1


@dataclass(frozen=True)
class _Profile:
    """At one ratio.

    slope, bend : of the profiled log-likelihood by the ratio
    """

    values: Floats
    kept: NDArray[np.bool_]
    inner: Floats
    squares: float
    rows: float
    determinant: float
    slope: float
    bend: float


class Mixed(ByFormula[MixedOptions]):
    """See the module."""

    kind = "mixed_model"
    own_steps = _MOST_POINTS
    needs_hospitals = True

    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        _, ended = self._search(known, own)
        if ended or len(own) >= _MOST_POINTS:
            return {}
        size = triangle(known.width + 1)
        return {"products": (3, *size), "logs": (3,), "n": (2,)}

    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        ratio, _ = self._search(known, own)
        if mine.people < self._smallest:
            mine = mine.none()
        both = np.column_stack([mine.standard(known.scale), mine.y - mine.offset - _mean(known)])
        n, total = float(len(both)), both.sum(0)
        square, share = np.outer(total, total), 1 / (1 + n * ratio)
        return {
            "products": np.stack(
                [
                    upper(both.T @ both - ratio * share * square),
                    upper(-(share**2) * square),
                    upper(2 * n * share**3 * square),
                ]
            ),
            "logs": np.array([math.log1p(n * ratio), n * share, -((n * share) ** 2)]),
            "n": np.array([n, float(n > 0)]),
        }

    def _search(self, known: Known, own: Sequence[Sums]) -> tuple[float, bool]:
        """The next ratio, or the answer, and whether it is. It begins at 0, which is the answer
        where the likelihood falls from there. Raises NoAnswer."""
        ratio, low, high = 0.0, -math.inf, math.inf
        for place, total in enumerate(own):
            if float(total["n"][1]) < LEAST_HOSPITALS:
                raise NoAnswer(
                    f"Fewer than {LEAST_HOSPITALS} hospitals have {self._smallest} persons."
                )
            here = self._profile(known, total)
            if place == 0:
                if here.slope <= 0:
                    return 0.0, True
                ratio = _FIRST
                continue
            at, slope = math.log(ratio), ratio * here.slope
            bend = ratio * ratio * here.bend + slope
            low, high = (at, high) if slope > 0 else (low, at)
            step = -slope / bend if bend < 0 else math.copysign(1.0, slope)
            step = min(_LONGEST, max(-_LONGEST, step))
            if abs(step) <= _NEAR:
                return ratio, True
            new = at + step
            if not low < new < high:
                new = (max(low, at - _LONGEST) + min(high, at + _LONGEST)) / 2
            ratio = math.exp(new)
        return ratio, False

    def _profile(self, known: Known, total: Sums) -> _Profile:
        width = known.width
        whole, first, second = (symmetric(one, width + 1) for one in total["products"])
        factor, kept = cholesky(whole[:width, :width])
        values, inner = solve(factor, kept, whole[:width, width]), inverse(factor, kept)
        aside = np.append(-values, 1.0)
        squares = float(aside @ whole @ aside)
        rows, restricted = float(total["n"][0]), self.options.method == "reml"
        free = rows - float(kept.sum()) if restricted else rows
        if not squares > 1e-20 * whole[width, width]:
            raise NoAnswer("The outcome follows exactly from the columns.")
        pulled = first @ aside
        by, bent = float(aside @ pulled), float(aside @ second @ aside)
        bent -= 2 * float(pulled[:width] @ inner @ pulled[:width])
        slope = free * by / squares + float(total["logs"][1])
        bend = free * (bent / squares - (by / squares) ** 2) + float(total["logs"][2])
        determinant = float(total["logs"][0])
        if restricted:
            turned = inner @ first[:width, :width]
            slope += float(np.trace(turned))
            bend += float(np.trace(inner @ second[:width, :width]) - np.trace(turned @ turned))
            determinant += 2 * float(np.log(np.diag(factor)[kept]).sum())
            determinant += 2 * float(np.log(known.scale.unit[kept]).sum())
        return _Profile(values, kept, inner, squares, rows, determinant, -slope / 2, -bend / 2)

    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        ratio, ended = self._search(known, own)
        if not ended:
            raise NoAnswer("The search for the variance between hospitals didn't end.")
        here, restricted = self._profile(known, own[-1]), self.options.method == "reml"
        free = here.rows - float(here.kept.sum()) if restricted else here.rows
        within = here.squares / free
        likelihood = -0.5 * (free * (math.log(2 * math.pi * within) + 1) + here.determinant)
        back = known.scale.back(known.design.names)
        values = back @ here.values
        if known.intercept:
            values[0] += _mean(known)
        errors = np.sqrt(np.maximum(0.0, np.diag(back @ here.inner @ back.T) * within))
        lost = ~here.kept
        estimates = Estimates(
            known.design.names, np.where(lost, np.nan, values), np.where(lost, np.nan, errors)
        )
        between = ratio * within
        fit: dict[str, float] = {
            "variance between hospitals": between,
            "variance within": within,
            "share between (ICC)": between / (between + within),
            "log-likelihood" + (", restricted" if restricted else ""): likelihood,
            "hospitals": float(own[-1]["n"][1]),
        }
        named = [name for name, gone in zip(known.design.names, lost, strict=True) if gone]
        notes = [
            f"Linear mixed model, {self.options.formula}, with a random intercept of each "
            f"hospital's; {'restricted' if restricted else 'full'} maximum likelihood."
        ]
        if named:
            notes.append(f"No coefficient, as other columns give theirs: {', '.join(named)}.")
        if ratio == 0:
            notes.append("Hospitals differ no more than their rows do: the variance is 0.")
        return Result(
            [
                coefficients(estimates, self.options.level, ""),
                Sheet(("figure", "value"), list(fit.items()), "fit", "Fit"),
            ],
            [forest(estimates, self.options.level, "")] if known.width > 1 else [],
            notes,
            stored(estimates) | {"fit": fit},
        )


def _mean(known: Known) -> float:
    """Of the outcome less its offset, where an intercept takes it up; against rounding only."""
    if not known.intercept:
        return 0.0
    weight, outcome, offset, _ = (float(value) for value in known.total["outcome"])
    return outcome / weight - offset / known.rows
