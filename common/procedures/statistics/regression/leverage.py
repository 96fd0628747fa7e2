"""Whether few persons decide what a formula's columns tell: the hat matrix' diagonal, by persons.

Of columns X with weights W a row's leverage is h = w x' (X'WX)^-1 x, from 0 to 1; all add up to the
columns. Where a combination of columns, however they are written, is 0 but at m persons' rows,
these persons' leverages add up to 1 or more, and coefficients in full are equations for their
values. The largest leverage can't be asked for in a sum; that of the 16th powers can. Weights of
nearly 0 leave no rows out unseen: they are in W.

How much one person may have: less than 1 / (k - 1) where a formula could make an indicator of k - 1
persons of its columns, as one has weights, or names a column twice (x, and x + exp(-(age - 81)^2));
elsewhere less than half (the dominance rule), or nine tenths of curves, whose ends are of few
rows' doing. Between a curve's knots are k persons (``looks``).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.procedures.hiding.numbers import MOST_OF_ONE
from wardround.common.procedures.statistics.regression.factors import Category, Spline
from wardround.common.procedures.statistics.regression.formula import Formula
from wardround.common.procedures.statistics.regression.solve import cholesky, inverse, symmetric

Floats = NDArray[np.float64]
_POWER, _MOST = 16, 2.0
_OF_CURVES = 0.9


@dataclass(frozen=True)
class Limit:
    """``people`` persons with a share of ``share`` each are too much."""

    share: float
    people: int = 1

    @classmethod
    def of(cls, formula: Formula, weighted: bool, least: int) -> Limit:
        """Of a formula. ``least``: k."""
        named = Counter(
            name
            for one in formula.factors
            for name in ({one.column} if isinstance(one, Category) else one.expression.columns)
        )
        if weighted or any(count > 1 for count in named.values()):
            return cls(1.0 / (least - 1), least - 1)
        curves = any(isinstance(one, Spline) for one in formula.factors)
        return cls(_OF_CURVES if curves else MOST_OF_ONE)

    def powers(self, of_persons: Floats) -> float:
        """A hospital's sum. ``of_persons``: each one's leverages, added up."""
        return float((np.minimum(of_persons / self.share, _MOST) ** _POWER).sum())

    def reached(self, total: float) -> bool:
        """Whether so few persons may decide a combination of columns, by the sum over hospitals."""
        return total >= self.people * (1 - 1e-6)


def leverages(columns: Floats, weights: Floats, products: Floats) -> Floats:
    """M, of M rows of Q columns. ``products``: the upper triangle of X'WX over all hospitals."""
    factor, kept = cholesky(symmetric(products, columns.shape[1]))
    found = weights * ((columns @ inverse(factor, kept)) * columns).sum(1)
    within: Floats = np.clip(np.nan_to_num(found), 0.0, 1.0)  # false totals have no others
    return within
