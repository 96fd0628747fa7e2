"""What a server can solve for: exact linear algebra over the sums that it has opened.

An unknown is one hospital's numbers for one question (``Unknown``); an opened sum is one equation
with coefficients that the server knows. Whatever it can work out of numbers alone is a combination
of these equations, and a combination tells of the hospitals whose coefficients don't vanish in it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Unknown = tuple[Hashable, str]
"""(question, hospital)."""
Row = list[Fraction]


@dataclass(frozen=True)
class Equation:
    """An opened sum.

    question : what was asked; sums of one question are over the same numbers
    coefficients : by hospital
    value : the sum itself, as the server has it
    shown : digest of the arrays that came with the request
    """

    question: Hashable
    coefficients: Mapping[str, Fraction]
    value: NDArray[np.float64]
    shown: bytes = b""


def solutions(
    equations: Sequence[Equation], fewest: int
) -> list[tuple[Hashable, frozenset[str], NDArray[np.float64]]]:
    """The smallest sets of fewer than ``fewest`` hospitals of which a combination of the equations
    tells, and of nobody else: question, hospitals, and the value of that combination (scaled so
    that the first of them counts 1)."""
    found: list[tuple[Hashable, frozenset[str], NDArray[np.float64]]] = []
    for question in dict.fromkeys(one.question for one in equations):
        here = [one for one in equations if one.question == question]
        names = sorted({name for one in here for name in one.coefficients})
        rows = [[one.coefficients.get(name, Fraction(0)) for name in names] for one in here]
        for size in range(1, min(fewest, len(names) + 1)):
            for some in combinations(range(len(names)), size):
                told = frozenset(names[i] for i in some)
                if any(less <= told for asked, less, _ in found if asked == question):
                    continue
                mix = vanishing(rows, [i for i in range(len(names)) if i not in some])
                if mix is None:
                    continue
                scale = sum(
                    (m * row[some[0]] for m, row in zip(mix, rows, strict=True)), Fraction()
                )
                value = sum(
                    (float(m) * one.value for m, one in zip(mix, here, strict=True)),
                    np.zeros_like(here[0].value),
                )
                found.append((question, told, value / float(scale or 1)))
    return found


def vanishing(rows: Sequence[Row], columns: Sequence[int]) -> Row | None:
    """Factors of the rows whose combination is 0 in these columns, and isn't 0 everywhere; None
    where there are none."""
    width = len(rows[0]) if rows else 0
    rest = [column for column in range(width) if column not in columns]
    # eliminate in ``columns`` first: a row that has nothing left there, but something elsewhere
    left = [
        (list(row), [Fraction(int(i == j)) for j in range(len(rows))]) for i, row in enumerate(rows)
    ]
    for column in columns:
        pivot = next((one for one in left if one[0][column]), None)
        if pivot is None:
            continue
        left.remove(pivot)
        for row, mix in left:
            factor = row[column] / pivot[0][column]
            row[:] = [x - factor * y for x, y in zip(row, pivot[0], strict=True)]
            mix[:] = [x - factor * y for x, y in zip(mix, pivot[1], strict=True)]
    return next((mix for row, mix in left if any(row[column] for column in rest)), None)
