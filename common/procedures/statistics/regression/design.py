"""The design matrix of a formula: its columns' names, and a hospital's rows in them.

Categories are coded against their reference level, or with all levels where a term's margin isn't
in the formula, such that no column follows from others: the algorithm of patsy (N. J. Smith,
"Redundancy and Categorical Factors"). So names and columns are those of patsy and formulaic.

Shapes: N rows of a hospital, P columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame, Ints
from wardround.common.procedures.statistics.regression.factors import Category, Number, Spline
from wardround.common.procedures.statistics.regression.facts import (
    Facts,
    NoAnswer,
    complete,
    number,
)
from wardround.common.procedures.statistics.regression.formula import Formula, Term
from wardround.common.procedures.statistics.regression.splines import b_splines, natural_splines

Floats = NDArray[np.float64]
INTERCEPT = "Intercept"
MOST_COLUMNS = 100
MOST_CELLS = 500
"""Combinations of levels of one interaction."""
_Coding = Mapping[str, bool]
"""Of a block's categories by column: whether each has columns for all its levels."""


@dataclass(frozen=True)
class Design:
    """A formula whose facts are agreed.

    names : P, of the columns, the intercept first
    """

    formula: Formula
    facts: Facts
    names: tuple[str, ...]
    _blocks: tuple[tuple[Term, _Coding], ...]

    @classmethod
    def of(cls, formula: Formula, facts: Facts) -> Design:
        """Raises NoAnswer where it has no column, or more than ``MOST_COLUMNS``."""
        blocks = tuple(_blocks(formula))
        names = [INTERCEPT] if formula.intercept else []
        for term, coding in blocks:
            labels = [_labels(factor, coding, facts) for factor in term.factors]
            names += [":".join(one) for one in itertools.product(*labels)]
        if not 1 <= len(names) <= MOST_COLUMNS:
            raise NoAnswer(f"The formula has {len(names)} columns; 1 to {MOST_COLUMNS} can be.")
        return cls(formula, facts, tuple(names), blocks)

    def matrix(self, frame: Frame, agreed: Agreed) -> Floats:
        """N x P; rows that don't count are NaN. Raises DataError by place."""
        whole = complete(self.formula, frame, agreed)
        parts = [np.ones((len(frame), 1))] if self.formula.intercept else []
        for term, coding in self._blocks:
            block = np.ones((len(frame), 1))
            for factor in term.factors:
                values = self._columns(factor, coding, frame, agreed, whole)
                block = (block[:, :, None] * values[:, None, :]).reshape(len(frame), -1)
            parts.append(block)
        for category in self.formula.categories:
            whole &= self.codes(category, frame, agreed) >= 0
        found = np.hstack(parts)
        found[~whole] = np.nan
        return found

    def offset(self, frame: Frame) -> Floats:
        """N, the sum of the offsets."""
        found = np.zeros(len(frame))
        for each in self.formula.offsets:
            found = found + number(frame, each)
        return found

    def codes(self, category: Category, frame: Frame, agreed: Agreed) -> Ints:
        """N places in ``facts.levels``' names; -1 for rows that don't count."""
        texts = agreed.levels.get(category.column, ())
        places = np.array([*self.facts.levels[category.column].places, -1], dtype=np.int64)
        found = frame.levels(category.column, texts)
        kept: Ints = places[np.where(found < 0, len(texts), found)]
        return kept

    def cells(self) -> list[tuple[list[str], tuple[Category, ...]]]:
        """The tables of categories that the columns tell of: those of each term, with the names of
        all combinations of their levels, the last category's fastest. Raises NoAnswer."""
        found = dict[frozenset[str], tuple[Category, ...]]()
        for term in self.formula.terms:
            of = {one.column: one for one in term.factors if isinstance(one, Category)}
            if of:
                found.setdefault(frozenset(of), tuple(of.values()))
        tables = []
        for categories in found.values():
            levels = [self.facts.levels[one.column].names for one in categories]
            if np.prod([len(one) for one in levels]) > MOST_CELLS:
                named = ":".join(one.text for one in categories)
                raise NoAnswer(f"{named}: more than {MOST_CELLS} combinations of levels.")
            each = [[f"{c.text}[{x}]" for x in n] for c, n in zip(categories, levels, strict=True)]
            tables.append(([":".join(one) for one in itertools.product(*each)], categories))
        return tables

    def places(self, categories: Sequence[Category], frame: Frame, agreed: Agreed) -> Ints:
        """N places in such a table; -1 for rows that don't count."""
        found, lost = np.zeros(len(frame), dtype=np.int64), np.zeros(len(frame), dtype=np.bool_)
        for one in categories:
            codes = self.codes(one, frame, agreed)
            found = found * len(self.facts.levels[one.column].names) + codes
            lost |= codes < 0
        return np.where(lost, -1, found)

    def _columns(
        self,
        factor: Number | Category | Spline,
        coding: _Coding,
        frame: Frame,
        agreed: Agreed,
        whole: NDArray[np.bool_],
    ) -> Floats:
        if isinstance(factor, Category):
            width = len(self.facts.levels[factor.column].names)
            codes = self.codes(factor, frame, agreed)
            dummies: Floats = (codes[:, None] == np.arange(width)).astype(np.float64)
            return dummies if coding[factor.column] else dummies[:, 1:]
        values = np.where(whole, number(frame, factor), 0.0)
        if isinstance(factor, Spline):
            knots = self.facts.knots[factor.text]
            if factor.kind == "ns":
                return natural_splines(values, knots)
            return b_splines(values, knots, factor.degree)
        if factor.moved:
            mean, deviation = self.facts.moments[factor.text]
            values = (values - mean) / (deviation if factor.moved == "scale" else 1.0)
        return values[:, None]


def _labels(factor: Number | Category | Spline, coding: _Coding, facts: Facts) -> list[str]:
    if isinstance(factor, Category):
        first, *others = facts.levels[factor.column].names
        if coding[factor.column]:
            return [f"{factor.text}[{name}]" for name in (first, *others)]
        return [f"{factor.text}[T.{name}]" for name in others]
    if isinstance(factor, Number):
        return [factor.text]
    knots = len(facts.knots[factor.text])
    width = knots - 1 if factor.kind == "ns" else knots + factor.degree - 2
    return [f"{factor.text}[{place}]" for place in range(1, width + 1)]


# --- which levels have columns -------------------------------------------------------------------
def _blocks(formula: Formula) -> Iterator[tuple[Term, _Coding]]:
    used = {(frozenset[str](), frozenset[str]())} if formula.intercept else set()
    for term in formula.terms:
        numbers = frozenset(one.text for one in term.factors if not isinstance(one, Category))
        columns = [one.column for one in term.factors if isinstance(one, Category)]
        parts = list[dict[str, bool]]()
        for size in range(len(columns) + 1):
            for chosen in itertools.combinations(columns, size):
                if (numbers, frozenset(chosen)) not in used:
                    used.add((numbers, frozenset(chosen)))
                    parts.append(dict.fromkeys(chosen, False))
        for coding in _absorbed(parts):
            kept = [one for one in term.factors if not _lacks(one, coding)]
            yield Term(tuple(kept)), coding


def _absorbed(parts: list[dict[str, bool]]) -> list[dict[str, bool]]:
    """Where two differ by one category alone, one with all its levels stands for both."""
    while True:
        for small, large in itertools.permutations(parts, 2):
            new = [name for name in large if name not in small]
            same = all(name in large and large[name] == full for name, full in small.items())
            if same and len(new) == 1 and not large[new[0]]:
                place = parts.index(large)
                parts[place] = large | {new[0]: True}
                parts.remove(small)
                break
        else:
            return parts


def _lacks(factor: Number | Category | Spline, coding: _Coding) -> bool:
    return isinstance(factor, Category) and factor.column not in coding
