"""What a linear model of a table says of each input, in the columns' own units.

A model's inputs are standardised, z = (x - mean) / deviation, and a regression's target too. So a
weight w is what one *deviation* of a column adds to the score, and w / deviation what one *unit*
adds; the intercept takes up what the means leave: b - sum of w mean / deviation.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays
from wardround.common.tasks.categories import classes
from wardround.common.tasks.features import agreed_scale, feature_names
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.table_schema import table_schema
from wardround.common.tasks.targets import scale

INTERCEPT = "(intercept)"
FILE = "coefficients.csv"
HEAD = ("output", "input", "unit", "per_unit", "per_deviation", "deviation")


@dataclass(frozen=True)
class Coefficient:
    """One input's, for one output.

    output : the class whose score it is for; '' where there is one score
    input : the column, 'COLUMN=CATEGORY' for a category, or ``INTERCEPT``
    unit : of the column, where it is known
    per_unit : added to the score by one unit of the column; of the intercept, itself
    per_deviation : added by one standard deviation of all hospitals' training rows; None: the
        intercept's
    deviation : in the column's unit; None where the input isn't put to scale
    """

    output: str
    input: str
    unit: str
    per_unit: float
    per_deviation: float | None
    deviation: float | None


def table_coefficients(arrays: Arrays, totals: Sums, options: TabularOptions) -> list[Coefficient]:
    """Of the model of a tabular task. [] with several layers, and where each hospital has a scale
    of its own."""
    if options.model.kind == "mlp" or options.normalise == "local" or "weight" not in arrays:
        return []
    names = feature_names(totals, options)
    return coefficients(
        arrays,
        names,
        classes(totals, options) if options.kind == "multiclass" else [""],
        None if options.normalise == "none" else agreed_scale(len(names), totals, options),
        scale(totals) if options.kind == "regression" else (0.0, 1.0),
        {one.name: one.unit for one in table_schema(options, totals).inputs},
    )


def coefficients(
    arrays: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    outputs: Sequence[str],
    scales: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    target: tuple[float, float],
    units: Mapping[str, str],
) -> list[Coefficient]:
    """Of a linear layer, output by output, its inputs in their order, the intercept last.

    Parameters
    ----------
    arrays : ``weight``, O x D, and ``bias``, O, where it has one
    scales : mean and deviation of each input; None where they aren't put to scale
    target : mean and deviation that a regression's target is put to scale by; else (0, 1)
    units : of columns, by name
    """
    weight = np.asarray(arrays["weight"], dtype=np.float64) * target[1]
    mean, deviation = scales or (np.zeros(len(names)), np.ones(len(names)))
    found = []
    for row, output in enumerate(outputs):
        for at, name in enumerate(names):
            scaled = scales is not None and not (mean[at] == 0 and deviation[at] == 1)
            each = float(weight[row, at])
            found.append(
                Coefficient(
                    output,
                    name,
                    units.get(name, ""),
                    each / float(deviation[at]),
                    each if scaled else None,
                    float(deviation[at]) if scaled else None,
                )
            )
        if "bias" in arrays:
            own = float(arrays["bias"][row]) * target[1] + target[0]
            value = own - float((weight[row] * mean / deviation).sum())
            found.append(Coefficient(output, INTERCEPT, "", value, None, None))
    return found


def coefficients_csv(found: Sequence[Coefficient]) -> str:
    """A table with the columns of ``HEAD``; numbers to 7 digits, as the weights have them."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEAD)
    for one in found:
        numbers = (one.per_unit, one.per_deviation, one.deviation)
        shown = ["" if number is None else f"{number:.7g}" for number in numbers]
        table.writerow([one.output, one.input, one.unit, *shown])
    return text.getvalue()


def coefficients_in(folder: Path) -> list[Coefficient]:
    """What ``coefficients_csv`` wrote there; [] where there is nothing, or what can't be read."""
    try:
        head, *rows = csv.reader(io.StringIO((folder / FILE).read_text("utf-8")))
        return [_read(row) for row in rows] if tuple(head) == HEAD else []
    except (OSError, ValueError, csv.Error):
        return []


def _read(row: list[str]) -> Coefficient:
    output, name, unit, per_unit, *others = row
    per_deviation, deviation = (float(text) if text else None for text in others)
    return Coefficient(output, name, unit, float(per_unit), per_deviation, deviation)
