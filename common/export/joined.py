"""What a graph says of several batches, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def concatenated(batches: Sequence[Mapping[str, NDArray[Any]]]) -> Mapping[str, NDArray[Any]]:
    """The outputs of all batches, by name; of unlike lengths along the second axis, filled up."""
    found = {}
    for name in batches[0]:
        parts = [np.asarray(one[name]) for one in batches]
        if parts[0].ndim > 2:
            longest = max(part.shape[1] for part in parts)
            parts = [
                np.pad(part, ((0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)))
                for part in parts
            ]
        found[name] = np.concatenate(parts)
    return found
