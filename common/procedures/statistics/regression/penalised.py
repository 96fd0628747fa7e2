"""Ridge, lasso and elastic net by a formula: ``kind = "penalised_regression"``.

Linear: one step, products of the standard columns and the outcome, of each fold apart; every
strength and every fold's error follow from these. Logistic: proximal Newton, whose inner problem is
on the summed information (``penalty``).

Which fold a row is in follows from what it holds (all rows of a person together): from a seed the
server would know it, and sums of many known draws would be equations for every row. No standard
errors: what a penalty does to them nobody agrees on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.regression.by_formula import ByFormula, Known
from wardround.common.procedures.statistics.regression.design import INTERCEPT
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.glm import point
from wardround.common.procedures.statistics.regression.newton import shapes_of
from wardround.common.procedures.statistics.regression.penalty import Penalty, least, strengths
from wardround.common.procedures.statistics.regression.rows import PERSONS_A_COLUMN, Rows
from wardround.common.procedures.statistics.regression.solve import dot, symmetric, triangle, upper
from wardround.common.procedures.statistics.result import Cell, Result, Sheet, Told
from wardround.common.settings.analyses import PenalisedOptions

Floats = NDArray[np.float64]
_MOST_POINTS = 60
_NEAR = 1e-22
_WORSE = 1e-12


@dataclass(frozen=True)
class _Search:
    at: Floats
    ended: bool


class Penalised(ByFormula[PenalisedOptions]):
    """See the module."""

    kind = "penalised_regression"

    @property
    def own_steps(self) -> int:
        return 1 if self.options.family == "linear" else _MOST_POINTS

    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        if self.options.family == "linear":
            folds = 1 if self.options.strength else self.options.folds
            people = float(known.total["people"].sum())
            if folds > 1 and people < folds * max(self._smallest, PERSONS_A_COLUMN * known.width):
                raise NoAnswer("Too few persons for folds: give the strength.")
            return {} if own else {"products": (folds, *triangle(known.width + 1)), "n": (folds,)}
        found = self._search(known, own)
        return {} if found.ended or len(own) >= _MOST_POINTS else dict(shapes_of(known.width))

    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        z = mine.standard(known.scale)
        if self.options.family == "logistic":
            eta = z @ self._search(known, own).at + mine.offset
            return point(mine, z, eta, self._family)
        folds = 1 if self.options.strength else self.options.folds
        place = folds_of(mine, folds)
        both = np.column_stack([z, mine.y - mine.offset - _mean(known)])
        parts = [both[place == fold] for fold in range(folds)]
        return {
            "products": np.stack([upper(part.T @ part) for part in parts]),
            "n": np.array([len(part) for part in parts], dtype=np.float64),
        }

    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        errors = None
        if self.options.family == "linear":
            self.asks(known, [])
            strength, at, errors = self._linear(known, own[0])
        else:
            assert self.options.strength is not None  # by the options
            found = self._search(known, own)
            if not found.ended:
                raise NoAnswer("The search for the coefficients didn't end.")
            strength, at = self.options.strength, found.at
        back = known.scale.back(known.design.names) @ at
        if known.intercept and self.options.family == "linear":
            back[0] += _mean(known)
        return self._shown(known, strength, at, back, errors)

    # --- linear ----------------------------------------------------------------------------------
    def _linear(
        self, known: Known, total: Sums
    ) -> tuple[float, Floats, list[tuple[float, float]] | None]:
        """Strength, coefficients of standard columns, and the error of each strength."""
        width = known.width
        products = np.stack([symmetric(one, width + 1) for one in total["products"]])
        whole, rows = products.sum(0), float(total["n"].sum())
        given = self.options.strength
        if given:
            return given, self._least(known, whole, rows, given, np.zeros(width)), None
        factors = self._factors(known)
        tried = strengths(whole[:width, width], rows, self.options.mix, factors)
        squared = np.zeros(len(tried))
        for fold, n in zip(products, total["n"], strict=True):
            at = np.zeros(width)
            for place, strength in enumerate(tried):
                at = self._least(known, whole - fold, rows - float(n), float(strength), at)
                aside = np.append(at, -1.0)
                squared[place] += float(aside @ fold @ aside)
        errors = list(zip(tried.tolist(), (squared / rows).tolist(), strict=True))
        best, at = float(tried[int(np.argmin(squared))]), np.zeros(width)
        return best, self._least(known, whole, rows, best, at), errors

    def _least(
        self, known: Known, products: Floats, rows: float, strength: float, begin: Floats
    ) -> Floats:
        width = known.width
        penalty = Penalty(strength, self.options.mix, self._factors(known))
        return least(products[:width, :width], products[:width, width], rows, penalty, begin)

    def _factors(self, known: Known) -> Floats:
        found = np.ones(known.width) if self.options.scale else 1 / known.scale.unit
        if known.intercept:
            found[0] = 0.0
        return found

    # --- logistic --------------------------------------------------------------------------------
    def _search(self, known: Known, own: Sequence[Sums]) -> _Search:
        """Where proximal Newton stands: a point that is worse than the best is halved back."""
        penalty = Penalty(self.options.strength or 0.0, self.options.mix, self._factors(known))
        at = best = self.begin(known)
        cost, rows = np.inf, known.rows
        for total in own:
            here = -float(total["fit"][0]) / rows + penalty.of(at)
            if here > cost + _WORSE * (1 + abs(cost)):
                at = best + (at - best) / 2
                continue
            best, cost = at, here
            curvature = symmetric(total["curvature"], known.width)
            pulled = total["slope"].copy()
            for place in range(known.width):
                pulled = pulled + curvature[:, place] * at[place]
            new = least(curvature, pulled, rows, penalty, at)
            step = new - at
            moved = np.zeros(known.width)
            for place in range(known.width):
                moved = moved + curvature[:, place] * step[place]
            if dot(step, moved) / rows <= _NEAR:
                return _Search(at, True)
            at = new
        return _Search(at, False)

    # --- what is shown ---------------------------------------------------------------------------
    def _shown(
        self,
        known: Known,
        strength: float,
        at: Floats,
        back: Floats,
        errors: list[tuple[float, float]] | None,
    ) -> Result:
        named = list(zip(known.design.names, back.tolist(), at.tolist(), strict=True))
        lines: list[Sequence[Cell]] = [
            (name, one, None if name == INTERCEPT else standard) for name, one, standard in named
        ]
        held = sum(1 for name, one, _ in named if one and name != INTERCEPT)
        what = {0.0: "Ridge", 1.0: "Lasso"}.get(self.options.mix, "Elastic net")
        notes = [
            f"{what} {self.options.family} regression, {self.options.formula}; strength "
            f"{strength:.6g}, {held} columns with a coefficient."
        ]
        sheets = [Sheet(("term", "coefficient", "of the standard column"), lines)]
        plots = list[dict[str, object]]()
        if errors is not None:
            notes.append(f"The strength with the least error over {self.options.folds} folds.")
            sheets.append(Sheet(("strength", "mean squared error"), errors, "folds", "Folds"))
            curve = {"name": "mean squared error", "x": [float(np.log10(x)) for x, _ in errors]}
            curve |= {"y": [y for _, y in errors]}
            plot = {"type": "curves", "title": "Error over folds", "y": "mean squared error"}
            plots.append(plot | {"x": "log10(strength)", "lines": [curve]})
        values = {name: one for name, one, _ in named}
        return Result(sheets, plots, notes, {"strength": strength, "coefficients": values})


def folds_of(mine: Rows, folds: int) -> NDArray[np.int64]:
    """M, which fold each row is in; a person's rows in one."""
    both = np.ascontiguousarray(np.column_stack([mine.y, mine.x]))
    drawn = [int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:6], "big") for row in both]
    found = np.array(drawn, dtype=np.int64)
    if mine.whose is not None and len(found):
        least_ = np.full(int(mine.whose.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(least_, mine.whose, found)
        found = least_[mine.whose]
    return found % folds


def _mean(known: Known) -> float:
    """Of the outcome less its offset; 0 without an intercept, which alone takes it up."""
    if not known.intercept:
        return 0.0
    weight, outcome, offset, _ = (float(value) for value in known.total["outcome"])
    return outcome / weight - offset / known.rows
