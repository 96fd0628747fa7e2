"""Agreed bins of all features, and each row's place in them.

Bin k of a number holds values in [cut k-1, cut k): a value equal to a cut lies right of it, as in
xgboost. The last bin is open; a split after it sends every value left and what is missing right,
and its cut in a file is the largest float32 number. Bin k of a category is its level k.

Bins of all features stand in one row of *places*, feature after feature. The place after all of
them is where a missing value counts, and where a node's sums over all its rows stand: what a
feature misses is these less the sums of its bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.trees.features import LARGEST, Feature, Floats32

Ints = NDArray[np.int64]
MOST_BINS = 1024


@dataclass(frozen=True, eq=False)
class Bins:
    """What hospitals agreed on.

    cuts : of each feature, float32 and rising; empty of a category
    """

    features: tuple[Feature, ...]
    cuts: tuple[Floats32, ...]

    def __post_init__(self) -> None:
        if len(self.features) != len(self.cuts) or not self.features:
            raise TaskError("bins need one row of cuts for each feature")
        for feature, cuts in zip(self.features, self.cuts, strict=True):
            sound = cuts.dtype == np.float32 and cuts.ndim == 1 and len(cuts) < MOST_BINS
            rises = sound and np.isfinite(cuts).all() and (np.diff(cuts) > 0).all()
            if not rises or (len(cuts) and not feature.number):
                raise TaskError(f"the cuts of '{feature.name}' aren't rising finite numbers")

    @cached_property
    def sizes(self) -> Ints:
        """How many bins each feature has."""
        return np.array(
            [
                len(cuts) + 1 if feature.levels is None else len(feature.levels)
                for feature, cuts in zip(self.features, self.cuts, strict=True)
            ],
            np.int64,
        )

    @cached_property
    def starts(self) -> Ints:
        """The first place of each feature."""
        return np.concatenate([[0], np.cumsum(self.sizes)[:-1]]).astype(np.int64)

    @property
    def places(self) -> int:
        """How many there are in all."""
        return int(self.sizes.sum())

    def cut(self, feature: int, last: int) -> float:
        """The number below which a value lies in bins up to ``last``."""
        cuts = self.cuts[feature]
        return float(cuts[last]) if last < len(cuts) else LARGEST

    def place(self, rows: Floats32) -> Ints:
        """P x N: each row's place for each feature; ``places`` where it is missing, or no level.

        rows : N x P
        """
        found = np.empty(rows.shape[::-1], np.int64)
        for number, (feature, cuts) in enumerate(zip(self.features, self.cuts, strict=True)):
            values = rows[:, number]
            if feature.number:
                here = np.searchsorted(cuts, values, side="right")
                gone = np.isnan(values)
            else:
                whole = np.nan_to_num(values, nan=-1.0)
                here = whole.astype(np.int64)
                gone = (whole < 0) | (here >= self.sizes[number]) | (here != whole)
            found[number] = np.where(gone, self.places, here + self.starts[number])
        return found


def checked_rows(rows: Floats32, features: Sequence[Feature]) -> Floats32:
    """The rows. Raises TaskError where they aren't N x P float32."""
    if rows.ndim != 2 or rows.shape[1] != len(features) or rows.dtype != np.float32:
        raise TaskError(f"rows of trees are float32 with {len(features)} columns")
    return rows
