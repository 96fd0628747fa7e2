"""The best split of each node, of all that its bins allow, chosen as xgboost's ``hist`` chooses.

A feature of numbers is scanned twice: with what is missing on the right, from the left, where the
last candidate sends every value left; then with it on the left, from the right. A later candidate
replaces an earlier one only if it gains more, and so does a feature of higher number: of equal
gains the first scan's first wins, of the second scan the *last* bin, of features the lowest.

Shapes: M nodes, P features, of which N are numbers with up to W bins, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.trees.bins import Bins
from wardround.common.trees.candidates import WORTHLESS, Best, Parents
from wardround.common.trees.category_splits import by_category
from wardround.common.trees.features import Floats32
from wardround.common.trees.gains import Rules
from wardround.common.trees.histograms import HESSIAN, Units
from wardround.common.trees.plan import Growth

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_LEAST_GAIN = 1e-6
_AT_ONCE = 32


@dataclass(frozen=True)
class Split:
    """One that is taken.

    last : the last bin that goes left, of a number
    right_categories : those that go right, rising; None of a number
    left : whole sums of what goes left, C
    """

    feature: int
    gain: float
    default_left: bool
    last: int
    right_categories: tuple[int, ...] | None
    left: Ints


class Search:
    """Of splits by agreed bins."""

    def __init__(self, bins: Bins, units: Units, growth: Growth, rules: Rules) -> None:
        self._bins, self._units, self._growth, self._rules = bins, units, growth, rules
        self._numbers = np.array(
            [place for place, one in enumerate(bins.features) if one.number], np.int64
        )
        self._sizes = bins.sizes[self._numbers]
        steps = np.arange(int(self._sizes.max(initial=0)))
        starts = bins.starts[self._numbers][:, None]
        # a place beyond a feature's bins is the zero that stands after a node's own sums
        inside = steps < self._sizes[:, None]
        self._padded = np.where(inside, starts + steps, bins.places + 1)
        self._signs = np.array([bins.features[one].monotone for one in self._numbers], np.int64)

    def best(
        self, sums: Ints, allowed: Mask, lower: Floats32, upper: Floats32
    ) -> list[Split | None]:
        """Of each node; None where none is worth it.

        Parameters
        ----------
        sums : M x ``width(bins)`` x C, whole
        allowed : M x P, which features may split a node
        lower, upper : M, what a node's weight must lie within
        """
        found = list[Split | None]()
        for first in range(0, len(sums), _AT_ONCE):
            part = slice(first, first + _AT_ONCE)
            found += self._best(sums[part], allowed[part], lower[part], upper[part])
        return found

    def _best(
        self, sums: Ints, allowed: Mask, lower: Floats32, upper: Floats32
    ) -> list[Split | None]:
        total = sums[:, self._bins.places]
        parents = Parents.of(total, self._units, self._rules, lower, upper)
        best = Best.nothing(len(sums), len(self._bins.features), sums.shape[2])
        if len(self._numbers):
            self._by_number(sums, parents, best)
        for place, feature in enumerate(self._bins.features):
            if feature.levels is not None:
                start = int(self._bins.starts[place])
                cells = sums[:, start : start + len(feature.levels)]
                by_category(place, cells, parents, self._growth, best)
        gain = np.where(allowed, best.gain, WORTHLESS)
        chosen = gain.argmax(axis=1)
        return [
            self._taken(best, parents, node, feature) if self._worth(gain[node, feature]) else None
            for node, feature in enumerate(chosen.tolist())
        ]

    def _worth(self, gain: np.float32) -> bool:
        return bool(gain > _LEAST_GAIN and gain >= self._rules.gamma)

    def _taken(self, best: Best, parents: Parents, node: int, feature: int) -> Split | None:
        left, right = best.left[node, feature], None
        if not left[HESSIAN] or left[HESSIAN] == parents.total[node, HESSIAN]:
            return None
        if feature in best.right:
            order, counts = best.right[feature]
            right = tuple(sorted(order[node, : counts[node]].tolist()))
        return Split(
            feature,
            float(best.gain[node, feature]),
            bool(best.default_left[node, feature]),
            int(best.last[node, feature]),
            right,
            left,
        )

    def _by_number(self, sums: Ints, parents: Parents, best: Best) -> None:
        nodes, count = len(sums), len(self._numbers)
        zero = np.zeros((nodes, 1, sums.shape[2]), np.int64)
        cells = np.concatenate([sums, zero], axis=1)[:, self._padded]
        added = np.cumsum(cells, axis=2)
        missing = parents.total[:, None] - added[:, :, -1]
        where = np.ix_(np.arange(nodes), np.arange(count))
        gain = np.where(
            np.arange(added.shape[2]) < self._sizes[:, None],
            parents.scored(added, self._signs[:, None]),
            WORTHLESS,
        )
        last = gain.argmax(axis=2)
        best.take(self._numbers, gain[*where, last], added[*where, last], last, False)
        some = np.flatnonzero(missing.any(axis=(0, 2)))
        if not len(some) or added.shape[2] < 2:
            return
        left = added[:, some, :-1] + missing[:, some, None]
        gain = np.where(
            np.arange(left.shape[2]) < self._sizes[some][:, None] - 1,
            parents.scored(left, self._signs[some][:, None]),
            WORTHLESS,
        )
        last = left.shape[2] - 1 - gain[:, :, ::-1].argmax(axis=2)
        where = np.ix_(np.arange(nodes), np.arange(len(some)))
        best.take(self._numbers[some], gain[*where, last], left[*where, last], last, True)
