"""How far the state of a procedure had come that a hospital last sent a vector for.

A server that alters what it said before could ask about the same rows under many histories. So
each array of a state goes on from what it was: its first rows are the same bytes. Only the size and
a digest are kept. ``now/...`` says where the procedure stands, and changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHANGES = "now/"


@dataclass(frozen=True)
class Grown:
    """The arrays of a state that only grow.

    arrays : the state's, as it came; empty of a state that was kept
    sizes : rows (of the first axis) by name
    digests : of these rows, by name
    """

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)
    sizes: Mapping[str, int] = field(default_factory=dict, hash=False)
    digests: Mapping[str, bytes] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, state: Mapping[str, NDArray[Any]]) -> Grown:
        """Of a state. ``state``: arrays of one axis or more."""
        arrays = {k: one for k, one in sorted(state.items()) if not k.startswith(_CHANGES)}
        sizes = {name: len(one) for name, one in arrays.items()}
        return cls(arrays, sizes, {name: _digest(one) for name, one in arrays.items()})

    def other(self, before: Grown) -> str:
        """The name of an array that doesn't go on from what it was; '' where all do."""
        for name, size in before.sizes.items():
            found = self.arrays.get(name)
            if found is None or len(found) < size or _digest(found[:size]) != before.digests[name]:
                return name
        return ""


def _digest(rows: NDArray[Any]) -> bytes:
    """Of type, shape of a row, and bytes."""
    state = hashlib.sha256(f"{rows.dtype.str} {rows.shape[1:]} ".encode())
    state.update(np.ascontiguousarray(rows).data)
    return state.digest()
