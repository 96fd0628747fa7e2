"""Which rows a hospital holds out: its own key and the row's decide, and nothing else.

A row's place is the first 53 bits of HMAC-SHA-256(hospital's key, row's key) as a number in [0, 1).
Places below the test fraction are test rows, those from 1 - the validation fraction on validation
rows. Two studies of the same data therefore agree, whatever their seeds, targets, columns,
privacy and the other rows there are; of unlike fractions the smaller part is within the larger one,
and no test row of one is a validation row of the other while the two fractions sum to at most 1.

It is the split by a hash of the identifier (Géron, Hands-On Machine Learning, chapter 2), keyed: a
server that knows seed and rows can't work out who is held out. Ranks instead of places would give
exact sizes, and let rows cross over: with each row that is added or lacks a target, and between a
study with protected units and one without.
"""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 32
_BITS = 53


def simulated_key(seed: int, hospital: str) -> bytes:
    """The key of a simulated hospital, 32 bytes: of the run's seed and the hospital's name."""
    return hashlib.sha256(f"held-out rows\x1f{seed}\x1f{hospital}".encode()).digest()


def key_digest(key: bytes) -> str:
    """By which a key is known again, hexadecimal; tells nothing of it."""
    return hmac.digest(key, b"wardround held-out key", hashlib.sha256)[:16].hex()


def places(key: bytes, row_keys: NDArray[np.str_]) -> NDArray[np.float64]:
    """The place in [0, 1) of each row; rows with equal keys have one.

    >>> places(bytes(32), np.array(["anna", "bert", "anna"])).round(3).tolist()
    [0.927, 0.267, 0.927]
    """
    names, number = np.unique(row_keys, return_inverse=True)
    drawn = [
        int.from_bytes(hmac.digest(key, f"row\x1f{name}".encode(), hashlib.sha256)[:8], "big")
        for name in names.tolist()
    ]
    shifted = np.array(drawn, dtype=np.uint64) >> np.uint64(64 - _BITS)
    return (shifted.astype(np.float64) / 2.0**_BITS)[number]
