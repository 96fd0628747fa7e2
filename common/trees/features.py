"""The columns that trees split on, and what they may do with each.

A row is float32 numbers, one for each feature in this order. NaN is missing. A category is the
place of its text in ``levels``, as a whole number; a text that isn't there is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ConfigError

Floats32 = NDArray[np.float32]
MOST_LEVELS = 1024
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Feature:
    """One column.

    levels : the texts of a category; None of a number
    monotone : 1 where predictions must not fall as it rises, -1 where they must not rise, 0 else
    """

    name: str
    levels: tuple[str, ...] | None = None
    monotone: int = 0

    def __post_init__(self) -> None:
        if self.levels is not None and not 0 < len(self.levels) <= MOST_LEVELS:
            raise ConfigError(
                f"column '{self.name:.50}' has {len(self.levels)} categories: trees take 1 to"
                f" {MOST_LEVELS}",
                mend="declare fewer, or leave the column out",
            )
        if self.monotone not in (-1, 0, 1) or (self.monotone and self.levels is not None):
            raise ConfigError(
                f"column '{self.name:.50}': monotone is 1 or -1, of a column of numbers",
                mend="take it out of the monotone columns",
            )

    @property
    def number(self) -> bool:
        """Whether it is of numbers."""
        return self.levels is None


def as_rows(columns: Sequence[NDArray[np.generic]]) -> Floats32:
    """N x P float32 of P columns of N values. What float32 can't hold is missing: plain xgboost
    refuses an infinite number."""
    with np.errstate(over="ignore"):
        rows = np.stack([np.asarray(one, np.float32) for one in columns], axis=1)
    rows[~np.isfinite(rows)] = np.nan
    return rows
