"""Whether a formula's numbers are categories in disguise, and which of their cells are few.

An indicator may be written 1 and 2, or ``I(3 * rare + 1)``: coefficients and errors in full are
equations for its counts all the same. So numbers are looked at by their values: where those lie in
a handful of bins, each is a level. Where all factors have levels, the model is its table, and every
combination is looked at, up to ``MOST_PATTERNS``: of more there are fewer figures than counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.procedures.hiding.numbers import HANDFUL
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame, Ints
from wardround.common.procedures.statistics.regression.design import Design
from wardround.common.procedures.statistics.regression.factors import Category, Number, Spline
from wardround.common.procedures.statistics.regression.facts import number
from wardround.common.procedures.statistics.regression.rows import few_cells

Floats = NDArray[np.float64]
MOST_PATTERNS = 64
_BINS, _REACH = 41, 4.0
"""Bins, and how far they reach from the mean, in deviations; the last ones are open."""
Levels = Mapping[int, Ints]
"""Of factors by their place: of each bin its level, -1 where nobody is."""


def numbers_of(design: Design) -> list[tuple[int, Number | Spline]]:
    """Factors that are read as numbers, with their places."""
    found = enumerate(design.formula.factors)
    return [(place, one) for place, one in found if not isinstance(one, Category)]


def value_shapes(design: Design, classes: int) -> Shapes:
    """Of the step that looks at values; empty where the formula has no numbers."""
    return {f"values/{place}": (_BINS * classes,) for place, _ in numbers_of(design)}


def value_sums(design: Design, frame: Frame, kind: Ints, total: Sums, classes: int) -> Sums:
    """At a hospital. ``kind``: N, the outcome's class; -1 of rows that don't count. ``total``: of
    ``rows``."""
    found = Sums()
    for place, factor in numbers_of(design):
        codes = _bins(frame, factor, place, total) * classes + kind
        codes = np.where(kind >= 0, codes, -1)
        found[f"values/{place}"] = frame.counted_people(codes, _BINS * classes)
    return found


def levels_of(design: Design, values: Sums, classes: int) -> Levels:
    """Of the numbers that have a handful of values."""
    found = dict[int, Ints]()
    for place, _ in numbers_of(design):
        held = values[f"values/{place}"].reshape(_BINS, classes).sum(1) > 0
        if held.sum() <= HANDFUL:
            found[place] = np.where(held, np.cumsum(held) - 1, -1)
    return found


def few_values(
    design: Design, values: Sums, levels: Levels, least: int, binary: bool, classes: int
) -> list[str]:
    """What of them is of few persons."""
    found = list[str]()
    for place, level in levels.items():
        people = values[f"values/{place}"].reshape(_BINS, classes)[level >= 0].ravel()
        text = design.formula.factors[place].text
        names = [f"value {at} of {text}" for at in range(1, int(level.max()) + 2)]
        found += few_cells(names, people, least, binary, classes)
    return found


def patterns(design: Design, levels: Levels) -> list[str]:
    """Names of all combinations where each factor has levels and they are few enough; else none."""
    each = list[Sequence[str]]()
    for place, factor in enumerate(design.formula.factors):
        if isinstance(factor, Category):
            each.append([f"{factor.text}[{x}]" for x in design.facts.levels[factor.column].names])
        elif place in levels:
            count = int(levels[place].max()) + 1
            each.append([f"value {at} of {factor.text}" for at in range(1, count + 1)])
        else:
            return []
    size = int(np.prod([len(one) for one in each])) if each else 0
    if len(each) < 2 or size > MOST_PATTERNS:
        return []
    return [" and ".join(one) for one in itertools.product(*each)]


def pattern_sums(
    design: Design,
    frame: Frame,
    agreed: Agreed,
    kind: Ints,
    total: Sums,
    levels: Levels,
    classes: int,
) -> Sums:
    """At a hospital, of ``patterns``. Arguments as of ``value_sums``."""
    found, size = np.zeros(len(frame), dtype=np.int64), 1
    lost = kind < 0
    for place, factor in enumerate(design.formula.factors):
        if isinstance(factor, Category):
            codes, count = (
                design.codes(factor, frame, agreed),
                len(design.facts.levels[factor.column].names),
            )
        else:
            codes = levels[place][_bins(frame, factor, place, total)]
            count = int(levels[place].max()) + 1
        lost, found, size = lost | (codes < 0), found * count + codes, size * count
    codes = np.where(lost, -1, found * classes + kind)
    return {"patterns": frame.counted_people(codes, size * classes)}


def _bins(frame: Frame, factor: Number | Spline, place: int, total: Sums) -> Ints:
    rows, (first, squares) = max(1.0, float(total["rows"][0])), total["numbers"][place]
    mean = first / rows
    deviation = np.sqrt(max(squares / rows - mean**2, 1e-300))
    values = np.nan_to_num((number(frame, factor) - mean) / deviation, posinf=0.0, neginf=0.0)
    where = np.floor((values + _REACH) / (2 * _REACH) * _BINS)
    found: Ints = np.clip(where, 0, _BINS - 1).astype(np.int64)
    return found
