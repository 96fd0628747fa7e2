"""NIfTI by nibabel, turned to the one orientation of ``space.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.imaging.space import Space, turned

_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
"""Of a file's unit; one that names none, or mm, means mm."""


def read_nifti(path: Path, place: str) -> tuple[NDArray[Any], Space]:
    """Depth x rows x columns, and how they lie; of one slice, in whichever direction, its two axes.
    Raises DataError, and nibabel's errors.
    """
    import nibabel

    image = nibabel.load(path)
    kind = image.get_data_dtype()
    if kind.fields or kind.kind == "c":
        what = "colours (RGB)" if kind.fields else "complex numbers"
        raise DataError(f"{place}: a NIfTI file of {what}, which isn't read; save it as numbers")
    shape = list(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) > 3:
        raise DataError(
            f"{place}: {int(np.prod(shape[3:]))} volumes in one file; save the one that is meant "
            "by itself"
        )
    shape += [1] * (3 - len(shape))
    space = _space(image, place)
    values = np.asanyarray(image.dataobj).reshape(shape)
    if values.dtype.itemsize <= 2:
        values = values.astype(np.float32)
    values, space = turned(values, space)
    if 1 in values.shape:  # a slice, and in no direction a volume
        across = values.shape.index(1)
        values = values.take(0, axis=across)
        values, space = turned(values, space.of([axis for axis in range(3) if axis != across]))
    return np.ascontiguousarray(values), space


def _space(image: Any, place: str) -> Space:
    """By the affine: its columns are the steps along the array's axes, in right, front, head."""
    steps = np.asarray(image.affine, dtype=np.float64)[:3, :3].T * [-1.0, -1.0, 1.0]
    lengths = np.linalg.norm(steps, axis=1)
    if not (np.isfinite(lengths).all() and lengths.min() > 0):
        raise DataError(
            f"{place}: its affine doesn't say how its axes lie in space; mend the affine"
        )
    try:
        unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    except (AttributeError, KeyError):  # formats without units, codes that mean none
        unit = 1.0
    return Space(steps / lengths[:, None], tuple(lengths * unit))
