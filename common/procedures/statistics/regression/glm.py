"""Generalised linear models by a formula: ``kind = "regression"``.

Own steps: Newton's (``newton``), then what standard errors and figures of fit need at the answer.
Each is one sum over hospitals, and a hospital works the point out by itself.

Standard errors: 'model', the family's; 'robust', White's sandwich with n / (n - p) (HC1);
'persons', the same with each person's rows together; 'hospitals', with each hospital's. The last
sum is of each hospital's slope times itself, so it takes ``LEAST_HOSPITALS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.regression.by_formula import ByFormula, Known
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.families import Family, NegativeBinomial
from wardround.common.procedures.statistics.regression.newton import (
    MOST_POINTS,
    Search,
    search,
    shapes_of,
)
from wardround.common.procedures.statistics.regression.rows import Floats, Rows
from wardround.common.procedures.statistics.regression.shown import Fitted, shown
from wardround.common.procedures.statistics.regression.solve import triangle, upper
from wardround.common.procedures.statistics.result import Result, Told
from wardround.common.settings.analyses import RegressionOptions
from wardround.common.tasks.features import one
from wardround.common.tasks.tabular import TabularTask

_LEAST_LOG_ALPHA, _MOST_LOG_ALPHA = -12.0, 12.0


class Regression(ByFormula[RegressionOptions]):
    """See the module."""

    kind = "regression"
    own_steps = MOST_POINTS + 1

    @classmethod
    def of(cls, options: RegressionOptions, config: Config, task: TabularTask) -> Self:
        if options.errors == "persons" and task.options.columns.patient_id is None:
            raise config.error(
                "procedure.analyses",
                f"'{options.name}': errors = 'persons' needs to know whose a row is",
                "name the column in task.columns.patient_id",
            )
        return super().of(options, config, task)

    @property
    def needs_hospitals(self) -> bool:  # type: ignore[override]
        """Where errors are clustered by them."""
        return self.options.errors == "hospitals"

    @property
    def _shape(self) -> bool:
        """Whether an alpha is estimated."""
        return self.options.family == "negative_binomial" and self.options.alpha is None

    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        found = self._search(known, own)
        if not found.ended:
            size = known.width + self._shape
            return {} if found.used >= MOST_POINTS else dict(shapes_of(size))
        if len(own) > found.used:
            return {}
        size_ = triangle(known.width)
        end: Shapes = {"fit": (6,), "expected": size_, "clusters": (1,)}
        return end if self.options.errors == "model" else end | {"meat": size_}

    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        found = self._search(known, own)
        z = mine.standard(known.scale)
        eta = z @ found.at[: known.width] + mine.offset
        model = self._model(found.at, known.width)
        if found.ended:
            return self._end(known, mine, z, eta, model)
        return point(mine, z, eta, model, self._shape)

    def _end(self, known: Known, mine: Rows, z: Floats, eta: Floats, model: Family) -> Sums:
        """What figures of fit and standard errors need."""
        w, y, mean = mine.weight, mine.y, model.mean(eta)
        before = known.total["outcome"]
        around = w * (y - before[1] / before[0]) ** 2
        logs = np.log(y, where=y > 0, out=np.zeros_like(y))
        fit = [
            (w * model.terms(y, eta).likelihood).sum(),
            (w * model.deviance(y, eta)).sum(),
            (w * model.pearson(y, eta)).sum(),
            around.sum(),
            logs.sum(),
            (y / mean + np.log(mean)).sum() if model.link == "log" else 0.0,
        ]
        expected = (z.T * (w * model.expected(y, eta))) @ z
        found: Sums = {"fit": np.array(fit), "expected": upper(expected)}
        slopes = z * (w * model.terms(y, eta).slope)[:, None]
        clusters = len(y)
        if self.options.errors == "persons":
            assert mine.whose is not None  # by of()
            people, place = np.unique(mine.whose, return_inverse=True)
            together = np.zeros((len(people), z.shape[1]))
            np.add.at(together, place, slopes)
            slopes, clusters = together, len(people)
        elif self.options.errors == "hospitals":
            slopes, clusters = slopes.sum(0)[None, :], int(len(y) > 0)
        found["clusters"] = one(clusters)
        if self.options.errors != "model":
            found["meat"] = upper(slopes.T @ slopes)
        return found

    def _search(self, known: Known, own: Sequence[Sums]) -> Search:
        begin = self.begin(known)
        if self._shape:
            begin = np.append(begin, 0.0)
        return search(begin, own, known.rows, self._family.dispersed, self._shape)

    def _model(self, at: Floats, width: int) -> Family:
        if not self._shape:
            return self._family
        log_alpha = min(_MOST_LOG_ALPHA, max(_LEAST_LOG_ALPHA, float(at[width])))
        return NegativeBinomial(float(np.exp(log_alpha)))

    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        found = self._search(known, own)
        if not found.ended or len(own) == found.used:
            raise NoAnswer(lost(known.design, found))
        if self._shape and found.at[-1] <= _LEAST_LOG_ALPHA + 1:
            raise NoAnswer("Counts vary no more than Poisson's: use family = 'poisson'.")
        fitted = Fitted(self.options, self._family, known.design, found, known.total, own[-1])
        return shown(fitted, told)


def point(mine: Rows, z: Floats, eta: Floats, model: Family, shape: bool = False) -> Sums:
    """Likelihood, slope and curvature of a hospital's rows.

    z : M x P, standard columns
    eta : M, the linear predictor
    shape : whether log(alpha) is the last parameter
    """
    terms, w = model.terms(mine.y, eta), mine.weight
    slope, curvature = z.T @ (w * terms.slope), (z.T * (w * terms.curvature)) @ z
    fit = np.array([(w * terms.likelihood).sum(), (w * model.pearson(mine.y, eta)).sum()])
    if shape:
        assert isinstance(model, NegativeBinomial)
        by_alpha, second, cross = (w * each for each in model.by_alpha(mine.y, eta))
        edge = z.T @ cross
        curvature = np.block([[curvature, edge[:, None]], [edge[None, :], second.sum()]])
        slope = np.append(slope, by_alpha.sum())
    return {"fit": fit, "slope": slope, "curvature": upper(curvature)}


def lost(design: Design, found: Search) -> str:
    """Why a search has no end."""
    moved = np.abs(found.step[: len(design.names)])
    moved[: int(design.names[0] == INTERCEPT)] = 0.0
    if not moved.any():
        return "The search for the coefficients didn't end."
    return (
        f"The search for the coefficients didn't end: that of {design.names[int(moved.argmax())]} "
        "grows without end. Its values separate the outcomes: join levels, leave it out, or use "
        "kind = 'penalised_regression'."
    )
