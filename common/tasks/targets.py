"""The target of a table: what the model learns, read from cells and, for a number, put to scale.

A regression target is standardised by the federation's mean and deviation, from the same two sums
as an input (``features.py``), whatever its unit: a step of the learning rate then means the same
for costs in cents and for heights in metres. An example's target carries the deviation beside the
standardised value, so that figures come in the column's own unit wherever a model is evaluated.

Shapes: N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import DataError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import classes
from wardround.common.tasks.classes import UNLABELLED
from wardround.common.tasks.columns import category_codes, target_columns
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import mean_of, one, std_of
from wardround.common.tasks.options import TabularOptions

_DECLARED = "positive/"
"""Keys of how many hospitals have each text of ``task.positive``, by its place in that list."""
_KEY = "target"


def read_targets(raw: Table, totals: Sums, options: TabularOptions) -> Tensor:
    """float32 N (binary), int64 N (multiclass; ``UNLABELLED`` where the class was not agreed on),
    float32 N x 2: time and event (survival), or the
    standardised value and the federation's deviation (regression).

    Raises DataError for a cell that is none, by its place.
    """
    if options.kind == "binary":
        return torch.from_numpy(_two_values(raw, options).astype(np.float32))
    if options.kind == "survival":
        time, event = raw.numbers(str(options.columns.time)), _two_values(raw, options)
        if (time < 0).any():
            place = raw.place(int(np.argmax(time < 0)), str(options.columns.time))
            raise DataError(f"{place}: a negative time")
        return torch.from_numpy(np.column_stack([time, event]).astype(np.float32))
    if options.kind == "regression":
        values = raw.numbers(str(options.columns.target))
        mean, std = scale(totals)
        pair = np.column_stack([(values - mean) / std, np.full(len(values), std)])
        return torch.from_numpy(pair.astype(np.float32))
    return torch.from_numpy(_classes(raw, totals, options))


def no_targets(rows: int, options: TabularOptions) -> Tensor:
    """What stands where the targets of rows to predict would: ``UNLABELLED``, or NaN; types and
    shapes as of ``read_targets``."""
    if options.kind == "multiclass":
        return torch.full((rows,), UNLABELLED, dtype=torch.int64)
    shape = (rows,) if options.kind == "binary" else (rows, 2)
    return torch.full(shape, torch.nan)


def shard_labels(raw: Table, options: TabularOptions) -> NDArray[np.int64]:
    """Class, event, or quarter of a regression target (0 to 3), N; 0 where nothing is predicted.

    Classes are numbered as in ``task.classes``, else in the order of this shard's texts.
    """
    if options.kind == "none":
        return np.zeros(len(raw), dtype=np.int64)
    if options.kind in ("binary", "survival"):
        return _two_values(raw, options).astype(np.int64)
    if options.kind == "multiclass":
        if options.classes is not None:
            return _classes(raw, {}, options)
        coded = category_codes(raw, str(options.columns.target), options)
        return coded.numbers_of({text: number for number, text in enumerate(sorted(coded.texts))})
    values = raw.numbers(str(options.columns.target))
    if len(values) == 0:
        return np.zeros(0, dtype=np.int64)
    edges = np.quantile(values, [0.25, 0.5, 0.75])
    return np.searchsorted(edges, values).astype(np.int64)


# --- what the hospitals agree on ------------------------------------------------------------------
def target_statistics(train: Table, options: TabularOptions, phase: int, totals: Sums) -> Sums:
    """This hospital's sums of a regression target; which declared positive texts it has at all."""
    if options.kind == "regression" and phase < 2:
        values = train.numbers(str(options.columns.target))
        if phase == 0:
            return {f"{_KEY}/count": one(len(values)), f"{_KEY}/sum": one(values.sum())}
        return {f"{_KEY}/squares": one(((values - mean_of(totals, _KEY)) ** 2).sum())}
    if phase == 0 and options.positive is not None:
        there = options.target_values.present(train, target_columns(options)[-1])
        return {f"{_DECLARED}{n}": one(found) for n, found in enumerate(there)}
    return {}


def target_totals(totals: Sums) -> Sums:
    """``target/mean`` and ``target/std`` instead of the sums; the rest as it is."""
    if f"{_KEY}/count" not in totals:
        return totals
    rest = {key: value for key, value in totals.items() if not key.startswith(f"{_KEY}/")}
    mean, std = mean_of(totals, _KEY), std_of(totals, _KEY)
    return rest | {f"{_KEY}/mean": one(mean), f"{_KEY}/std": one(std)}


def target_scale(mean: float, std: float) -> Sums:
    """Totals that have this mean and deviation of a regression target, and nothing else."""
    return {f"{_KEY}/mean": one(mean), f"{_KEY}/std": one(std)}


def scale(totals: Sums) -> tuple[float, float]:
    """Mean and deviation that a regression target is standardised by, (t - mean) / deviation; 0
    and 1 before they are agreed, a deviation of 1 for a constant."""
    if f"{_KEY}/mean" not in totals:
        return 0.0, 1.0
    return float(totals[f"{_KEY}/mean"][0]), float(totals[f"{_KEY}/std"][0]) or 1.0


class InUnit:
    """A forward hook: standardised outputs in the target's own unit."""

    def __init__(self, mean: float, std: float) -> None:
        self._mean, self._std = mean, std

    def __call__(self, model: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        return outputs * self._std + self._mean


def absent_texts(totals: Sums, options: TabularOptions) -> list[str]:
    """The texts of ``task.positive`` that no hospital's training rows have."""
    texts = options.positive or []
    counts = [totals.get(f"{_DECLARED}{n}", np.ones(1))[0] for n in range(len(texts))]
    return [text for text, count in zip(texts, counts, strict=True) if count == 0]


# --- parts ----------------------------------------------------------------------------------------
def _two_values(raw: Table, options: TabularOptions) -> NDArray[np.float64]:
    return options.target_values.read(raw, target_columns(options)[-1])


def _classes(raw: Table, totals: Sums, options: TabularOptions) -> NDArray[np.int64]:
    names = classes(totals, options)
    if not names:
        return np.zeros(len(raw), dtype=np.int64)  # loading: classes not agreed yet
    index = {name: position for position, name in enumerate(names)}
    target = str(options.columns.target)
    found = category_codes(raw, target, options).numbers_of(index)
    odd = np.flatnonzero(found < 0)
    if options.classes is None:
        found[odd] = UNLABELLED
    elif odd.size:
        what = "a class that is none of task.classes; mend the cell (letters' case counts), declare"
        raise raw.wrong(odd, target, f"{what} the class there, or name it in task.missing_values")
    return found
