"""Identifiers for tests: no number of anybody but by chance."""

from __future__ import annotations


def nhs_numbers(count: int) -> list[str]:
    """So many different texts that pass the check of an NHS number, always the same ones."""
    found: list[str] = []
    number = 100_000_000
    while len(found) < count:
        number += 1
        check = -sum(int(d) * w for d, w in zip(str(number), range(10, 1, -1), strict=True)) % 11
        if check < 10:
            found.append(f"{number}{check}")
    return found
