"""Words: whole numbers of a step, added in a narrow ring where an exact sum costs 24 bytes.

A procedure that asks for counts knows how large their total can be (no count is beyond the summed
rows), and so how many bits hold it. Both sides work that out from the plan and the totals so far.
"""

from __future__ import annotations

from dataclasses import dataclass

BITS = (8, 16, 32, 64)


@dataclass(frozen=True)
class Words:
    """Which of a step's sums are words, under masks.

    bits : 8, 16, 32 or 64; |total over all hospitals| < 2^(bits - 1) and 2^53, whatever they have
    names : of these sums; all others are exact
    """

    bits: int
    names: frozenset[str]

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"words of {self.bits} bits; known are 8, 16, 32 and 64")


def fitting_bits(largest_total: float) -> int:
    """The narrowest words that hold whole numbers of this magnitude, summed over all hospitals.

    Raises ValueError from 2^53 on, which float64 doesn't count to.

    >>> [fitting_bits(most) for most in (127, 128, 40_000, 2**31)]
    [8, 16, 32, 64]
    """
    if not 0 <= largest_total < 2**53:
        raise ValueError(f"no words hold {largest_total:g}")
    return next(bits for bits in BITS if largest_total < 2 ** (bits - 1))
