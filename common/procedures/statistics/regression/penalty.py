"""Ridge, lasso and elastic net on summed products.

The least of  loss / n + strength (mix |w|_1 + (1 - mix) / 2 |w|_2^2)  where the loss is quadratic:
w' H w / 2 - c' w, by coordinate descent (Friedman, Hastie, Tibshirani, J. Stat. Softw. 33, 2010).
It is glmnet's objective; scikit-learn's ElasticNet has the same with alpha = strength, l1_ratio =
mix; its Ridge has alpha = strength n, its LogisticRegression C = 1 / (strength n).

Sweeps have elementwise operations alone, so that all sides find the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_SWEEPS, _STILL = 20_000, 1e-15


@dataclass(frozen=True)
class Penalty:
    """Of coefficients of standard columns.

    factors : P, how much each is penalised; 0 of the intercept
    """

    strength: float
    mix: float
    factors: Floats

    def absolute(self) -> Floats:
        """P, of |w|."""
        return self.strength * self.mix * self.factors

    def square(self) -> Floats:
        """P, of w^2 / 2."""
        return self.strength * (1 - self.mix) * self.factors**2

    def of(self, w: Floats) -> float:
        """What coefficients cost."""
        cost = self.absolute() * np.abs(w) + self.square() * w**2 / 2
        return float(sum(cost.tolist()))


def least(curvature: Floats, slope: Floats, rows: float, penalty: Penalty, begin: Floats) -> Floats:
    """P coefficients.

    curvature, slope : H and c, summed over rows
    begin : where the descent starts
    """
    given = (curvature / rows, slope / rows, penalty.absolute(), penalty.square(), begin)
    sent = tuple(np.ascontiguousarray(one).tobytes() for one in given)
    return np.frombuffer(_descended(len(begin), *sent), dtype=np.float64).copy()


@lru_cache(maxsize=256)
def _descended(size: int, *sent: bytes) -> bytes:
    curvature, slope, absolute, square, begin = (np.frombuffer(one) for one in sent)
    matrix, w = curvature.reshape(size, size), begin.copy()
    rest = slope.copy()
    for place in range(size):
        rest = rest - matrix[:, place] * w[place]
    weight = np.diag(matrix) + square
    for _ in range(_SWEEPS):
        moved = 0.0
        for place in range(size):
            if weight[place] <= 0:
                continue
            pull = rest[place] + matrix[place, place] * w[place]
            new = np.sign(pull) * max(abs(pull) - absolute[place], 0.0) / weight[place]
            change = new - w[place]
            if change:
                rest = rest - matrix[:, place] * change
                w[place] = new
                moved = max(moved, abs(change) * float(np.sqrt(weight[place])))
        if moved <= _STILL * (1 + float(np.abs(w).max())):
            break
    return w.tobytes()


def strengths(slope: Floats, rows: float, mix: float, factors: Floats, count: int = 60) -> Floats:
    """Strengths to choose from, from the least at which no column has a coefficient, downwards to a
    ten-thousandth. ``slope``: P, at no columns; for ridge as if ``mix`` were a thousandth."""
    pulled = np.abs(slope[factors > 0]) / factors[factors > 0] / rows
    most = float(pulled.max()) / max(mix, 1e-3) if len(pulled) else 1.0
    found: Floats = np.geomspace(max(most, 1e-300), max(most, 1e-300) * 1e-4, count)
    return found
