"""Whether a formula's numbers are categories in disguise, and which of their cells are few.

An indicator may be written 1 and 2, or ``I(3 * rare + 1)``: coefficients and errors in full are
equations for its counts all the same. So numbers are looked at by their values: where those lie in
a handful of bins, each is a level. Where all factors have levels, the model is its table, and every
combination is looked at, up to ``MOST_PATTERNS``: of more there are fewer figures than counts.
An outcome with a handful of values is looked at by itself, and in each level: a mean of 0 and 1 is
a count.
"""

from __future__ import annotations

import itertools
import math
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
BINS, _REACH = 41, 4.0
"""Bins, and how far they reach from the mean, in deviations; the last ones are open."""
Levels = Mapping[int, Ints]
"""Of factors by their place: of each bin its level, -1 where nobody is."""


def numbers_of(design: Design) -> list[tuple[int, Number | Spline]]:
    """Factors that are read as numbers, with their places."""
    found = enumerate(design.formula.factors)
    return [(place, one) for place, one in found if not isinstance(one, Category)]


def value_shapes(design: Design, classes: int) -> Shapes:
    """Of the step that looks at values; empty where the formula has no numbers."""
    return {f"values/{place}": (BINS * classes,) for place, _ in numbers_of(design)}


def value_sums(design: Design, frame: Frame, kind: Ints, total: Sums, classes: int) -> Sums:
    """At a hospital. ``kind``: N, the outcome's class; -1 of rows that don't count. ``total``: of
    ``rows``."""
    found = Sums()
    for place, factor in numbers_of(design):
        codes = _factor_bins(frame, factor, place, total) * classes + kind
        codes = np.where(kind >= 0, codes, -1)
        found[f"values/{place}"] = frame.counted_people(codes, BINS * classes)
    return found


def levels_of(design: Design, values: Sums, classes: int) -> Levels:
    """Of the numbers that have a handful of values."""
    found = dict[int, Ints]()
    for place, _ in numbers_of(design):
        level = handful(values[f"values/{place}"].reshape(BINS, classes).sum(1))
        if level is not None:
            found[place] = level
    return found


def handful(people: Floats) -> Ints | None:
    """Of each bin its level, -1 where nobody is; None of more than a handful that hold anybody."""
    held = people > 0
    return np.where(held, np.cumsum(held) - 1, -1) if held.sum() <= HANDFUL else None


def few_values(
    design: Design, values: Sums, levels: Levels, least: int, binary: bool, classes: int
) -> list[str]:
    """What of them is of few persons."""
    found = list[str]()
    for place, level in levels.items():
        people = values[f"values/{place}"].reshape(BINS, classes)[level >= 0].ravel()
        text = design.formula.factors[place].text
        names = [f"value {at} of {text}" for at in range(1, int(level.max()) + 2)]
        found += few_cells(names, people, least, binary, classes)
    return found


def tables(design: Design, levels: Levels) -> list[tuple[int, ...]]:
    """Places of factors that have levels: of each term that has some, of each factor, and of all
    together where each has."""
    known = [
        place
        for place, one in enumerate(design.formula.factors)
        if isinstance(one, Category) or place in levels
    ]
    places = {one: place for place, one in enumerate(design.formula.factors)}
    found = [
        tuple(p for p in map(places.__getitem__, term.factors) if p in known)
        for term in design.formula.terms
    ]
    found += [(place,) for place in known]
    if len(known) == len(places):
        found.append(tuple(known))
    every = dict.fromkeys(one for one in found if one)
    return [one for one in every if _size(design, levels, one) <= MOST_PATTERNS]


def patterns(design: Design, levels: Levels) -> tuple[int, ...]:
    """Places of all factors where each has levels, and they are few enough; else none."""
    every = tuple(range(len(design.formula.factors)))
    known = all(
        isinstance(one, Category) or place in levels
        for place, one in enumerate(design.formula.factors)
    )
    if len(every) < 2 or not known or _size(design, levels, every) > MOST_PATTERNS:
        return ()
    return every


def names_of(design: Design, levels: Levels, places: Sequence[int]) -> list[str]:
    """Of all combinations of some factors' levels, the last one's fastest."""
    each = list[Sequence[str]]()
    for place in places:
        factor = design.formula.factors[place]
        if isinstance(factor, Category):
            each.append([f"{factor.text}[{x}]" for x in design.facts.levels[factor.column].names])
        else:
            each.append(
                [f"value {at} of {factor.text}" for at in range(1, int(levels[place].max()) + 2)]
            )
    return [" and ".join(one) for one in itertools.product(*each)]


def _size(design: Design, levels: Levels, places: Sequence[int]) -> int:
    factors = design.formula.factors
    return math.prod(
        len(design.facts.levels[one.column].names)
        if isinstance(one := factors[place], Category)
        else int(levels[place].max()) + 1
        for place in places
    )


def combined(
    design: Design, frame: Frame, agreed: Agreed, total: Sums, levels: Levels, places: Sequence[int]
) -> Ints:
    """At a hospital: N places in ``names_of``; -1 of rows in none of them."""
    found, lost = np.zeros(len(frame), dtype=np.int64), np.zeros(len(frame), dtype=np.bool_)
    for place in places:
        factor = design.formula.factors[place]
        if isinstance(factor, Category):
            codes = design.codes(factor, frame, agreed)
        else:
            codes = levels[place][_factor_bins(frame, factor, place, total)]
        lost, found = lost | (codes < 0), found * _size(design, levels, [place]) + codes
    return np.where(lost, -1, found)


def _factor_bins(frame: Frame, factor: Number | Spline, place: int, total: Sums) -> Ints:
    return bins(number(frame, factor), float(total["rows"][0]), total["numbers"][place])


def bins(values: Floats, rows: float, moments: Floats) -> Ints:
    """N bins. ``moments``: the values' sum and that of their squares, over so many rows."""
    rows, (first, squares) = max(1.0, rows), moments
    mean = first / rows
    deviation = np.sqrt(max(squares / rows - mean**2, 1e-300))
    return scaled_bins(np.nan_to_num((values - mean) / deviation, posinf=0.0, neginf=0.0))


def scaled_bins(scaled: Floats) -> Ints:
    """Of values that were put to scale, of any shape."""
    found: Ints = np.clip(np.floor((scaled + _REACH) / (2 * _REACH) * BINS), 0, BINS - 1).astype(
        np.int64
    )
    return found
