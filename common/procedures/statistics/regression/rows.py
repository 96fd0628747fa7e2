"""What a regression's hospitals send before the search: how far columns lie, and how few are where.

Columns are taken from their mean over all hospitals' rows, in units of their deviation: with a year
beside an indicator the information would have no digits left. That is undone in the result, so it
changes nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame, Mask
from wardround.common.procedures.statistics.regression.design import INTERCEPT, Design
from wardround.common.procedures.statistics.regression.factors import Category, Number
from wardround.common.procedures.statistics.regression.facts import NoAnswer, number
from wardround.common.tasks.features import one

Floats = NDArray[np.float64]
_CONSTANT = 1e-14
_EXACT = ("moments", "outcome", "numbers", "answer")
PERSONS_A_COLUMN = 3
"""DataSHIELD's nfilter.glm: a model of more columns than a third of the persons describes them."""


@dataclass(frozen=True)
class Rows:
    """A hospital's rows that count: M of its N.

    x : M x P, as they are
    whose : M, whose each is; None where no patients are named
    keep : N, which they are
    """

    y: Floats
    x: Floats
    weight: Floats
    offset: Floats
    whose: NDArray[np.int64] | None
    keep: Mask

    @property
    def people(self) -> int:
        """How many persons they are of."""
        return len(self.y) if self.whose is None else len(np.unique(self.whose))

    def kind(self, classes: int) -> NDArray[np.int64]:
        """N: of two classes, whether the outcome isn't 0; -1 of rows that don't count."""
        found = np.full(len(self.keep), -1, dtype=np.int64)
        found[self.keep] = (self.y != 0) if classes == 2 else 0
        return found

    def none(self) -> Rows:
        """None of them."""
        whose = None if self.whose is None else self.whose[:0]
        x, empty = self.x[:0], self.y[:0]
        return Rows(empty, x, empty, empty, whose, np.zeros_like(self.keep))

    def standard(self, scale: Scale) -> Floats:
        """M x P, the columns in their units."""
        return (self.x - scale.shift) / scale.unit


@dataclass(frozen=True)
class Scale:
    """Where columns lie.

    shift, unit : P; the intercept's are 0 and 1
    """

    shift: Floats
    unit: Floats

    def back(self, names: Sequence[str]) -> Floats:
        """P x P: what coefficients of standard columns are multiplied by from the left."""
        found = np.diag(1 / self.unit)
        if names[0] == INTERCEPT:
            found[0, 1:] = -self.shift[1:] / self.unit[1:]
        return found


def outcome(frame: Frame, asked: Number, two: bool) -> Floats:
    """N; NaN where it isn't known. ``two``: a lone column is read as 0 and 1."""
    names = asked.expression.columns
    if two and asked.text == names[0]:
        return frame.truths(names[0])
    return number(frame, asked)


def taken(
    design: Design, frame: Frame, agreed: Agreed, y: Floats, weight: Floats, keep: Mask
) -> Rows:
    """The rows that count. ``y``, ``weight``: N. ``keep``: N, where these have a value."""
    x = design.matrix(frame, agreed)
    keep = keep & ~np.isnan(x).any(axis=1)
    whose = None if frame.whose is None else frame.whose[keep]
    return Rows(y[keep], x[keep], weight[keep], design.offset(frame)[keep], whose, keep)


# --- the sums ------------------------------------------------------------------------------------
def shapes(design: Design, classes: int) -> Shapes:
    """Of the sums before the search. ``classes``: of the outcome, in cells."""
    found: Shapes = {"rows": (1,), "people": (classes,), "wrong": (1,), "hospitals": (1,)}
    found |= {"moments": (2, len(design.names)), "outcome": (4,)}
    found |= {"numbers": (len(design.formula.factors), 2), "answer": (2,)}
    for place, (names, _) in enumerate(design.cells()):
        found[f"cells/{place}"] = (len(names) * classes,)
    for place, _ in _plain(design):
        found |= {f"two/{place}": (2 * classes,), f"other/{place}": (1,)}
    return found


def counts(design: Design, classes: int) -> Iterable[str]:
    """Names of those that count rows or persons."""
    return [name for name in shapes(design, classes) if name not in _EXACT]


def sums(
    design: Design, frame: Frame, agreed: Agreed, rows: Rows, wrong: int, classes: int
) -> Sums:
    """At a hospital.

    wrong : how many outcomes can't be
    classes : 2 where outcomes of 0 are a class, and all others
    """
    keep, kind = rows.keep, np.maximum(rows.kind(classes), 0)
    people = frame.counted_people(np.where(keep, kind, -1), classes)
    found: Sums = {"rows": one(len(rows.y)), "people": people, "wrong": one(wrong)}
    found["hospitals"] = one(int(len(rows.y) > 0))
    found["moments"] = np.stack([rows.x.sum(0), (rows.x**2).sum(0)])
    found["numbers"] = np.zeros((len(design.formula.factors), 2))
    for place, each in enumerate(design.formula.factors):
        if not isinstance(each, Category):
            values = number(frame, each)[keep]
            found["numbers"][place] = values.sum(), (values**2).sum()
    w, y = rows.weight, rows.y
    found["answer"] = np.array([y.sum(), (y**2).sum()])
    logs = np.log(w, where=w > 0, out=np.zeros_like(w))
    found["outcome"] = np.array([w.sum(), (w * y).sum(), rows.offset.sum(), logs.sum()])
    for place, (names, categories) in enumerate(design.cells()):
        codes = design.places(categories, frame, agreed) * classes + kind
        codes = np.where(keep, codes, -1)
        found[f"cells/{place}"] = frame.counted_people(codes, len(names) * classes)
    for place, factor in _plain(design):
        values = number(frame, factor)
        two = keep & ((values == 0) | (values == 1))
        codes = np.where(two, np.where(two, values, 0).astype(np.int64) * classes + kind, -1)
        found[f"two/{place}"] = frame.counted_people(codes, 2 * classes)
        found[f"other/{place}"] = one(int((keep & ~two).sum()))
    return found


def scale_of(design: Design, total: Sums) -> Scale:
    """From the totals."""
    rows = max(1.0, float(total["rows"][0]))
    mean, squares = total["moments"][0] / rows, total["moments"][1] / rows
    if not (np.isfinite(mean).all() and np.isfinite(squares).all()):
        raise TaskError("sums of a design matrix that no rows have")
    if design.names[0] != INTERCEPT:
        return Scale(np.zeros_like(mean), np.where(squares > 0, np.sqrt(squares), 1.0))
    variance = squares - mean**2
    flat = variance <= _CONSTANT * np.maximum(squares, 1e-300)
    shift, unit = mean.copy(), np.sqrt(np.where(flat, 1.0, variance))
    shift[0], unit[0] = 0.0, 1.0
    return Scale(shift, unit)


def check(design: Design, total: Sums, least: int, binary: bool, classes: int) -> None:
    """Whether these rows may have an answer. Raises NoAnswer with what is of few persons.

    binary : whether few persons with an outcome of 0 are a few too
    """
    if float(total["wrong"][0]) > 0:
        raise NoAnswer("An outcome can't be: its family takes others (docs/statistics.md).")
    people = total["people"]
    everyone, columns = float(people.sum()), len(design.names)
    if everyone < max(least, PERSONS_A_COLUMN * columns):
        raise NoAnswer(
            f"Too few persons for {columns} columns: at least {PERSONS_A_COLUMN} are needed for "
            "each, or the coefficients would describe persons."
        )
    few = few_cells(["the outcome"], people, least, binary, classes)
    for place, (names, _) in enumerate(design.cells()):
        few += few_cells(names, total[f"cells/{place}"], least, binary, classes)
    for place, factor in _plain(design):
        if float(total[f"other/{place}"][0]) == 0:
            names = [f"{factor.text} = {value}" for value in (0, 1)]
            few += few_cells(names, total[f"two/{place}"], least, binary, classes)
    refuse(few, least, classes)


def refuse(few: Sequence[str], least: int, classes: int) -> None:
    """Raises NoAnswer where there are such cells."""
    if few:
        raise NoAnswer(
            f"Fewer than {least} persons"
            + (" of one outcome" if classes == 2 else "")
            + f" are in {', '.join(few)}: coefficients would tell of them. Join levels or leave "
            "the column out."
        )


def few_cells(
    names: Sequence[str], people: Floats, least: int, binary: bool, classes: int
) -> list[str]:
    """Names of cells of few persons.

    people : of each name by class
    binary : whether few persons of the outcome's first class are few too
    """
    cells = people.reshape(len(names), classes)
    small = (cells > 0) & (cells < least)
    if not binary:
        everyone = cells.sum(1)
        small[:, 0] = (everyone > 0) & (everyone < least)
    return [names[int(place)] for place in np.flatnonzero(small.sum(1))]


def _plain(design: Design) -> list[tuple[int, Number]]:
    """Factors that may be indicators without being called categories."""
    found = enumerate(design.formula.factors)
    return [(place, each) for place, each in found if isinstance(each, Number) and not each.moved]
