"""Each hospital's own regression, pooled: ``kind = "meta_analysis"``.

A hospital fits the model to its own rows, and nobody sees what it found. Own steps: how many
hospitals have each coefficient; sums of weights (1 / variance) and weighted coefficients, which
give the common one; of squared distances from it and of squared weights, which give Q, I^2 and
tau^2 (DerSimonian and Laird, Control. Clin. Trials 7, 1986); of the weights that tau^2 makes.

These are six equations for a coefficient, of two unknowns of each hospital: so a coefficient that
fewer than ``LEAST_HOSPITALS`` have is not pooled, and no row of a forest plot is one hospital's.

A hospital has a coefficient if it has the persons for a model of its own, its search ends, and no
column that it lacks (a level, a constant) is part of it there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.regression.by_formula import (
    LEAST_HOSPITALS,
    ByFormula,
    Known,
)
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.glm import point
from wardround.common.procedures.statistics.regression.newton import MOST_POINTS, Search, search
from wardround.common.procedures.statistics.regression.rows import PERSONS_A_COLUMN, Rows
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
)
from wardround.common.procedures.statistics.result import Result, Sheet, Told
from wardround.common.settings.analyses import MetaOptions

Floats = NDArray[np.float64]
_PART = 1e-6
"""A lacking column that is so little of another one is no part of it."""


class Meta(ByFormula[MetaOptions]):
    """See the module."""

    kind = "meta_analysis"
    own_steps = 4
    needs_hospitals = True

    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        size = (known.width,)
        steps: list[Shapes] = [
            {"hospitals": size},
            {"weights": size, "weighted": size},
            {"distances": size, "squares": size},
            {"weights": size, "weighted": size},
        ]
        if own:
            self._pooled(own)
        return steps[len(own)] if len(own) < len(steps) else {}

    def own_counts(self, known: Known, own: Sequence[Sums]) -> Iterable[str]:
        return () if own else ("hospitals",)

    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        values, variances = self._alone(known, mine)
        have = np.isfinite(values)
        if not own:
            return {"hospitals": have.astype(np.float64)}
        have &= self._pooled(own)
        weights = np.divide(1.0, variances, where=have, out=np.zeros_like(values))
        values = np.where(have, values, 0.0)
        if len(own) == 2:
            distances = np.where(have, values - _common(own), 0.0)
            return {"distances": weights * distances**2, "squares": weights**2}
        if len(own) == 3:
            spread = np.where(have, variances + self._tau(own), 1.0)
            weights = np.where(have, 1 / spread, 0.0)
        return {"weights": weights, "weighted": weights * values}

    def _alone(self, known: Known, mine: Rows) -> tuple[Floats, Floats]:
        """P coefficients of a hospital's own model and their variances; NaN where it has none."""
        none = np.full(known.width, np.nan)
        if mine.people < max(self._smallest, PERSONS_A_COLUMN * known.width):
            return none, none
        z = mine.standard(known.scale)
        found = self._fit(known, mine, z)
        if found is None:
            return none, none
        eta, model = z @ found.at + mine.offset, self._family
        expected = (z.T * (mine.weight * model.expected(mine.y, eta))) @ z
        factor, kept = cholesky(expected)
        covariance = inverse(factor, kept)
        if model.dispersed:
            covariance = covariance * float(found.total["fit"][1]) / (len(mine.y) - kept.sum())
        back = known.scale.back(known.design.names)
        values, variances = back @ found.at, np.diag(back @ covariance @ back.T).copy()
        clear = kept.copy()
        for place in np.flatnonzero(~kept):
            part = solve(factor, kept, expected[:, place])
            clear &= np.abs(part) <= _PART
        if known.intercept and not kept.all():
            clear[0] = False  # it stands for the lacking columns' means
        return np.where(clear, values, np.nan), np.where(clear, variances, np.nan)

    def _fit(self, known: Known, mine: Rows, z: Floats) -> Search | None:
        """A hospital's own; None where its search doesn't end."""
        mean = float((mine.weight * mine.y).sum() / mine.weight.sum())
        if self._binary and not 0 < mean < 1:
            return None
        if self.options.family != "linear" and not mean > 0:
            return None
        begin, totals = np.zeros(known.width), list[Sums]()
        if known.intercept:
            begin[0] = self._family.start(mean) - float(mine.offset.mean())
        try:
            for _ in range(MOST_POINTS):
                found = search(begin, totals, len(mine.y), self._family.dispersed)
                if found.ended or found.used >= MOST_POINTS:
                    return found if found.ended else None
                eta = z @ found.at + mine.offset
                totals.append(point(mine, z, eta, self._family))
        except NoAnswer:
            return None
        return None

    def _pooled(self, own: Sequence[Sums]) -> NDArray[np.bool_]:
        """P: coefficients that enough hospitals have. Raises NoAnswer where none is."""
        found: NDArray[np.bool_] = own[0]["hospitals"] >= LEAST_HOSPITALS
        if not found.any():
            raise NoAnswer(
                f"Fewer than {LEAST_HOSPITALS} hospitals have a model of their own: each needs "
                f"{PERSONS_A_COLUMN} persons for each column, and rows that differ in all of them."
            )
        return found

    def _tau(self, own: Sequence[Sums]) -> Floats:
        """P, the variance between hospitals."""
        weights, squares = own[1]["weights"], own[2]["squares"]
        free = own[0]["hospitals"] - 1
        some = weights > 0
        scale = weights - np.divide(squares, weights, where=some, out=np.zeros_like(weights))
        more = np.maximum(0.0, own[2]["distances"] - free)
        found: Floats = np.divide(more, scale, where=scale > 0, out=np.zeros_like(weights))
        return found

    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        pooled, names, effect = self._pooled(own), known.design.names, self._family.effect
        fixed, mixed = _estimates(names, own[1], pooled), _estimates(names, own[3], pooled)
        q, free = own[2]["distances"], own[0]["hospitals"] - 1
        tau, level = self._tau(own), self.options.level
        share = np.divide(np.maximum(0.0, q - free), q, where=q > 0, out=np.zeros_like(q))
        lines = [
            (name, int(count), float(t), math.sqrt(t), float(i), float(one), float(chi2.sf(one, f)))
            for name, count, t, i, one, f, there in zip(
                names, own[0]["hospitals"], tau, share, q, free, pooled, strict=True
            )
            if there
        ]
        head = ("term", "hospitals", "tau squared", "tau", "I squared", "Q", "p of Q")
        plot = dict(forest(fixed, level, effect))
        plot["rows"] = [
            row | {"name": f"{row['name']}, {what}"}
            for pair in zip(plot["rows"], forest(mixed, level, effect)["rows"], strict=True)
            for row, what in zip(pair, ("fixed", "random"), strict=True)
        ]
        notes = [
            f"Meta-analysis of each hospital's own {self.options.family} regression, "
            f"{self.options.formula}: inverse variances; DerSimonian and Laird's tau squared. No "
            "hospital's own coefficients leave it.",
        ]
        if not pooled.all():
            few = ", ".join(n for n, there in zip(names, pooled, strict=True) if not there)
            notes.append(f"Of fewer than {LEAST_HOSPITALS} hospitals, and not pooled: {few}.")
        return Result(
            [
                coefficients(mixed, level, effect),
                coefficients(fixed, level, effect, "fixed", "Coefficients, fixed effects"),
                Sheet(head, lines, "heterogeneity", "Heterogeneity between hospitals"),
            ],
            [plot],
            notes,
            {"random": stored(mixed), "fixed": stored(fixed)},
        )


def _common(own: Sequence[Sums]) -> Floats:
    weights = own[1]["weights"]
    found: Floats = np.divide(
        own[1]["weighted"], weights, where=weights > 0, out=np.zeros_like(weights)
    )
    return found


def _estimates(names: Sequence[str], total: Sums, pooled: NDArray[np.bool_]) -> Estimates:
    weights = np.where(pooled, total["weights"], np.nan)
    return Estimates(names, total["weighted"] / weights, np.sqrt(1 / weights))
