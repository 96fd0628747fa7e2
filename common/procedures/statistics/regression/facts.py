"""What hospitals agree on about a formula's factors before there is a design matrix.

First a sum of how many persons have each level of its categories, with means and deviations of
what is centred or a curve; where knots are quantiles, then histograms. Levels of fewer persons than
the smallest cell are one together where that is enough, else their rows don't count: a coefficient
of few persons tells of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Earlier
from wardround.common.procedures.statistics.frame import Frame, Mask
from wardround.common.procedures.statistics.regression.factors import (
    Category,
    Number,
    Spline,
)
from wardround.common.procedures.statistics.regression.formula import Formula
from wardround.common.procedures.statistics.regression.splines import BINS, histogram, knots_of
from wardround.common.tasks.data.mapping.evaluate import evaluate
from wardround.common.tasks.data.mapping.expression import Column
from wardround.common.tasks.features import one

Floats = NDArray[np.float64]
OTHERS = "(others)"
"""The level that levels of few persons are together."""


class NoAnswer(Exception):
    """Why an analysis of these rows has no answer, in a sentence that may be published."""


@dataclass(frozen=True)
class Levels:
    """Of a category.

    names : those with columns, the reference first
    places : of each text of ``Agreed.levels``, in ``names``; -1: its rows don't count
    """

    names: tuple[str, ...]
    places: tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """All that is agreed.

    moments : by factor's text: mean and deviation (n - 1) of its number
    knots : by curve's text, as ``splines`` takes them
    levels : by column
    notes : sentences for the result
    """

    moments: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    knots: Mapping[str, Sequence[float]] = field(default_factory=dict)
    levels: Mapping[str, Levels] = field(default_factory=dict)
    notes: Sequence[str] = ()


def steps_of(formula: Formula) -> int:
    """How many steps it takes to agree: one or two."""
    return 2 if _open(formula) else 1


def shapes(formula: Formula, agreed: Agreed, earlier: Earlier) -> Shapes:
    """Of the next step; ``earlier`` has fewer than ``steps_of``."""
    if earlier:
        return {f"knots/{place}": (BINS,) for place, _ in _open(formula)}
    found: Shapes = {"rows": (1,), "people": (1,)}
    for place, each in enumerate(formula.categories):
        found[f"levels/{place}"] = (len(_texts(agreed, each)),)
    return found | {f"moments/{place}": (2,) for place, _ in _measured(formula)}


def counts(formula: Formula, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
    """Names of those that count rows or persons."""
    return [name for name in shapes(formula, agreed, earlier) if not name.startswith("moments/")]


def sums(
    formula: Formula, frame: Frame, keep: Mask, least: int, agreed: Agreed, earlier: Earlier
) -> Sums:
    """At a hospital.

    keep : N, rows that count as far as what isn't in the formula goes (outcome, weights)
    """
    keep = keep & complete(formula, frame, agreed)
    if earlier:
        facts = _first(formula, earlier[0], least, agreed)
        return {
            f"knots/{place}": histogram(number(frame, each)[keep], *facts.moments[each.text])
            for place, each in _open(formula)
        }
    found: Sums = {"rows": one(int(keep.sum())), "people": one(frame.people(keep))}
    for place, each in enumerate(formula.categories):
        texts = _texts(agreed, each)
        codes = np.where(keep, frame.levels(each.column, texts), -1)
        found[f"levels/{place}"] = frame.counted_people(codes, len(texts))
    for place, factor in _measured(formula):
        values = number(frame, factor)[keep]
        found[f"moments/{place}"] = np.array([values.sum(), (values**2).sum()])
    return found


def settle(formula: Formula, least: int, agreed: Agreed, earlier: Earlier) -> Facts:
    """What follows from the totals of all steps. Raises NoAnswer.

    least : smallest cell
    """
    first = _first(formula, earlier[0], least, agreed)
    knots, notes = dict[str, Sequence[float]](), list(first.notes)
    open_ = dict(_open(formula))
    for place, factor in enumerate(formula.factors):
        if not isinstance(factor, Spline):
            continue
        mean, deviation = first.moments.get(factor.text, (0.0, 1.0))
        counted = earlier[1][f"knots/{place}"] if place in open_ else None
        found = knots_of(factor, mean, deviation, counted)
        if len(found) < (2 if factor.kind == "bs" else 3) or found != sorted(set(found)):
            raise NoAnswer(f"{factor.text}: too few different values for its knots.")
        knots[factor.text] = found
        if factor.agreed:
            notes.append(f"{factor.text}: knots at {', '.join(f'{knot:g}' for knot in found)}.")
    return Facts(first.moments, knots, first.levels, notes)


def settle_first(formula: Formula, least: int, agreed: Agreed, earlier: Earlier) -> None:
    """Raises NoAnswer where the first step's totals leave nothing to ask in the second."""
    if earlier:
        _first(formula, earlier[0], least, agreed)


def complete(formula: Formula, frame: Frame, agreed: Agreed) -> Mask:
    """N: where each factor has a value (an infinite one, such as log(0), is none)."""
    found: Mask = np.ones(len(frame), dtype=np.bool_)
    for factor in (*formula.factors, *formula.offsets):
        if isinstance(factor, Category):
            found &= frame.levels(factor.column, _texts(agreed, factor)) >= 0
        else:
            found &= np.isfinite(number(frame, factor))
    return found


def number(frame: Frame, factor: Number | Spline) -> Floats:
    """N values of a factor's expression; NaN where it has none. Raises DataError by place."""
    tree = factor.expression.tree
    if isinstance(tree, Column):
        return frame.values(tree.name)
    columns = {
        name: pa.array(frame.values(name), from_pandas=True) for name in factor.expression.columns
    }
    cells = evaluate(factor.expression, columns, len(frame)).cells.cast(pa.float64())
    found: Floats = cells.to_numpy(zero_copy_only=False)
    return found.astype(np.float64)


# --- the parts -----------------------------------------------------------------------------------
def _measured(formula: Formula) -> list[tuple[int, Number | Spline]]:
    """Factors whose mean and deviation are agreed, with their places."""
    return [
        (place, factor)
        for place, factor in enumerate(formula.factors)
        if (isinstance(factor, Number) and factor.moved)
        or (isinstance(factor, Spline) and factor.agreed)
    ]


def _open(formula: Formula) -> list[tuple[int, Spline]]:
    """Curves whose knots are quantiles."""
    found = enumerate(formula.factors)
    return [(place, one) for place, one in found if isinstance(one, Spline) and not one.knots]


def _texts(agreed: Agreed, category: Category) -> tuple[str, ...]:
    return tuple(agreed.levels.get(category.column, ()))


def _first(formula: Formula, totals: Sums, least: int, agreed: Agreed) -> Facts:
    rows, people = float(totals["rows"][0]), float(totals["people"][0])
    if people < least:
        raise NoAnswer(f"Fewer than {least} persons have a value in all of its columns.")
    if rows < 1:
        raise TaskError("persons of no rows")
    moments, levels, notes = dict[str, tuple[float, float]](), dict[str, Levels](), list[str]()
    for place, factor in _measured(formula):
        total, squares = (float(one) for one in totals[f"moments/{place}"])
        mean = total / rows
        variance = (squares - rows * mean**2) / max(1.0, rows - 1)
        if not np.isfinite(variance):
            raise TaskError(f"sums of '{factor.text}' that no rows have")
        if variance <= 1e-14 * max(mean**2, 1e-300):
            raise NoAnswer(f"{factor.text}: the column is constant over all hospitals.")
        moments[factor.text] = (mean, float(np.sqrt(variance)))
    for place, each in enumerate(formula.categories):
        found, note = _levels(each, _texts(agreed, each), totals[f"levels/{place}"], least)
        levels[each.column] = found
        notes += note
    return Facts(moments, {}, levels, notes)


def _levels(
    category: Category, texts: Sequence[str], people: Floats, least: int
) -> tuple[Levels, list[str]]:
    few = [text for text, n in zip(texts, people, strict=True) if 0 < n < least]
    kept = [text for text, n in zip(texts, people, strict=True) if n >= least]
    together = len(few) > 1 and sum(people[texts.index(text)] for text in few) >= least
    notes = list[str]()
    if few:
        named = ", ".join(f"'{text}'" for text in few)
        how = f"they are one level, {OTHERS}" if together else "their rows don't count"
        notes.append(f"{category.text}: fewer than {least} persons have {named}; {how}.")
    names = [*kept, OTHERS] if together else kept
    if not names:
        raise NoAnswer(f"{category.text}: no level has {least} persons.")
    if category.reference:
        if category.reference not in names:
            there = ", ".join(names)
            raise NoAnswer(
                f"{category.text}: no level '{category.reference}' of {least} persons or more; "
                f"there are: {there}."
            )
        names.sort(key=lambda name: name != category.reference)
    place = {name: at for at, name in enumerate(names)}
    other = place[OTHERS] if together else -1
    places = [place.get(text, other if text in few else -1) for text in texts]
    return Levels(tuple(names), tuple(places)), notes
