"""How many classes a target may have, how finely their scores may be counted, and what stands for
none. Without torch."""

from __future__ import annotations

UNLABELLED = -100
"""The target of a row, or a token, that no loss is for and no figure counts, as torch's cross
entropy has it."""
MOST_CLASSES = 1000
_MOST_CELLS = 2**22


def too_fine(classes: int, bins: int) -> str:
    """Why sums over so many classes and score bins can't be sent; '' if they can."""
    if classes > MOST_CLASSES:
        return f"{classes:,} classes are too many, at most {MOST_CLASSES:,} can be; group them"
    if classes > 2 and classes * bins > _MOST_CELLS:
        return (
            f"{bins:,} bins for each of {classes:,} classes are too many; lower it to at most "
            f"{_MOST_CELLS // classes:,}"
        )
    return ""
