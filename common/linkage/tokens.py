"""Lists of tokens: bytes on the way, sorted arrays at home.

Every list is sorted by its tokens. A party multiplies all of a list by a secret, so the order of
what it gives says nothing of the order that it was given; and sorted lists show a token that stands
twice.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from wardround.common.linkage.points import TOKEN_BYTES

TAG_BYTES = 12
"""What is shown of a token for comparison: 5 lists of 10^7 make a false pair once in 2^46 runs."""
Tokens = NDArray[np.bytes_]
"""(n,) of 32 bytes each, or of 12. Only compared and moved: numpy hides zero bytes at the end of an
item."""
Places = NDArray[np.int64]
"""(n,) places in a list, from 0."""


def tokens_of(text: bytes, size: int = TOKEN_BYTES) -> Tokens:
    """The tokens of a letter. Raises ValueError for bytes that are no whole number of them."""
    return np.frombuffer(text, dtype=f"S{size}")


def tags_of(text: bytes) -> bytes:
    """The first 12 bytes of each token, in the same order."""
    return np.frombuffer(text, np.uint8).reshape(-1, TOKEN_BYTES)[:, :TAG_BYTES].tobytes()


def ascending(tokens: Tokens) -> bool:
    """Whether each is larger than the one before: sorted, and none twice."""
    return bool((tokens[:-1] < tokens[1:]).all())


def sorted_by_token(text: bytes) -> tuple[bytes, Places]:
    """Tokens in ascending order, and for each its place before."""
    tokens = tokens_of(text)
    places = np.argsort(tokens, kind="stable").astype(np.int64)
    return tokens[places].tobytes(), places


def common(lists: list[Tokens]) -> tuple[Tokens, list[Places]]:
    """What stands in all of sorted lists, ascending, and its places in each."""
    found = reduce(lambda some, more: np.intersect1d(some, more, assume_unique=True), lists)
    return found, [np.searchsorted(tokens, found).astype(np.int64) for tokens in lists]
