"""What crosses, as bytes: float32 of little end, row by row, and before them whose rows they are.

The first 32 bytes are the same at parties that count the same persons in the same order in the same
run: parties with unlike links would train on pairs of strangers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.joint.links import Link

MARK_BYTES = 32
_DTYPE = np.dtype("<f4")


def mark_of(session: bytes, link: Link) -> bytes:
    """What parties of one link have in common."""
    persons = len(link.rows).to_bytes(8, "big")
    return hashlib.sha256(b"split" + session + persons + link.digest).digest()


def letter_bytes(rows: int, width: int) -> int:
    """How long a letter is."""
    return MARK_BYTES + rows * width * _DTYPE.itemsize


def to_letter(mark: bytes, values: NDArray[Any]) -> bytes:
    """N x width numbers as a letter."""
    return mark + np.ascontiguousarray(values, _DTYPE).tobytes()


def from_letter(mark: bytes, letter: bytes | None, rows: int, width: int) -> NDArray[np.float32]:
    """The numbers of a letter: rows x width, finite. Raises JointRefused."""
    if letter is None or len(letter) != letter_bytes(rows, width):
        raise JointRefused("a letter of a split network is missing, or of another length")
    if letter[:MARK_BYTES] != mark:
        raise JointRefused("the parties' links aren't the same: link the persons again")
    found = np.frombuffer(letter, _DTYPE, offset=MARK_BYTES).reshape(rows, width)
    if not np.isfinite(found).all():
        raise JointRefused("a letter of a split network holds a number that isn't finite")
    return found.astype(np.float32)
