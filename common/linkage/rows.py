"""A party's rows as a linkage sees them: one key each, hashed for one run."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.trust.identity import digest, encode_parts

NO_ROW = -1


class Rows:
    """Rows that have a key, by their numbers among all.

    keys : normal form of each row's identifiers, or None of a row that isn't linked

    Raises JointRefused.
    """

    def __init__(self, keys: Sequence[bytes | None], most: int) -> None:
        self._keys = [key for key in keys if key is not None]
        numbers = [number for number, key in enumerate(keys) if key is not None]
        self.numbers = np.array(numbers, np.int32)
        if len(self._keys) > most:
            raise JointRefused("a party has more rows than procedure.most_rows")
        if len(set(self._keys)) != len(self._keys):
            raise JointRefused("a party has two rows with the same identifiers")
        whole = hashlib.sha256()
        for key in keys:
            whole.update(b"\0" if key is None else b"\1" + len(key).to_bytes(8, "big") + key)
        self.digest = digest("linkage rows", whole.digest())

    def __len__(self) -> int:
        return len(self._keys)

    def digests(self, session: bytes) -> bytes:
        """32 bytes for each row that has a key, of this run alone."""
        start = hashlib.sha256(encode_parts(b"wardround linkage row 1", session))
        found = bytearray()
        for key in self._keys:
            one = start.copy()
            one.update(key)
            found += one.digest()
        return bytes(found)
