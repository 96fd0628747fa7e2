"""A scale for each layer: the root mean square that a round's change of it is written for.

*The rule*, which is in the plan and nobody's number. Round 1 is written for ``first_scale`` times
what a layer of this shape is usually begun with, 1 / sqrt(3 fan-in). With a round's update each
hospital i adds, for each layer, r_i = min(mean square of its change / s^2, 2), and the next round's
scale is

    s' = s sqrt(mean of r_i over hospitals), no less than s / 2 and no more than 2 s

*What one hospital can do.* Its r_i is at most 2 whatever its rows are, so with n hospitals of which
the others' mean square is h^2 the scale ends below h sqrt((n - 1) / (n - 2)), wherever it began:
for n = 5, 1.16 h. Under masks one that doesn't keep to the protocol can add any number there, as it
can to the update itself; then a factor of 2 a round is what holds.

*What the server can do.* A hospital works out the scales of round 1 itself, and refuses others; of
round t it refuses scales that t - 1 rounds of the rule can't have made of them, or of those that it
was shown before. The sum that is opened is one and the same for every hospital, whatever the scales
are: they decide how finely it is rounded, and what is clipped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.bfloat16 import is_float
from wardround.common.errors import RequestRefused
from wardround.common.flower.arrays import ArraySpec, Layout
from wardround.common.protocol import names as m

SCALES = m.SCALES
"""The record of a request, and of a reply, and the array in it: K numbers, one for each layer."""
MOST_RATIO = 2.0
MOST_FACTOR = 2.0
SMALLEST, LARGEST = 1e-12, 1e6
_CLOSE = 1 + 1e-9
Scales = NDArray[np.float64]


def layers(layout: Layout, parameters: Iterable[str]) -> list[str]:
    """Names of what has a scale: the trained arrays of floats, in their order everywhere."""
    moved = set(parameters)
    return sorted(n for n, one in layout.items() if n in moved and is_float(one.dtype))


def record_layout(count: int) -> dict[str, Layout]:
    """The record of a reply: r_i / 2 of ``count`` layers."""
    return {SCALES: {SCALES: ArraySpec((count,), "float32")}}


def first_scales(layout: Layout, names: Sequence[str], first_scale: float) -> Scales:
    """Of round 1, from the shapes of the layers alone; K float64.

    Fan-in: the numbers of a row (all sides but the first); of a vector its length.

    >>> first_scales({"w": ArraySpec((4, 12), "float32")}, ["w"], 0.3).round(9).tolist()
    [0.05]
    """
    found = []
    for name in names:
        shape = layout[name].shape
        fan = math.prod(shape[1:]) if len(shape) > 1 else math.prod(shape)
        found.append(first_scale / math.sqrt(3 * max(1, fan)))
    return np.clip(np.array(found, np.float64), SMALLEST, LARGEST)


def next_scales(scales: Scales, ratios: NDArray[np.floating]) -> Scales:
    """Of the next round.

    ratios : mean of r_i over hospitals, K. Under masks a hospital may have added anything, so the
        mean too may be any finite number
    """
    factor = np.sqrt(np.clip(np.asarray(ratios, np.float64), MOST_FACTOR**-2, MOST_FACTOR**2))
    return np.asarray(np.clip(scales * factor, SMALLEST, LARGEST))


def check_scales(
    scales: Scales,
    server_round: int,
    first: Scales,
    before: Scales | None = None,
    before_round: int = 0,
) -> None:
    """Raise RequestRefused unless the rule can have made these of what this hospital knows.

    first : of round 1, as it works them out
    before : those of ``before_round``, the last one that it answered; None: it knows none
    """
    _check_reached(scales, first, server_round - 1)
    if before is not None and before.shape == scales.shape and before_round < server_round:
        _check_reached(scales, before, server_round - before_round)


def _check_reached(scales: Scales, start: Scales, rounds: int) -> None:
    """``rounds``: how many there were since."""
    if scales.shape != start.shape or not np.isfinite(scales).all():
        raise RequestRefused("the request's scales aren't one finite number for each layer")
    reach = MOST_FACTOR ** min(rounds, 100) * _CLOSE
    low, high = np.maximum(start / reach, SMALLEST / _CLOSE), start * reach
    out = np.flatnonzero((scales < low) | (scales > high))
    if len(out):
        one = out[0]
        raise RequestRefused(
            f"the request's scale of layer {one + 1} is {scales[one]:.3g}, and in {rounds} rounds "
            f"the plan's rule (a factor of {MOST_FACTOR:g} a round) makes {low[one]:.3g} to "
            f"{high[one]:.3g}"
        )
