"""Figures from sums that carry noise: their intervals, and when nothing can be said.

A private evaluation (``privacy.covers``) gives whole-number sums in which every cell has Gaussian
noise of one known standard deviation s. An interval here holds both: what chance does with the
rows, and the noise. It is the set of values that a test at 5 % doesn't refuse (Fieller 1954): for
a share r = a.x / b.x the number (a - r b).x has the mean 0 where r is the true one, whatever b.x
is, so the interval stays right where noise is as large as the class; it is wide then. Without noise
it is Wilson's score interval.

A figure is *not measurable*, and NaN, where its interval says next to nothing (``WIDEST``), or
where what it is a share of doesn't stand out of its noise (``stands_out``).

Shapes: K cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from wardround.common.figures.areas import Interval, Z
from wardround.common.figures.sums import Floats

NOT_MEASURABLE = "not measurable"
"""What stands in the place of a figure that noise hides."""
WIDEST = 0.5
"""Of a share in [0, 1]: with a wider interval it is not measurable."""
WIDEST_RATIO = 4.0
"""Of a positive number: the upper end over the lower one."""


@dataclass(frozen=True)
class Measured:
    """What noised sums tell.

    figures : by name; NaN where not measurable
    intervals : 95 %, of those that are measurable: chance and noise
    """

    figures: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)

    def add(self, name: str, found: tuple[float, Interval] | None) -> None:
        """A figure with its interval; None: not measurable."""
        if found is None:
            self.figures[name] = math.nan
        else:
            self.figures[name], self.intervals[name] = found


Found = tuple[float, Interval] | None


@dataclass(frozen=True)
class Share:
    """a.x / b.x of noised cells x.

    above, below : a and b, K each
    spread : variance of (a - r b).x by chance alone, where it isn't a share of rows; None: a share,
        whose variance is b.x r (1 - r)
    """

    above: Floats
    below: Floats
    spread: float | None = None

    def found(self, cells: Floats, noise: float, *, clipped: bool = True) -> Found:
        """Value and interval; None where not measurable.

        noise : s
        clipped : the value lies in [0, 1]
        """
        a, b, s2 = self.above, self.below, noise * noise
        top, rows = float(a @ cells), float(b @ cells)
        if not stands_out(rows, noise * math.sqrt(float(b @ b))):
            return None
        chance = rows if self.spread is None else 0.0
        # (top - r rows)^2 <= Z^2 (s^2 |a - r b|^2 + chance r (1 - r) + spread)
        square = rows**2 - Z**2 * (s2 * float(b @ b) - chance)
        line = -2 * top * rows - Z**2 * (chance - 2 * s2 * float(a @ b))
        rest = top**2 - Z**2 * (s2 * float(a @ a) + (self.spread or 0.0))
        inside = line**2 - 4 * square * rest
        if square <= 0 or inside < 0:
            return None
        middle, reach = -line / (2 * square), math.sqrt(inside) / (2 * square)
        low, high, value = middle - reach, middle + reach, top / rows
        span = min(low, value), max(high, value)
        return in_range(value, span) if clipped else (value, span)


def in_range(value: float, span: Interval) -> tuple[float, Interval]:
    """A figure that lies in [0, 1] and its interval, which noise may put outside. What is cut off
    must not make the interval narrow: it reaches as far from the end as it did from the value.

    >>> in_range(1.5, (1.25, 2.0))
    (1.0, (0.75, 1.0))
    """
    inner = min(1.0, max(0.0, value))
    low, high = span[0] + min(0.0, inner - value), span[1] + max(0.0, inner - value)
    return inner, (min(inner, max(0.0, low)), max(inner, min(1.0, high)))


def stands_out(count: float, noise: float) -> bool:
    """Whether there are rows at all: a count that noise alone gives once in forty runs doesn't say
    so.

    >>> stands_out(95.0, 40.0), stands_out(60.0, 40.0)
    (True, False)
    """
    return count > Z * noise and count > 0


def narrow(found: Found, widest: float = WIDEST) -> Found:
    """The figure, unless its interval is wider than that."""
    if found is None or found[1][1] - found[1][0] > widest:
        return None
    return found


def positive(found: Found) -> Found:
    """The figure, unless its interval reaches 0 or its ends are far apart."""
    if found is None:
        return None
    low, high = found[1]
    return found if low > 0 and high <= WIDEST_RATIO * low else None


def projected(cells: Floats) -> Floats:
    """The nearest numbers (least squares) of at least 0 with the same sum, over the last axis; of a
    sum below 0 zeros. Curves are drawn of these, as noise puts cells below 0.

    >>> projected(np.array([3.0, -1.0, 2.0])).tolist()
    [2.5, 0.0, 1.5]
    """
    # onto the simplex of each row's sum (Duchi et al. 2008)
    total = np.maximum(cells.sum(axis=-1, keepdims=True), 0.0)
    falling = -np.sort(-cells, axis=-1)
    places = np.arange(1, cells.shape[-1] + 1)
    over = (np.cumsum(falling, axis=-1) - total) / places
    last = (falling > over).cumsum(axis=-1).argmax(axis=-1)[..., None]
    cut = np.take_along_axis(over, last, axis=-1)
    return np.asarray(np.where(total > 0, np.maximum(cells - cut, 0.0), 0.0))
