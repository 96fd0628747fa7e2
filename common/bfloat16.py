"""Numbers of 16 bits with the exponent of float32, which numpy has by the package ml_dtypes.

A model's entries may be of them: so they are stored and sent, 2 bytes each. Nothing is added up in
them: changes are worked out in float32, sums and means as ever, and a mean is rounded once, to the
nearest, ties to even.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_TIE = np.uint32(0x8000)
"""Of the 16 bits of a float32 that are cut off: just between two neighbours."""


def is_float(dtype: Any) -> bool:
    """Whether a dtype (or its name) is of floating-point numbers, these among them."""
    known = np.dtype(dtype)
    return bool(known == BFLOAT16) or known.kind == "f"


def widened(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers as float32 where they are of 16 bits of this kind; others as they are."""
    return values.astype(np.float32) if values.dtype == BFLOAT16 else values


def rounded(values: NDArray[Any]) -> NDArray[Any]:
    """float32 or float64 as bfloat16, rounded once: to the nearest, ties to even.

    By way of float32 a float64 just beside a tie would be rounded twice, the second time from the
    tie: so it is moved off it again.

    >>> rounded(np.array([1.0, 1.0 + 2**-8, 1.0 + 2**-8 + 2**-40])).astype(float).tolist()
    [1.0, 1.0, 1.0078125]
    """
    with np.errstate(over="ignore"):  # who looks for infinities finds them
        narrow = np.atleast_1d(values).astype(np.float32)
    if values.dtype == np.float64:
        wide = np.atleast_1d(values)
        odd = (narrow.view(np.uint32) & np.uint32(0xFFFF) == _TIE) & (narrow != wide)
        if odd.any():
            towards = np.where(wide[odd] > narrow[odd], np.inf, -np.inf).astype(np.float32)
            narrow[odd] = np.nextafter(narrow[odd], towards)
    result: NDArray[Any] = narrow.astype(BFLOAT16).reshape(values.shape)
    return result
