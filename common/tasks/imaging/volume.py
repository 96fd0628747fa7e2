"""Slices to one volume: which belong to it, their order, copies, gaps.

Slices are the files of a folder or the frames of an enhanced file. They are held to be of **one**
volume; what isn't part of it is left out by a rule and counted, or the volume is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.left_out import LeftOut

UNEVEN = "slices are missing or unevenly spaced, and were resampled by position"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_SAME_PLACE = 1e-3
"""mm, or numbers of slices: nearer ones are at one place."""
_SAME_DIRECTION = 1e-3
"""Of each direction cosine."""
_EVEN = 0.05
"""Of the usual step: steps that differ by less are one step."""


@dataclass(frozen=True)
class Plane:
    """Where a slice lies.

    position : mm, of its first pixel; None where the file doesn't say
    axes : direction cosines of its rows and columns; None where the file doesn't say
    number : in its series
    acquisition : that it is of
    """

    position: tuple[float, ...] | None = None
    axes: tuple[float, ...] | None = None
    number: float | None = None
    acquisition: int | None = None


@dataclass(frozen=True)
class Volume:
    """values : depth x rows x columns (x 3); left_out : slices; noted : see ``Decoded``; step : mm
    from slice to slice, along the normal of their plane; None where positions don't say"""

    values: NDArray[Any]
    left_out: tuple[LeftOut, ...] = ()
    noted: tuple[str, ...] = ()
    step: float | None = None


def check_orientation(planes: Sequence[Plane], place: str) -> None:
    """Raise DataError unless all planes are parallel (by direction cosines, to 1e-3), or none says
    how it lies."""
    first = planes[0].axes
    for number, plane in enumerate(planes, 1):
        same = plane.axes is None if first is None else plane.axes is not None
        if same and first is not None and plane.axes is not None:
            apart = np.abs(np.subtract(first, plane.axes)).max()
            same = bool(apart <= _SAME_DIRECTION)
        if not same:
            raise DataError(
                f"{place}: slice {number} lies in another direction than the first; a folder is "
                "one volume: give each direction a folder of its own"
            )


def assembled(
    slices: Sequence[NDArray[Any]], planes: Sequence[Plane], max_gap: float, place: str
) -> Volume:
    """The slices in their order along the normal of their plane (PS3.3 C.7.6.2), else by number.

    An exact copy of a slice at its place is dropped. Slices at uneven distances are resampled by
    position to the usual (median) distance.

    Parameters
    ----------
    max_gap : the largest distance between neighbours, in usual ones

    Raises DataError for slices that nothing orders (names of files say nothing), different ones at
    one place, acquisitions that interleave, and a larger gap.
    """
    keys, placed = _keys(planes, place)
    order = np.argsort(keys, kind="stable")
    kept: list[int] = [int(order[0])]
    for index in order[1:]:
        if keys[index] - keys[kept[-1]] > _SAME_PLACE:
            kept.append(int(index))
        elif not np.array_equal(slices[index], slices[kept[-1]]):
            raise DataError(
                f"{place}: different slices at one place, as of several acquisitions, echoes or "
                "points in time; give each volume a folder of its own"
            )
    _check_acquisitions([planes[index].acquisition for index in kept], place)
    left = (LeftOut(len(slices) - len(kept), "slices", "exact copies of others beside them"),)
    stack = np.stack([slices[index] for index in kept])
    noted: tuple[str, ...] = ()
    steps = np.diff(keys[kept])
    if len(steps) > 1 and not np.allclose(steps, np.median(steps), rtol=_EVEN, atol=0):
        stack, noted = _resampled(stack, keys[kept], max_gap, place), (UNEVEN,)
    step = float(keys[kept[-1]] - keys[kept[0]]) / (len(stack) - 1) if len(stack) > 1 else None
    return Volume(stack, left if left[0].count else (), noted, step if placed else None)


def _keys(planes: Sequence[Plane], place: str) -> tuple[NDArray[np.float64], bool]:
    """What orders the slices, and whether it is mm along their normal; else the slices' numbers.

    A slice's place is the projection p . (r x c) of its position on the normal of its rows r and
    columns c (PS3.3 C.7.6.2.1.1). Not InstanceNumber, which counts in the order of acquisition, and
    not SliceLocation, which files may leave out or mean otherwise. Numbers only where all positions
    are one point, or unknown.
    """
    positions = [plane.position for plane in planes]
    if len(planes) == 1:
        return np.zeros(1), True
    if None not in positions:
        axes = planes[0].axes or AXIAL  # unknown: as if axial
        keys: NDArray[np.float64] = np.array(positions, dtype=np.float64) @ normal_of(axes)
        if np.ptp(keys) > _SAME_PLACE:
            return keys, True
    elif positions.count(None) < len(positions):
        raise Unreadable(
            f"{place}: slice {positions.index(None) + 1} doesn't say where it lies "
            "(ImagePositionPatient), and others do; get it anew, or take it away"
        )
    numbers = [plane.number for plane in planes]
    if None in numbers or len(set(numbers)) == 1:
        raise DataError(
            f"{place}: neither ImagePositionPatient nor InstanceNumber says in which order the "
            "slices are; convert the volume to NIfTI"
        )
    return np.array(numbers, dtype=np.float64), False


def normal_of(axes: Sequence[float]) -> NDArray[np.float64]:
    """A unit vector, of the direction cosines of a plane's rows and columns."""
    normal = np.cross(axes[:3], axes[3:])
    return np.asarray(normal / max(float(np.linalg.norm(normal)), 1e-12), dtype=np.float64)


def _check_acquisitions(acquisitions: Sequence[int | None], place: str) -> None:
    """Raise DataError unless each acquisition's slices follow each other: a scanner that moves
    between acquisitions of one volume numbers them too."""
    runs = 1 + sum(a != b for a, b in zip(acquisitions, acquisitions[1:], strict=False))
    if runs > len(set(acquisitions)):
        raise DataError(
            f"{place}: slices of {len(set(acquisitions))} acquisitions lie between each other; "
            "give each acquisition a folder of its own"
        )


def _resampled(
    stack: NDArray[Any], keys: NDArray[np.float64], max_gap: float, place: str
) -> NDArray[np.float64]:
    """Slices at even distances, linearly between their neighbours: as many as the usual distance
    fits between the first and the last, which stay where they are. Bytes stay bytes."""
    steps = np.diff(keys)
    usual = float(np.median(steps))
    gap = float(steps.max()) / usual
    if gap > max_gap:
        raise DataError(
            f"{place}: a gap of {gap:.3g} times the usual distance after slice "
            f"{int(steps.argmax()) + 1} in their order; add the missing slices, or set "
            f"task.max_gap = {np.ceil(gap):.1f} to bridge it"
        )
    at = np.linspace(keys[0], keys[-1], round(float(keys[-1] - keys[0]) / usual) + 1)
    above = np.clip(np.searchsorted(keys, at), 1, len(keys) - 1)
    share = (at - keys[above - 1]) / steps[above - 1]
    share = share.reshape(-1, *[1] * (stack.ndim - 1))
    mixed: NDArray[np.float64] = stack[above - 1] * (1 - share) + stack[above] * share
    return np.rint(mixed).astype(stack.dtype) if stack.dtype == np.uint8 else mixed
