"""Candidates for splits of several nodes at once, and what each would gain.

Shapes: M nodes, P features; sums are whole numbers of C channels: gradient, hessian, and rows where
they are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.features import Floats32
from wardround.common.trees.gains import Rules
from wardround.common.trees.histograms import GRADIENT, HESSIAN, ROWS, Units

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
WORTHLESS = np.float32(-np.inf)


@dataclass(frozen=True)
class Parents:
    """The nodes that may be split.

    total : M x C, over all their rows
    lower, upper : M, what a weight must lie within
    gain : M, of each as it is
    """

    total: Ints
    lower: Floats32
    upper: Floats32
    gain: Floats32
    units: Units
    rules: Rules

    @classmethod
    def of(
        cls, total: Ints, units: Units, rules: Rules, lower: Floats32, upper: Floats32
    ) -> Parents:
        """By their sums."""
        sums = units.numbers(total)
        gradient, hessian = sums[..., GRADIENT], sums[..., HESSIAN]
        weight = rules.weight(gradient, hessian, lower, upper)
        return cls(total, lower, upper, rules.gain(gradient, hessian, weight), units, rules)

    def scored(self, left: Ints, signs: Ints | None = None) -> Floats32:
        """What splits gain, float32; minus infinity where one is not allowed.

        Parameters
        ----------
        left : M x ... x C, whole sums of what goes left
        signs : how each candidate's feature is monotone, of a shape that goes with M x ...
        """
        wide = (len(self.total), *[1] * (left.ndim - 2))
        ours, rules = self.units.numbers(left), self.rules
        right = self.total.reshape(*wide, -1) - left
        theirs = self.units.numbers(right)
        sides, weights = list[Floats32](), list[Floats32]()
        lower, upper = self.lower.reshape(wide), self.upper.reshape(wide)
        allowed = np.ones(left.shape[:-1], np.bool_)
        for one in (ours, theirs):
            gradient, hessian = one[..., GRADIENT], one[..., HESSIAN]
            allowed &= hessian >= rules.least
            weight = np.zeros((), np.float32)
            if rules.bounded or rules.limit:
                weight = rules.weight(gradient, hessian, lower, upper)
            weights.append(weight)
            sides.append(rules.gain(gradient, hessian, weight))
        if self.units.counted:
            allowed &= np.minimum(left[..., ROWS], right[..., ROWS]) >= rules.fewest_rows
        if signs is not None and rules.bounded:
            allowed &= np.where(signs > 0, weights[0] <= weights[1], True)
            allowed &= np.where(signs < 0, weights[0] >= weights[1], True)
        with np.errstate(invalid="ignore"):
            found = (sides[0] + sides[1]) - self.gain.reshape(wide)
        return np.where(allowed & np.isfinite(found), found, WORTHLESS)


@dataclass
class Best:
    """The best candidate of each node and feature.

    gain, default_left, last : M x P; ``last`` is the last bin that goes left, of numbers
    left : M x P x C, whole sums
    right : of categories, by feature: an order of its levels for each node, M x K, and how many of
        the first of them go right, M
    """

    gain: Floats32
    default_left: Mask
    last: Ints
    left: Ints
    right: dict[int, tuple[Ints, Ints]]

    @classmethod
    def nothing(cls, nodes: int, features: int, channels: int) -> Best:
        """Before anything is tried."""
        shape = (nodes, features)
        return cls(
            np.full(shape, WORTHLESS),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.int64),
            np.zeros((*shape, channels), np.int64),
            {},
        )

    def take(
        self, columns: Ints | Sequence[int], gain: Floats32, left: Ints, last: Ints, goes_left: bool
    ) -> Mask:
        """Take those that gain more than what these columns have; which were taken.

        Parameters
        ----------
        gain, last : M x columns
        left : M x columns x C
        goes_left : whether what is missing does
        """
        where = np.ix_(np.arange(len(gain)), np.asarray(columns, np.int64))
        more = gain > self.gain[where]
        self.gain[where] = np.where(more, gain, self.gain[where])
        self.default_left[where] = np.where(more, goes_left, self.default_left[where])
        self.last[where] = np.where(more, last, self.last[where])
        self.left[where] = np.where(more[..., None], left, self.left[where])
        return more
