"""Generalised linear models by a formula: ``kind = "regression"``.

Steps: what is agreed about the formula (``facts``); where columns lie and how few are where
(``rows``); Newton's steps (``newton``); at the answer, what standard errors and figures of fit
need. Each is one sum over hospitals, and a hospital works the point out by itself.

Standard errors: 'model', the family's; 'robust', White's sandwich with n / (n - p) (HC1);
'persons', the same with each person's rows together; 'hospitals', with each hospital's. The last
sum is of each hospital's slope times itself: of few hospitals it would show the slopes, so it
takes ``LEAST_CLUSTERS``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.frame import Frame, Mask
from wardround.common.procedures.statistics.regression import facts, rows
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.factors import FormulaError, Number
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.families import (
    Family,
    NegativeBinomial,
    family,
)
from wardround.common.procedures.statistics.regression.formula import Formula, read_formula
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

LEAST_CLUSTERS = 5
_LEAST_LOG_ALPHA, _MOST_LOG_ALPHA = -12.0, 12.0


class Regression(Analysis[RegressionOptions]):
    """See the module."""

    kind = "regression"

    def __init__(
        self, options: RegressionOptions, private: bool, formula: Formula, least: int
    ) -> None:
        super().__init__(options, private)
        self._formula, self._least = formula, least
        self._family = family(options.family, options.alpha)
        self._shape = options.family == "negative_binomial" and options.alpha is None
        self._agreeing = facts.steps_of(formula)

    @classmethod
    def of(cls, options: RegressionOptions, config: Config, task: TabularTask) -> Self:
        formula = formula_of(options.name, options.formula, config)
        if options.errors == "persons" and task.options.columns.patient_id is None:
            raise config.error(
                "procedure.analyses",
                f"'{options.name}': errors = 'persons' needs to know whose a row is",
                "name the column in task.columns.patient_id",
            )
        return cls(options, config.privacy.enabled, formula, smallest_cell(config))

    # --- columns ---------------------------------------------------------------------------------
    @property
    def numbers(self) -> Iterable[str]:
        weights = [self.options.weights] if self.options.weights else []
        answer = () if self._binary_column else self._outcome.expression.columns
        return [*answer, *self._formula.numbers, *weights]

    @property
    def truths(self) -> Iterable[str]:
        return self._outcome.expression.columns if self._binary_column else ()

    @property
    def categories(self) -> Iterable[str]:
        return [each.column for each in self._formula.categories]

    @property
    def _outcome(self) -> Number:
        assert self._formula.outcome is not None  # by read_formula
        return self._formula.outcome

    @property
    def _binary(self) -> bool:
        return self.options.family == "logistic"

    @property
    def _binary_column(self) -> bool:
        return self._binary and self._outcome.text == self._outcome.expression.columns[0]

    @property
    def _classes(self) -> int:
        return 2 if self._family.counts else 1

    # --- the steps -------------------------------------------------------------------------------
    @property
    def most_steps(self) -> int:
        return self._agreeing + 1 + MOST_POINTS + 1

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        if len(earlier) < self._agreeing:
            try:
                facts.settle_first(self._formula, self._least, agreed, earlier)
            except NoAnswer:
                return {}
            return facts.shapes(self._formula, agreed, earlier)
        try:
            design = self._design(agreed, earlier)
            if len(earlier) == self._agreeing:
                return rows.shapes(design, self._classes)
            found = self._search(design, earlier)
        except NoAnswer:
            return {}
        if not found.ended:
            return {} if found.used >= MOST_POINTS else shapes_of(self._size(design))
        if len(earlier) > self._agreeing + 1 + found.used:
            return {}
        end: Shapes = {"fit": (6,), "expected": triangle(len(design.names)), "clusters": (1,)}
        return end | (
            {} if self.options.errors == "model" else {"meat": triangle(len(design.names))}
        )

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        if len(earlier) < self._agreeing:
            return facts.counts(self._formula, agreed, earlier)
        if len(earlier) == self._agreeing:
            return rows.counts(self._design(agreed, earlier), self._classes)
        return ()

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        y, weight, keep, wrong = self._answers(frame)
        if len(earlier) < self._agreeing:
            return facts.sums(self._formula, frame, keep, self._least, agreed, earlier)
        design = self._design(agreed, earlier)
        mine = rows.taken(design, frame, agreed, y, weight, keep)
        if len(earlier) == self._agreeing:
            keep = keep & ~np.isnan(design.matrix(frame, agreed)).any(axis=1)
            return rows.sums(design, frame, agreed, keep, mine, wrong, self._classes)
        found = self._search(design, earlier)
        z = mine.standard(rows.scale_of(design, earlier[self._agreeing]))
        width = len(design.names)
        eta = z @ found.at[:width] + mine.offset
        model = self._model(found.at, width)
        return (
            self._end(mine, z, eta, model, earlier)
            if found.ended
            else (self._point(mine, z, eta, model))
        )

    def _answers(self, frame: Frame) -> tuple[Floats, Floats, Mask, int]:
        """Outcome and weight of all N rows, where both are known, and how many can't be."""
        y = rows.outcome(frame, self._outcome, self._binary)
        weight = np.ones(len(frame))
        if self.options.weights:
            weight = frame.values(self.options.weights)
        keep = np.isfinite(y) & np.isfinite(weight)
        bad = keep & (self._family.wrong(np.where(keep, y, 1.0)) | (weight < 0))
        return y, weight, keep & ~bad & (weight != 0), int(bad.sum())

    def _point(self, mine: Rows, z: Floats, eta: Floats, model: Family) -> Sums:
        """Likelihood, slope and curvature."""
        terms, w = model.terms(mine.y, eta), mine.weight
        slope, curvature = z.T @ (w * terms.slope), (z.T * (w * terms.curvature)) @ z
        fit = np.array([(w * terms.likelihood).sum(), (w * model.pearson(mine.y, eta)).sum()])
        if self._shape:
            assert isinstance(model, NegativeBinomial)
            by_alpha, second, cross = (w * each for each in model.by_alpha(mine.y, eta))
            edge = z.T @ cross
            curvature = np.block([[curvature, edge[:, None]], [edge[None, :], second.sum()]])
            slope = np.append(slope, by_alpha.sum())
        return {"fit": fit, "slope": slope, "curvature": upper(curvature)}

    def _end(self, mine: Rows, z: Floats, eta: Floats, model: Family, earlier: Earlier) -> Sums:
        """What figures of fit and standard errors need."""
        w, y, mean = mine.weight, mine.y, model.mean(eta)
        before = earlier[self._agreeing]["outcome"]
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
        return found | (
            {} if self.options.errors == "model" else {"meat": upper(slopes.T @ slopes)}
        )

    # --- where it stands -------------------------------------------------------------------------
    def _design(self, agreed: Agreed, earlier: Earlier) -> Design:
        agreeing = earlier[: self._agreeing]
        return Design.of(self._formula, facts.settle(self._formula, self._least, agreed, agreeing))

    def _size(self, design: Design) -> int:
        return len(design.names) + self._shape

    def _search(self, design: Design, earlier: Earlier) -> Search:
        total = earlier[self._agreeing]
        rows.check(design, total, self._least, self._binary, self._classes)
        clusters = self.options.errors == "hospitals"
        if clusters and float(total["hospitals"][0]) < LEAST_CLUSTERS:
            raise NoAnswer(f"Errors by hospital need {LEAST_CLUSTERS} hospitals with rows.")
        points = earlier[self._agreeing + 1 :]
        number = float(total["rows"][0])
        begin = self._begin(design, total)
        return search(begin, points, number, self._family.dispersed, self._shape)

    def _begin(self, design: Design, total: Sums) -> Floats:
        weight, outcome, offset, _ = (float(value) for value in total["outcome"])
        mean = outcome / weight if weight > 0 else 0.0
        if self.options.family != "linear" and not 0 < mean < (1.0 if self._binary else np.inf):
            raise NoAnswer("All outcomes are alike: there is nothing to explain.")
        found = np.zeros(self._size(design))
        if design.names[0] == INTERCEPT:
            found[0] = self._family.start(mean) - offset / float(total["rows"][0])
        return found

    def _model(self, at: Floats, width: int) -> Family:
        if not self._shape:
            return self._family
        log_alpha = min(_MOST_LOG_ALPHA, max(_LEAST_LOG_ALPHA, float(at[width])))
        return NegativeBinomial(float(np.exp(log_alpha)))

    # --- what is shown ---------------------------------------------------------------------------
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        notes = list[str]()
        try:
            if len(earlier) < self._agreeing:
                facts.settle_first(self._formula, self._least, agreed, earlier)
            design = self._design(agreed, earlier)
            notes += design.facts.notes
            found = self._search(design, earlier)
            total, end = earlier[self._agreeing], earlier[-1]
            if not found.ended or "expected" not in end:
                raise NoAnswer(lost(design, found))
            if self._shape and found.at[-1] <= _LEAST_LOG_ALPHA + 1:
                raise NoAnswer("Counts vary no more than Poisson's: use family = 'poisson'.")
        except NoAnswer as reason:
            return Result(notes=[*notes, str(reason)])
        fitted = Fitted(self.options, self._family, design, found, total, end)
        return shown(fitted, notes, told)


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


def formula_of(name: str, text: str, config: Config, outcome: bool = True) -> Formula:
    """An analysis' formula. Raises ConfigError."""
    try:
        return read_formula(text, outcome)
    except FormulaError as error:
        raise config.error(
            "procedure.analyses",
            f"'{name}': formula {error}",
            "see docs/statistics.md, «Formulas»",
        ) from None


def smallest_cell(config: Config) -> int:
    """Of a study of statistics."""
    return int(getattr(config.procedure.settings, "smallest_cell", 5))
