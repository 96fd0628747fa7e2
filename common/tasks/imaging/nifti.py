"""NIfTI by nibabel, turned to canonical orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError


def read_nifti(path: Path, place: str) -> NDArray[Any]:
    """In RAS+ orientation: depth x rows x columns; of one slice, in whichever direction, its two
    axes. Raises DataError, and nibabel's errors.
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
    orientation = nibabel.io_orientation(image.affine)
    if np.isnan(orientation).any():
        raise DataError(
            f"{place}: its affine doesn't say how its axes lie in space; mend the affine"
        )
    values = np.asanyarray(image.dataobj).reshape(shape)
    if values.dtype.itemsize <= 2:
        values = values.astype(np.float32)
    values = np.asarray(nibabel.apply_orientation(values, orientation)).T
    if 1 in values.shape:  # a slice, and in no direction a volume
        values = values.take(0, axis=values.shape.index(1))
    return np.ascontiguousarray(values)
