"""From totals to what is shown of each column: plain values, ready for JSON.

Counts are as ``hiding`` shows them. A mean and a deviation are rounded to what the smallest cell's
persons would typically move them by (``grain``), so that neither a count nor a value can be worked
back from them; a quantile comes with its error (``spread``). Under privacy a count is what came,
with the interval that 95 % of its noise stays within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.durable.versioned import Format
from wardround.common.figures.sums import Sums
from wardround.common.procedures.describe.columns import Column
from wardround.common.procedures.hiding import (
    Cell,
    ShownCell,
    dominated,
    few_values,
    grain,
    mover,
    rounded,
    shown_cells,
    to_grain,
)
from wardround.common.procedures.spread import Range, quantiles

Floats = NDArray[np.float64]
Values = dict[str, Any]
FILE = "description.json"
FORMAT = Format("description of data", "ask for it again: wardround analyse")
OTHER, MISSING, PRESENT = "other", "missing", "present"
_DIGITS = 6


@dataclass
class Description:
    """What is shown of all hospitals together.

    rows, persons : rounded; None where they are too few, or nobody was counted
    columns : in the order of the settings
    """

    rows: int | None
    persons: int | None
    columns: list[Values] = field(default_factory=list)


def all_persons(totals: Sums) -> float | None:
    """How many there are, by step 0; None where they aren't named."""
    return float(totals["persons"][0]) if "persons" in totals else None


def head(totals: Sums, least: int) -> Description:
    """Rows and persons of all."""
    rows, persons = float(totals["rows"][0]), totals.get("persons")
    who = rows if persons is None else float(persons[0])
    enough = who >= least
    return Description(
        rounded(rows, least) if enough else None,
        rounded(who, least) if enough and persons is not None else None,
    )


def column_of_categories(
    column: Column,
    texts: Sequence[str],
    rows: Floats,
    persons: Floats | None,
    everybody: float | None,
    least: int,
) -> Values:
    """A column's categories, then all others together and what is missing.

    An undeclared category of few persons is one of the others: its name stood in few rows.

    Parameters
    ----------
    rows, persons : of each cell; the second None where no patients are named
    everybody : how many persons there are; likewise
    """
    who = rows if persons is None else persons
    few = [column.texts is None and who[place] < least for place in range(len(texts))]
    cells = [
        Cell(text, float(rows[place]), float(who[place]))
        for place, text in enumerate(texts)
        if not few[place]
    ]
    others = [*(place for place in range(len(texts)) if few[place]), len(texts)]
    # a person of several of these counts in each: as many as surely are in one
    surely = sum(who[others]) if persons is None else max(who[others])
    if not column.two and (column.texts is None or rows[len(texts)]):
        cells.append(Cell(OTHER, float(sum(rows[others])), float(surely)))
    cells.append(Cell(MISSING, float(rows[-1]), float(who[-1])))
    if column.target:
        cells = [cell for cell in cells if cell.name != MISSING]  # rows without it are none
    shown = shown_cells(cells, least, everybody)
    return _named(column) | {"kind": "category", "cells": cells_values(shown, persons is not None)}


def column_of_numbers(
    column: Column,
    first: Sums,
    squares: float,
    last: tuple[Range, Floats, Floats] | None,
    least: int,
    fourths: float = 0.0,
) -> Values:
    """A column of numbers: who has one, mean, deviation and quantiles.

    Parameters
    ----------
    first : of step 0
    squares : sum of squared distances from the mean
    last : the finest histogram of rows and of persons; None of a constant column
    fourths : sum of each person's squared distances, squared
    """
    key = column.key
    count, total = float(first[f"{key}/count"][0]), float(first[f"{key}/sum"][0])
    missing = float(first["rows"][0]) - count
    persons = first.get(f"{key}/persons")
    who = np.array([count, missing]) if persons is None else persons
    cells = [Cell(PRESENT, count, float(who[0])), Cell(MISSING, missing, float(who[1]))]
    found = _named(column) | {"kind": "number"}
    if not column.target:
        found["cells"] = cells_values(
            shown_cells(cells, least, all_persons(first)), persons is not None
        )
    if who[0] < least:
        return found | {"few": True}
    mean, std = total / count, math.sqrt(max(0.0, squares) / count)
    if last is None:
        return found | {"mean": _short(mean), "mean_error": _error(mean), "std": 0.0}
    if few_values(last[2], least):
        return found | {"few": True}
    where = quantiles(*last, float(who[0]), least)
    found["quantiles"] = [
        {"p": float(p), "value": float(f"{one[0]:.12g}"), "error": _up(one[1], one[0])}
        for p, one in where.items()
    ]
    if dominated(squares, fourths):
        return found | {"dominated": True}
    step = grain(max(std, mover(squares, fourths)), float(who[0]), least)
    return found | {
        "mean": to_grain(mean, step),
        "std": to_grain(std, step),
        "mean_error": step / 2,
    }


def _named(column: Column) -> Values:
    return {"name": column.name} | ({"target": True} if column.target else {})


def cells_values(shown: Sequence[ShownCell], persons: bool) -> list[Values]:
    """Cells as they are published, as values of JSON; ``persons``: patients are named."""
    found = []
    for cell in shown:
        one: Values = {"name": cell.name, "state": cell.state}
        if cell.state == "shown":
            one |= {"rows": cell.rows} | ({"persons": cell.persons} if persons else {})
        found.append(one)
    return found


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _error(value: float) -> float:
    """What ``_short`` is off by at most."""
    return _up(abs(value) * 10.0 ** (1 - _DIGITS) / 2, value)


def _up(error: float, value: float) -> float:
    """Three digits, never below; and the rounding of the value that it belongs to."""
    more = error + 1e-11 * abs(value)
    return float(f"{more * 1.001:.4g}") if more else 0.0
