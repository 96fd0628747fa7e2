"""Numbers in a model's own types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.bfloat16 import BFLOAT16, rounded


def conform(value: NDArray[Any], dtype: str) -> NDArray[Any]:
    """``value`` as ``dtype``, itself if it is; floats that become whole numbers, or bfloat16, are
    rounded, not cut."""
    if np.dtype(dtype).kind in "iub" and value.dtype.kind == "f":
        value = np.rint(value)
    if np.dtype(dtype) == BFLOAT16 and value.dtype != BFLOAT16:
        return rounded(value)
    return value.astype(dtype, copy=False)
