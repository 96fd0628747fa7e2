"""Where an image lies in the patient: one orientation for every format, and millimetres.

Arrays are turned, by whole axes, to what an axial slice looks like on a radiologist's screen:
depth runs from foot to head, rows from front to back, columns from the patient's right to left. A
slice by itself is turned as screens show its plane: the head, or the front, is up. Oblique images
get the nearest such order of axes; nothing is rotated.

Directions are DICOM's (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z to the head.
NIfTI's x and y point the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CUT = "edges lie beyond task.size at task.spacing, and were cut off"
_HEAD = 2
_WHOLE = 1e-6
"""Of a pixel's width: what rounding may make of an edge."""


@dataclass(frozen=True)
class Space:
    """How an array of n axes lies in the patient.

    directions : n x 3, unit vectors: where one step along each of the array's axes leads, in left,
        back, head; None where the file doesn't say
    spacing : n, mm of such a step; None where the file doesn't say
    """

    directions: NDArray[np.float64] | None = None
    spacing: tuple[float, ...] | None = None

    def of(self, axes: Sequence[int]) -> Space:
        """Of these axes of the array, in this order."""
        directions = None if self.directions is None else self.directions[list(axes)]
        spacing = None if self.spacing is None else tuple(self.spacing[axis] for axis in axes)
        return Space(directions, spacing)


NOWHERE = Space()


def turned(values: NDArray[Any], space: Space) -> tuple[NDArray[Any], Space]:
    """The array in the one order and direction of axes, and how it lies then.

    values : slices x rows x columns, or rows x columns; axes behind those (colours) stay behind
    """
    if space.directions is None:
        return values, space
    count = len(space.directions)
    sizes = np.abs(space.directions)
    worlds = max(
        permutations(range(3), count),
        key=lambda chosen: round(float(sum(sizes[a, w] for a, w in enumerate(chosen))), 6),
    )
    order = sorted(range(count), key=lambda axis: -worlds[axis])
    values = np.transpose(values, [*order, *range(count, values.ndim)])
    space = space.of(order)
    assert space.directions is not None
    for axis, source in enumerate(order):
        up = count == 2 and worlds[source] == _HEAD  # a slice's first row is its highest
        if (space.directions[axis, worlds[source]] < 0) != up:
            values = np.flip(values, axis)
            space.directions[axis] *= -1
    return values, space


def in_millimetres(
    pixels: Tensor, found: Sequence[float], wanted: Sequence[float], size: Sequence[int]
) -> tuple[Tensor, bool]:
    """C x ``size`` pixels that are ``wanted`` mm apart, about the image's centre, and whether
    edges were cut off. What lies outside of the image is 0.

    Linear between neighbours, and smoothed first where pixels get coarser; bytes are rounded.
    """
    values, cut = pixels.float(), False
    for axis, (before, after, count) in enumerate(zip(found, wanted, size, strict=True), 1):
        source = pixels.shape[axis]
        cut |= source * before > (count + 1) * after  # half a pixel on either side is none
        weights = _weights(source, before, count, after)
        values = torch.movedim(torch.movedim(values, axis, -1) @ weights.T, -1, axis)
    if pixels.dtype == torch.uint8:
        return values.round_().clamp_(0, 255).to(torch.uint8).contiguous(), cut
    return values.clamp_(0, 1).contiguous(), cut


def _weights(source: int, before: float, count: int, after: float) -> Tensor:
    """count x source: of each new pixel, the shares of the old ones: a triangle about its centre,
    as wide as the coarser of both; none where the centre lies outside."""
    new = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * (after / before)
    at = (new + (source - 1) / 2)[:, None]
    distance = (at - torch.arange(source, dtype=torch.float64)).abs()
    shares = (1 - distance / max(1.0, after / before)).clamp_(min=0)
    inside = (at >= -0.5 - _WHOLE) & (at <= source - 0.5 + _WHOLE)
    shares = torch.where(inside, shares, 0.0)
    return (shares / shares.sum(1, keepdim=True).clamp_(min=_WHOLE)).float()
