"""From an opened sum back to what the round loop works with."""

from __future__ import annotations

import math

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays
from wardround.common.mapped import let_go
from wardround.common.protocol import names as m
from wardround.common.secagg.encoding import (
    OWN_NAMES,
    WEIGHT,
    VectorLayout,
    signed_words,
)
from wardround.common.secagg.means import Scale, means_of
from wardround.server.gathering.gatherer import Expected
from wardround.server.secagg.sum import Total

_PIECE = 1 << 16


def named_sums(layout: VectorLayout, total: Total) -> Sums:
    """The sums that were agreed on, by name; float64."""
    arrays = layout.exact_arrays(total.exact)
    found = {name: value for name, value in arrays.items() if name not in OWN_NAMES}
    for name, words in layout.update_words(total.update).items():
        value = signed_words(words).reshape(layout.update[name].shape)
        found[name] = value.astype(np.float64)
    return found


def by_split(sums: Sums) -> dict[str, Sums]:
    """Metric sums by split; a split that no hospital has rows of is absent."""
    parts: dict[str, Sums] = {}
    for name, value in sums.items():
        split, _, key = name.partition("/")
        parts.setdefault(split, {})[key] = value
    return parts


def resolution(layout: VectorLayout, total: Total, hospitals: float) -> float:
    """The summed update's root mean square over the largest standard deviation that stochastic
    rounding can give it: half a level for each of ``hospitals`` (those that added something),
    independently."""
    square, size = 0.0, 0
    for key, words in layout.update_words(total.update).items():
        if key in layout.weighted:
            signed = signed_words(words)
            for start in range(0, len(signed), _PIECE):
                piece = signed[start : start + _PIECE].astype(np.float64)
                square += float(piece @ piece)
                let_go(signed[start : start + _PIECE])
            size += len(signed)
    return math.sqrt(square / max(1, size)) / (0.5 * math.sqrt(hospitals))


def means(
    layout: VectorLayout, total: Total, count: float, expected: Expected
) -> dict[str, Arrays]:
    """The weighted mean model, and plain means of the strategy's further records.

    count : n, of the hospitals that added something
    """
    exact = layout.exact_arrays(total.exact)
    scale = Scale(total.step, total.largest_weight, count, float(exact[WEIGHT][0]))
    layouts = {m.ARRAYS: expected.layout, **expected.all_records}
    return means_of(
        layout, total.update, exact, scale, layouts, expected.received, expected.writing
    )
