"""The description in one step, of whole numbers that noise can be added to.

Each row is in one cell of each column: a bin of its declared range, below or above it, or a
category, another one, or missing. So one row changes all the sums together by one in the rows and
in one cell of each of d columns, at most sqrt(d + 1) (L2), and R rows of one patient by R times
that. Nothing is asked that depends on a row: ranges and categories are those of the settings.

Mean and deviation are those of the bins' middles: off by half a bin's width at most, besides noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.describe.columns import Column, Rows
from wardround.common.procedures.describe.figures import MISSING, OTHER
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.spread import QUANTILES, Range
from wardround.common.tasks.features import one

Floats = NDArray[np.float64]
Values = dict[str, Any]
BINS = 64
WITHIN = 1.96
"""Standard deviations that 95 % of a Gaussian stay within."""


def check(config: Config, columns: Sequence[Column]) -> None:
    """Raise ConfigError for settings with which a description can't be private."""
    if open_ := [column.name for column in columns if column.texts is None]:
        raise config.error(
            "procedure.name",
            f"with [privacy] the categories of '{open_[0]}' can't be agreed from counts",
            "declare them in task.columns.categories (or task.classes), or leave the column out",
        )


def ranges_of(ranges: Mapping[str, Sequence[float]]) -> dict[str, Range]:
    """The bins of each column of numbers that is described."""
    return {name: Range(low, (high - low) / BINS, BINS) for name, (low, high) in ranges.items()}


def shapes(columns: Sequence[Column], ranges: Mapping[str, Range]) -> Shapes:
    """Of the one step."""
    found: Shapes = {"rows": (1,)}
    for column in columns:
        places = BINS + 3 if column.number else len(column.texts or ()) + 2
        found[f"{column.key}/rows"] = (places,)
    return found


def sums(rows: Rows, columns: Sequence[Column], ranges: Mapping[str, Range]) -> Sums:
    """A hospital's counts, before noise."""
    found: Sums = {"rows": one(len(rows))}
    for column in columns:
        if column.number:
            places = ranges[column.name].places(rows.numbers(column))
            places[places < 0] = BINS + 2
            found |= rows.rows_counted(column.key, places, BINS + 3)
        else:
            texts = column.texts or ()
            codes = rows.codes(column, texts)
            found |= rows.rows_counted(column.key, codes, len(texts) + 2)
    return found


def sensitivity(columns: int, records: int) -> float:
    """The most that a unit with so many rows changes all of it (L2)."""
    return records * math.sqrt(columns + 1)


# --- what is shown --------------------------------------------------------------------------------
def shown(column: Column, ranges: Mapping[str, Range], counts: Floats, noise: float) -> Values:
    """A column of noised counts, each within ``interval`` of the true one with 95 %."""
    if not column.number:
        names = [*(column.texts or ()), OTHER, MISSING]
        keep = [not (name == OTHER and column.two) for name in names]
        return _head(column, "category") | {
            "cells": [
                _cell(name, count, noise)
                for name, count, kept in zip(names, counts, keep, strict=True)
                if kept
            ]
        }
    where = ranges[column.name]
    found = _head(column, "number") | {
        "cells": [
            _cell("below", counts[0], noise),
            _cell("within", float(counts[1:-2].sum()), noise * math.sqrt(BINS)),
            _cell("above", counts[-2], noise),
            _cell(MISSING, counts[-1], noise),
        ],
        "range": [where.low, where.high],
    }
    inside = np.maximum(counts[1:-2], 0.0)
    total = float(inside.sum())
    if total <= WITHIN * noise * math.sqrt(BINS):
        return found | {"few": True}  # noise alone makes as many
    middles = where.low + (np.arange(BINS) + 0.5) * where.width
    mean = float(inside @ middles / total)
    std = math.sqrt(float(inside @ (middles - mean) ** 2 / total))
    reached = np.cumsum(inside) / total
    off = WITHIN * noise * math.sqrt(BINS) / total
    return found | {
        "mean": _digits(mean),
        "std": _digits(std),
        "quantiles": [_quantile(p, where, reached, off) for p in QUANTILES],
    }


def _quantile(p: float, where: Range, reached: Floats, off: float) -> Values:
    """The middle of the bins that it may lie in, if shares are off by up to ``off``."""
    first, last = (
        min(int(np.searchsorted(reached, share)), BINS - 1) for share in (p - off, p + off)
    )
    value = where.low + (first + last + 1) / 2 * where.width
    return {"p": p, "value": _digits(value), "error": _digits((last + 1 - first) / 2 * where.width)}


def _head(column: Column, kind: str) -> Values:
    return {"name": column.name, "kind": kind} | ({"target": True} if column.target else {})


def _cell(name: str, count: float, noise: float) -> Values:
    return {
        "name": name,
        "state": "noised",
        "rows": int(round(count)),
        "interval": int(math.ceil(WITHIN * noise)),
    }


def _digits(value: float) -> float:
    return float(f"{value:.6g}")
