"""From an opened sum back to what the round loop works with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.bfloat16 import BFLOAT16, widened
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, Making
from wardround.common.mapped import let_go, windows
from wardround.common.protocol import names as m
from wardround.common.secagg.encoding import (
    OWN_NAMES,
    WEIGHT,
    VectorLayout,
    dequantise,
    signed_words,
)
from wardround.common.secagg.ring import Words
from wardround.server.gathering.gatherer import Expected
from wardround.server.secagg.sum import Total
from wardround.server.strategies.aggregation import conform

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

    With hospitals' weights w_i (at most ``total.largest_weight``, W) and changes d_i, the ring held
    the sum of round((w_i / W) d_i / step); so the mean change is that sum times step W / sum w_i.
    Records of a strategy were sent with share 1: step / n. Buffers were summed exactly, as w_i
    times the value.
    """
    layouts = {m.ARRAYS: expected.layout, **expected.all_records}
    exact = layout.exact_arrays(total.exact)
    weight, largest = float(exact[WEIGHT][0]), total.largest_weight
    made = {
        record: Making({n: spec for n, spec in part.items() if f"{record}/{n}" in layout.update})
        for record, part in layouts.items()
    }
    records: dict[str, Arrays] = {name: {} for name in layouts}
    for key, words in layout.update_words(total.update).items():
        record, _, name = key.partition("/")
        factor = total.step * (largest / weight if key in layout.weighted else 1 / count)
        # what was summed is the change of the model
        start = expected.received[name] if record == m.ARRAYS else None
        goal = made[record].begun(name)
        if expected.writing is not None and start is not None:
            change = expected.writing.read(name, dequantise(words, factor))
            goal[...] = conform(widened(start) + change.reshape(start.shape), goal.dtype.name)
        else:
            _fill(goal, words, factor, start)
        records[record][name] = made[record].finished(goal)
    for name, spec in expected.layout.items():
        if (key := f"{m.ARRAYS}/{name}") in exact:
            records[m.ARRAYS][name] = conform(exact[key] / weight, spec.dtype)
    return {
        record: {name: arrays[name] for name in layouts[record]}
        for record, arrays in records.items()
    }


def _fill(goal: NDArray[Any], words: Words, factor: float, start: NDArray[Any] | None) -> None:
    """``goal`` <- start + the signed words times ``factor``, in pieces."""
    flat = goal.reshape(-1)
    before = None if start is None else start.reshape(-1)
    for window in windows(len(words), words.itemsize):
        mean: NDArray[Any] = dequantise(words[window], factor)
        if before is not None:
            part = before[window]
            wide = part.astype(np.float64) if part.dtype == BFLOAT16 else part
            mean = wide + mean  # of bfloat16 in float64: it is rounded once
            let_go(before[window])
        flat[window] = conform(mean, goal.dtype.name)
        let_go(words[window], flat[window])
