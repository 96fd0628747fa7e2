"""From the opened sum of updates to their mean: at the server, or if it is blind at hospitals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.bfloat16 import BFLOAT16, widened
from wardround.common.compression.writing import Writing
from wardround.common.flower.arrays import Arrays, Layout, Making
from wardround.common.flower.conforming import conform
from wardround.common.mapped import let_go, windows
from wardround.common.protocol import names as m
from wardround.common.secagg.encoding import VectorLayout, dequantise
from wardround.common.secagg.ring import Words


@dataclass(frozen=True)
class Scale:
    """What the numbers of an opened sum are multiples of.

    step : of an update's level, in the model's unit, at a share of 1
    largest : weight that a hospital counts for at most
    count, weight : of the hospitals that added something: how many, and their weights' sum
    """

    step: float
    largest: float
    count: float
    weight: float


def means_of(
    layout: VectorLayout,
    update: Words,
    exact: Arrays,
    scale: Scale,
    layouts: Mapping[str, Layout],
    received: Arrays,
    writing: Writing | None = None,
) -> dict[str, Arrays]:
    """The weighted mean model, and plain means of the strategy's further records, of an opened sum.

    layout : of the vectors that were added
    update, exact : their sums: words, and arrays of the exact section by name
    layouts : of the records that are made: the model, and the strategy's further ones
    received : the model whose changes were summed
    writing : how changes were written, with ``[compression]``

    With hospitals' weights w_i (at most ``scale.largest``, W) and changes d_i, the ring held
    the sum of round((w_i / W) d_i / step); so the mean change is that sum times step W / sum w_i.
    Records of a strategy were sent with share 1: step / n. Buffers were summed exactly, as w_i
    times the value.
    """
    weight, largest, count = scale.weight, scale.largest, scale.count
    made = {
        record: Making({n: spec for n, spec in part.items() if f"{record}/{n}" in layout.update})
        for record, part in layouts.items()
    }
    records: dict[str, Arrays] = {name: {} for name in layouts}
    for key, words in layout.update_words(update).items():
        record, _, name = key.partition("/")
        factor = scale.step * (largest / weight if key in layout.weighted else 1 / count)
        # what was summed is the change of the model
        start = received[name] if record == m.ARRAYS else None
        goal = made[record].begun(name)
        if writing is not None and start is not None:
            change = writing.read(name, dequantise(words, factor))
            goal[...] = conform(widened(start) + change.reshape(start.shape), goal.dtype.name)
        else:
            _fill(goal, words, factor, start)
        records[record][name] = made[record].finished(goal)
    for name, spec in layouts[m.ARRAYS].items():
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
