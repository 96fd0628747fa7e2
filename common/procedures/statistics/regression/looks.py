"""Two looks before a model is searched for: would its figures tell of few persons?

values   who has which value of each factor of numbers, and of the outcome; the columns' products
second   combinations of levels (``few``), and what few persons decide alone (``leverage``)

What is refused is a sentence. Figures in full are published of what passes, so this must hold
whatever a formula is made of: indicators in disguise, sums of columns, weights of nearly 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame, Ints
from wardround.common.procedures.statistics.regression import few, leverage
from wardround.common.procedures.statistics.regression.design import Design
from wardround.common.procedures.statistics.regression.factors import Spline
from wardround.common.procedures.statistics.regression.facts import NoAnswer, number
from wardround.common.procedures.statistics.regression.rows import (
    Floats,
    Rows,
    few_cells,
    refuse,
    scale_of,
)
from wardround.common.procedures.statistics.regression.solve import triangle, upper
from wardround.common.tasks.features import one

STEPS = 2
_ANSWERS, _PRODUCTS, _LEVERAGE = "answers", "products", "leverage"
_BETWEEN = "between"
_MANY_VALUES = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Looks:
    """What was looked at so far.

    total : of ``rows``
    later : totals after that
    classes : of the outcome, in cells
    binary : whether the outcome is one of two: its classes are all its values
    weighted : whether rows have weights
    """

    design: Design
    total: Sums
    later: Sequence[Sums]
    least: int
    classes: int
    binary: bool
    weighted: bool

    @property
    def done(self) -> bool:
        """Whether both looks are over."""
        return len(self.later) >= STEPS

    @property
    def own(self) -> Sequence[Sums]:
        """Totals of the steps after them."""
        return self.later[STEPS:]

    @property
    def _levels(self) -> few.Levels:
        return few.levels_of(self.design, self.later[0], self.classes)

    @property
    def _answers(self) -> Ints:
        """Of each bin of the outcome its level; empty where it has more than a handful, or two."""
        if self.binary:
            return _MANY_VALUES
        found = few.handful(self.later[0][_ANSWERS])
        return _MANY_VALUES if found is None else found

    @property
    def _limit(self) -> leverage.Limit:
        return leverage.Limit.of(self.design.formula, self.weighted, self.least)

    def _curves(self) -> list[tuple[int, Spline, Floats]]:
        """Splines with their places and inner knots (natural ones are linear beyond the outer ones,
        which are knots too)."""
        found = list[tuple[int, Spline, Floats]]()
        for place, factor in enumerate(self.design.formula.factors):
            if isinstance(factor, Spline):
                knots = np.asarray(self.design.facts.knots[factor.text], np.float64)
                found.append((place, factor, knots if factor.kind == "ns" else knots[1:-1]))
        return found

    def shapes(self) -> Shapes:
        """Of the look that is due; empty where both are over."""
        if self.done:
            return {}
        if not self.later:
            found = few.value_shapes(self.design, self.classes)
            found[_PRODUCTS] = triangle(len(self.design.names))
            return found | ({} if self.binary else {_ANSWERS: (few.BINS,)})
        found, levels = {_LEVERAGE: (1,)}, self._levels
        found |= {f"{_BETWEEN}/{place}": (len(knots) + 1,) for place, _, knots in self._curves()}
        if every := few.patterns(self.design, levels):
            found["patterns"] = (len(few.names_of(self.design, levels, every)) * self.classes,)
        if len(answers := self._answers):
            for place, places in enumerate(few.tables(self.design, levels)):
                size = len(few.names_of(self.design, levels, places)) * (int(answers.max()) + 1)
                found[f"{_ANSWERS}/{place}"] = (size,)
        return found

    def counts(self) -> list[str]:
        """Names of those that count persons."""
        return [name for name in self.shapes() if name not in (_PRODUCTS, _LEVERAGE)]

    def sums(self, frame: Frame, agreed: Agreed, mine: Rows) -> Sums:
        """At a hospital, of the look that is due."""
        kind, z = mine.kind(self.classes), mine.standard(scale_of(self.design, self.total))
        if not self.later:
            found = few.value_sums(self.design, frame, kind, self.total, self.classes)
            found[_PRODUCTS] = upper(z.T @ (z * mine.weight[:, None]))
            if not self.binary:
                found[_ANSWERS] = frame.counted_people(self._answer_bins(mine), few.BINS)
            return found
        own, levels = np.zeros(len(frame)), self._levels
        own[mine.keep] = leverage.leverages(z, mine.weight, self.later[0][_PRODUCTS])
        found = {_LEVERAGE: one(self._limit.powers(frame.of_persons(own)))}
        for place, factor, knots in self._curves():
            where = np.searchsorted(knots, number(frame, factor), side="right")
            codes = np.where(kind < 0, -1, where)
            found[f"{_BETWEEN}/{place}"] = frame.counted_people(codes, len(knots) + 1)
        if every := few.patterns(self.design, levels):
            found["patterns"] = self._counted(frame, agreed, every, kind, self.classes)
        if len(answers := self._answers):
            where = self._answer_bins(mine)
            of = np.where(where < 0, -1, answers[where])
            for place, places in enumerate(few.tables(self.design, levels)):
                key = f"{_ANSWERS}/{place}"
                found[key] = self._counted(frame, agreed, places, of, int(answers.max()) + 1)
        return found

    def _counted(
        self, frame: Frame, agreed: Agreed, places: Sequence[int], kind: Ints, kinds: int
    ) -> np.ndarray:
        levels = self._levels
        at = few.combined(self.design, frame, agreed, self.total, levels, places)
        codes = np.where((at < 0) | (kind < 0), -1, at * kinds + kind)
        size = len(few.names_of(self.design, levels, places)) * kinds
        return frame.counted_people(codes, size)

    def _answer_bins(self, mine: Rows) -> Ints:
        found = np.full(len(mine.keep), -1, np.int64)
        found[mine.keep] = few.bins(mine.y, float(self.total["rows"][0]), self.total["answer"])
        return found

    def check(self) -> None:
        """Raise NoAnswer for what was seen so far."""
        if not self.later:
            return
        levels, answers = self._levels, self._answers
        values = self.later[0]
        small = few.few_values(self.design, values, levels, self.least, self.binary, self.classes)
        refuse(small, self.least, self.classes)
        if len(answers):
            people = values[_ANSWERS][answers >= 0]
            names = [f"value {at} of the outcome" for at in range(1, len(people) + 1)]
            refuse(few_cells(names, people, self.least, True, 1), self.least, 1)
        if not self.done:
            return
        second = self.later[1]
        if every := few.patterns(self.design, levels):
            names = few.names_of(self.design, levels, every)
            small = few_cells(names, second["patterns"], self.least, self.binary, self.classes)
            refuse(small, self.least, self.classes)
        for place, places in enumerate(few.tables(self.design, levels) if len(answers) else []):
            names, kinds = few.names_of(self.design, levels, places), int(answers.max()) + 1
            people = second[f"{_ANSWERS}/{place}"]
            refuse(few_cells(names, people, self.least, True, kinds), self.least, 2)
        for place, factor, knots in self._curves():
            ends = ["-", *(f"{knot:g}" for knot in knots), "-"]
            names = [f"{factor.text} from {a} to {b}" for a, b in itertools.pairwise(ends)]
            small = few_cells(names, second[f"{_BETWEEN}/{place}"], self.least, True, 1)
            refuse(small, self.least, 1)
        if self._limit.reached(float(second[_LEVERAGE][0])):
            raise NoAnswer(
                f"Fewer than {self.least} persons may decide a coefficient, or a combination of "
                "them, alone: by a value far from all others, or a curve where few are. Take "
                "logarithms, fewer columns or fewer knots, or leave the column out."
            )
