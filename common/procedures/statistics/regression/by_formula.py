"""What analyses by a formula share: the steps before their own, and what ends them early.

Steps: what is agreed about the formula (``facts``), where columns lie and how few are where
(``rows``), whether figures would tell of few persons (``looks``); then the analysis' own, which it
is told the design and the second's totals for. Where a total leaves no answer, nothing more is
asked, and the result is the sentence why.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np

from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.frame import Frame, Mask
from wardround.common.procedures.statistics.regression import facts, rows
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.factors import FormulaError, Number
from wardround.common.procedures.statistics.regression.facts import NoAnswer
from wardround.common.procedures.statistics.regression.families import family
from wardround.common.procedures.statistics.regression.formula import Formula, read_formula
from wardround.common.procedures.statistics.regression.looks import STEPS, Looks
from wardround.common.procedures.statistics.regression.rows import Floats, Rows, Scale
from wardround.common.procedures.statistics.result import Result, Told
from wardround.common.settings.analyses import FormulaOptions
from wardround.common.tasks.tabular import TabularTask

LEAST_HOSPITALS = 5
"""Sums of squares of what single hospitals have are of no fewer: of few, they show them."""

_MOST = 1e150
"""Of a total: its square is a number yet."""

O = TypeVar("O", bound=FormulaOptions)  # noqa: E741


@dataclass(frozen=True)
class Known:
    """What is known before an analysis' own steps.

    total : of ``rows``
    """

    design: Design
    total: Sums

    @property
    def rows(self) -> float:
        """Of all hospitals."""
        return float(self.total["rows"][0])

    @property
    def width(self) -> int:
        """P."""
        return len(self.design.names)

    @property
    def scale(self) -> Scale:
        """Of the columns."""
        return rows.scale_of(self.design, self.total)

    @property
    def intercept(self) -> bool:
        """Whether the first column is one."""
        return self.design.names[0] == INTERCEPT


class ByFormula(Analysis[O], Generic[O]):
    """Subclass this."""

    needs_hospitals = False
    """Whether it has an answer of ``LEAST_HOSPITALS`` hospitals with rows, or more, only."""

    def __init__(self, options: O, private: bool, formula: Formula, least: int) -> None:
        super().__init__(options, private)
        self._formula, self._smallest = formula, least
        self._family = family(self.family_name, getattr(options, "alpha", None))
        self._agreeing = facts.steps_of(formula)

    @classmethod
    def of(cls, options: O, config: Config, task: TabularTask) -> Self:
        formula = formula_of(options.name, options.formula, config)
        return cls(options, config.privacy.enabled, formula, smallest_cell(config))

    @property
    def family_name(self) -> str:
        """As the options have it."""
        return str(getattr(self.options, "family", "linear"))

    @property
    def _weights(self) -> str | None:
        return getattr(self.options, "weights", None)

    # --- columns ---------------------------------------------------------------------------------
    @property
    def numbers(self) -> Iterable[str]:
        weights = [self._weights] if self._weights else []
        answer = () if self._yes_or_no else self._outcome.expression.columns
        return [*answer, *self._formula.numbers, *weights]

    @property
    def truths(self) -> Iterable[str]:
        return self._outcome.expression.columns if self._yes_or_no else ()

    @property
    def categories(self) -> Iterable[str]:
        return [each.column for each in self._formula.categories]

    @property
    def _outcome(self) -> Number:
        assert self._formula.outcome is not None  # by read_formula
        return self._formula.outcome

    @property
    def _binary(self) -> bool:
        return self.family_name == "logistic"

    @property
    def _yes_or_no(self) -> bool:
        return self._binary and self._outcome.text == self._outcome.expression.columns[0]

    @property
    def _classes(self) -> int:
        return 2 if self._family.counts else 1

    # --- of its own ------------------------------------------------------------------------------
    @property
    @abstractmethod
    def own_steps(self) -> int:
        """The most steps of its own."""

    @abstractmethod
    def asks(self, known: Known, own: Sequence[Sums]) -> Shapes:
        """What the next of its own steps asks for, after ``own``. Raises NoAnswer."""

    @abstractmethod
    def answers(self, known: Known, own: Sequence[Sums], mine: Rows) -> Sums:
        """A hospital's, of its rows."""

    @abstractmethod
    def shows(self, known: Known, own: Sequence[Sums], told: Told) -> Result:
        """Of all of its totals. Raises NoAnswer."""

    def own_counts(self, known: Known, own: Sequence[Sums]) -> Iterable[str]:
        """Names of those of its sums that count."""
        return ()

    # --- the steps -------------------------------------------------------------------------------
    @property
    def most_steps(self) -> int:
        return self._agreeing + 1 + STEPS + self.own_steps

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        try:
            if any(not (abs(one) < _MOST).all() for total in earlier for one in total.values()):
                raise TaskError("sums of a regression that no rows have")
            if len(earlier) < self._agreeing:
                facts.settle_first(self._formula, self._smallest, agreed, earlier)
                return facts.shapes(self._formula, agreed, earlier)
            if len(earlier) == self._agreeing:
                return rows.shapes(self._design(agreed, earlier), self._classes)
            known, looks = self._known(agreed, earlier)
            return self.asks(known, looks.own) if looks.done else looks.shapes()
        except NoAnswer:
            return {}

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        if len(earlier) < self._agreeing:
            return facts.counts(self._formula, agreed, earlier)
        if len(earlier) == self._agreeing:
            return rows.counts(self._design(agreed, earlier), self._classes)
        known, looks = self._known(agreed, earlier)
        return self.own_counts(known, looks.own) if looks.done else looks.counts()

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        y, weight, keep, wrong = self._outcomes(frame)
        if len(earlier) < self._agreeing:
            return facts.sums(self._formula, frame, keep, self._smallest, agreed, earlier)
        design = self._design(agreed, earlier)
        mine = rows.taken(design, frame, agreed, y, weight, keep)
        if len(earlier) == self._agreeing:
            return rows.sums(design, frame, agreed, mine, wrong, self._classes)
        known, looks = self._known(agreed, earlier)
        if not looks.done:
            return looks.sums(frame, agreed, mine)
        return self.answers(known, looks.own, mine)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        notes = list[str]()
        try:
            facts.settle_first(self._formula, self._smallest, agreed, earlier)
            notes += self._design(agreed, earlier).facts.notes
            known, looks = self._known(agreed, earlier)
            found = self.shows(known, looks.own, told)
        except NoAnswer as reason:
            return Result(notes=[*notes, str(reason)])
        return Result(found.sheets, found.plots, [*found.notes, *notes], found.values)

    def _design(self, agreed: Agreed, earlier: Earlier) -> Design:
        agreeing = earlier[: self._agreeing]
        return Design.of(
            self._formula, facts.settle(self._formula, self._smallest, agreed, agreeing)
        )

    def _known(self, agreed: Agreed, earlier: Earlier) -> tuple[Known, Looks]:
        design, total = self._design(agreed, earlier), earlier[self._agreeing]
        if not float(total["rows"][0]) > 0:
            raise NoAnswer("No row counts.")
        rows.check(design, total, self._smallest, self._binary, self._classes)
        if self.needs_hospitals and float(total["hospitals"][0]) < LEAST_HOSPITALS:
            raise NoAnswer(f"At least {LEAST_HOSPITALS} hospitals with rows are needed for it.")
        later = earlier[self._agreeing + 1 :]
        weighted = self._weights is not None
        looks = Looks(design, total, later, self._smallest, self._classes, self._binary, weighted)
        looks.check()
        return Known(design, total), looks

    def _outcomes(self, frame: Frame) -> tuple[Floats, Floats, Mask, int]:
        """Outcome and weight of all N rows, which count, and how many outcomes can't be."""
        y = rows.outcome(frame, self._outcome, self._binary)
        weight = np.ones(len(frame))
        if self._weights:
            weight = frame.values(self._weights)
        keep = np.isfinite(y) & np.isfinite(weight)
        bad = keep & (self._family.wrong(np.where(keep, y, 1.0)) | (weight < 0))
        return y, weight, keep & ~bad & (weight != 0), int(bad.sum())

    def begin(self, known: Known) -> Floats:
        """P, where a search begins: all coefficients 0 but the intercept. Raises NoAnswer."""
        weight, outcome, offset, _ = (float(value) for value in known.total["outcome"])
        mean = outcome / weight if weight > 0 else 0.0
        if self.family_name != "linear" and not 0 < mean < (1.0 if self._binary else np.inf):
            raise NoAnswer("All outcomes are alike: there is nothing to explain.")
        found = np.zeros(known.width)
        if known.intercept:
            found[0] = self._family.start(mean) - offset / known.rows
        return found


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
