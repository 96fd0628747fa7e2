"""Correlated randomness from a dealer: masks and shares grow from seeds, only corrections are sent.

Each party has a seed that the dealer has too. A label (what for, and of which iteration) gives a
stream of its own, that of masks of sums: AES-128 in counter mode, key and first counter from HKDF
over (seed, label). So

    mask(label)    is known to its party and the dealer
    share(label)   of a value that the dealer makes of masks: all but one party draw theirs, and the
                   dealer sends that one the value less all others' (its *correction*)

Beaver, "Efficient multiparty protocols using circuit randomization", CRYPTO 1991, with the
compression of Boyle et al., CCS 2018, section 1. A label serves once: two uses of one mask would
show the difference of what it hides. It names the iteration, and a party that goes on after a kill
computes the same words of the same label again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.secagg.keys import derive
from wardround.common.secagg.ring import key_stream
from wardround.common.vertical.ring import Words

SEED_BYTES = 32


def stream(seed: bytes, label: str, shape: tuple[int, ...], kind: type[Any] = np.uint64) -> Any:
    """Uniform whole numbers of a seed and a label, in this shape and unsigned type."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    drawn = key_stream(derive(seed, "vertical stream", label.encode()), size)
    return drawn.view(kind).reshape(shape)


class _Once:
    """Labels that were used."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def take(self, label: str) -> str:
        if label in self._used:
            raise RuntimeError(f"the randomness '{label}' was used before")
        self._used.add(label)
        return label


class Hand:
    """What one party has of the dealer. Position: its number among those that hold columns."""

    def __init__(self, seed: bytes, position: int) -> None:
        self._seed, self.position, self._once = seed, position, _Once()

    def mask(self, label: str, shape: tuple[int, ...], kind: type[Any] = np.uint64) -> Any:
        """This party's own mask. RuntimeError the second time."""
        return stream(self._seed, self._once.take(f"mask {label}"), shape, kind)

    def share(
        self, label: str, shape: tuple[int, ...], correction: Words | None, to: int = 0
    ) -> Words:
        """This party's share of what was dealt; ``correction`` at party ``to`` only."""
        name = self._once.take(f"share {label}")
        if self.position != to:
            drawn: Words = stream(self._seed, name, shape)
            return drawn
        assert correction is not None
        return correction.reshape(shape)


class Deck:
    """What the dealer deals of. seeds : of all parties that hold columns, in their order."""

    def __init__(self, seeds: Sequence[bytes]) -> None:
        self._seeds, self._once = tuple(seeds), _Once()

    def masks(
        self, label: str, shapes: Sequence[tuple[int, ...]], kind: type[Any] = np.uint64
    ) -> list[NDArray[Any]]:
        """Every party's mask of this label; each has a shape of its own."""
        name = self._once.take(f"mask {label}")
        return [
            stream(seed, name, shape, kind) for seed, shape in zip(self._seeds, shapes, strict=True)
        ]

    def total(self, label: str, shape: tuple[int, ...], kind: type[Any] = np.uint64) -> Any:
        """The sum of all parties' masks, which are of one shape."""
        first, *others = self.masks(label, [shape] * len(self._seeds), kind)
        total = first.copy()
        for other in others:
            total += other
        return total

    def deal(self, label: str, value: Words, to: int = 0) -> Words:
        """Deals shares of a value: what party ``to`` is sent; the others draw theirs."""
        left = value.copy()
        for drawn in self.drawn(label, value.shape, to):
            left -= drawn
        return left

    def drawn(self, label: str, shape: tuple[int, ...], to: int = 0) -> Iterator[Words]:
        """What all parties but ``to`` draw as their shares."""
        name = self._once.take(f"share {label}")
        for position, seed in enumerate(self._seeds):
            if position != to:
                yield stream(seed, name, shape)
