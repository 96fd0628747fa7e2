"""What is shown of means, deviations and other figures of values.

Three things could give a person away. *Digits*: a mean of whole numbers in full tells how many they
are; so it is rounded to what the smallest cell's persons would move it by. *One person*: if most of
the squared deviations are one's, mean and deviation tell their value; such are not shown. The
largest share can't be asked for in a sum, but with q the squared deviations of each person it is at
most sqrt(sum q^2) / sum q, and that can (the dominance rule of official statistics, by a bound).
*Few values*: of numbers such as 0 and 1 each is a category, and figures in full are equations for
their counts; so a value that few persons have hides them, as a small cell would. Among more than a
handful of values such equations have no single answer.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOST_OF_ONE = 0.5
"""The largest share of all squared deviations that one person may have."""
HANDFUL = 5
"""So few different values are taken for categories."""


def grain(size: float, count: float, least: int) -> float:
    """What a mean or deviation is rounded to: 1, 2 or 5 times a power of ten, as much as so many
    typical persons move it by, or more. ``size``: the deviation of the values, or ``mover``."""
    return short_step(least * size / max(1.0, count))


def short_step(moved: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that isn't below it; 0 of 0.

    >>> short_step(0.003), short_step(0.05)
    (0.005, 0.05)
    """
    if not moved > 0:
        return 0.0
    power = math.floor(math.log10(moved))
    found = (float(f"{one}e{power}") for one in (1, 2, 5, 10))
    return next(one for one in found if one >= moved * (1 - 1e-12))


def to_grain(value: float, step: float) -> float:
    """The nearest multiple of such a step, without the tail of a binary fraction; the value
    itself where the step is 0."""
    return float(f"{round(value / step) * step:.12g}") if step else value


def mover(squares: float, fourths: float) -> float:
    """How far from the mean those are who move it most: the root of the mean of squared
    deviations, each weighted by itself. Of equal distances, these.

    squares, fourths : sums over persons of q and of q^2, q a person's squared deviations
    """
    return math.sqrt(fourths / squares) if squares > 0 else 0.0


def dominated(squares: float, fourths: float) -> bool:
    """Whether one person may have most of the squared deviations. Arguments as of ``mover``."""
    return math.sqrt(max(0.0, fourths)) > MOST_OF_ONE * squares


def few_values(persons: Floats, least: int) -> bool:
    """Whether values lie in a handful of bins and one of these has few persons.

    persons : in each bin of a histogram, and in what lies below and above it
    """
    held = persons[persons > 0]
    return 0 < len(held) <= HANDFUL and bool((held < least).any())
