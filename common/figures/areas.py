"""How far chance may put an area under a curve off, from the same histograms as the area itself.

The area under the ROC curve: the variance of DeLong, DeLong and Clarke-Pearson (Biometrics 44,
1988), in which rows of one bin are ties: it is exactly theirs of the binned scores (bins' own error
is the figure's bound). Its interval is symmetric in the logit (Pepe 2003, 5.2.4). Where the scores
part the classes wholly, or a class has one row, that variance is none: then Newcombe's interval
(Statistics in Medicine 25, 2006: method 5), which needs the area and the two numbers alone.

Average precision: as a share of the positives (Boyd, Eng and Page, ECML 2013), by Wilson's score
interval. Rows count as independent: several of one patient make any of these too narrow.

Shapes: K bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from wardround.common.figures.sums import Floats, score_edges

Interval = tuple[float, float]
Z = 1.959963984540054
"""Standard normal quantile of the two-sided 95 % level."""
_HALVINGS = 60


def bin_ends(bins: int) -> tuple[Floats, Floats]:
    """The lowest and the highest probability of each of K bins, K each.

    >>> low, high = bin_ends(2)
    >>> low.tolist(), high.tolist()
    ([0.0, 0.5], [0.5, 1.0])
    """
    edges = score_edges(bins)
    return np.concatenate([[0.0], edges]), np.concatenate([edges, [1.0]])


def wilson(hits: float, rows: float) -> Interval | None:
    """Wilson's score interval (JASA 22, 1927) of a share; None of no rows.

    >>> [round(end, 4) for end in wilson(0, 10)]
    [0.0, 0.2775]
    """
    if not rows > 0:
        return None
    share, square = hits / rows, Z * Z / rows
    middle = (share + square / 2) / (1 + square)
    inside = max(0.0, share * (1 - share) / rows + square / rows / 4)
    reach = Z * math.sqrt(inside) / (1 + square)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def roc_variance(positives_K: Floats, negatives_K: Floats) -> float | None:
    """Sampling variance of the area under the ROC curve; None where a class has no rows."""
    positives, negatives = float(positives_K.sum()), float(negatives_K.sum())
    if not (positives > 0 and negatives > 0):
        return None
    below_K = np.cumsum(negatives_K) - negatives_K / 2
    above_K = positives - np.cumsum(positives_K) + positives_K / 2
    area = float(np.sum(positives_K * below_K)) / positives / negatives
    variance = 0.0
    if min(positives, negatives) > 1:
        of_positives = np.sum(positives_K * (below_K / negatives - area) ** 2) / (positives - 1)
        of_negatives = np.sum(negatives_K * (above_K / positives - area) ** 2) / (negatives - 1)
        variance = float(of_positives / positives + of_negatives / negatives)
    if variance > 0:
        return variance
    low, high = newcombe(area, positives, negatives)
    return (max(area - low, high - area) / Z) ** 2


def roc_interval(positives_K: Floats, negatives_K: Floats, area: float) -> Interval | None:
    """Interval of the area that stands in a figure; None where it is undefined."""
    variance = roc_variance(positives_K, negatives_K)
    if variance is None or not 0 <= area <= 1:
        return None
    positives, negatives = float(positives_K.sum()), float(negatives_K.sum())
    inner = min(area, 1 - area) > 1e-9 and min(positives, negatives) > 1
    return around(area, variance) if inner else newcombe(area, positives, negatives)


def precision_variance(positives_K: Floats, precision: float) -> float | None:
    """Sampling variance of the average precision, by the number of positives alone."""
    if (span := wilson(precision * positives_K.sum(), float(positives_K.sum()))) is None:
        return None
    return ((span[1] - span[0]) / 2 / Z) ** 2


def around(share: float, variance: float) -> Interval:
    """The interval of a share in [0, 1] by its variance, symmetric in the logit; of 0 or 1, or one
    with no variance, symmetric as it is and cut at both ends."""
    reach = Z * math.sqrt(variance)
    if 0 < share < 1 and variance > 0:
        middle, reach = math.log(share / (1 - share)), reach / (share * (1 - share))
        return _expit(middle - reach), _expit(middle + reach)
    return max(0.0, share - reach), min(1.0, share + reach)


def newcombe(area: float, positives: float, negatives: float) -> Interval:
    """Newcombe's interval, method 5: the areas whose own standard error reaches this one."""
    star = (positives + negatives) / 2 - 1

    def error(x: float) -> float:
        spread = 1 + star * ((1 - x) / (2 - x) + x / (1 + x))
        return math.sqrt(max(0.0, x * (1 - x) * spread / (positives * negatives)))

    low = _end(lambda x: area - x > Z * error(x), 0.0, area)
    high = _end(lambda x: x - area > Z * error(x), 1.0, area)
    return low, high


def _end(outside: Callable[[float], bool], far: float, near: float) -> float:
    """Where what is outside ends, between a far point and one that is inside."""
    if not outside(far):  # its own error is none there: the end itself
        return far
    for _ in range(_HALVINGS):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return far


def _expit(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0
