"""Tabular hospitals. All kinds share the inputs and differ in the target.

Columns: ``größe`` (composed at some, decomposed at others), ``creatinine`` (in mg/dl, at one
hospital in umol/l), ``lactate`` (constant at one), ``marker`` (empty at one), ``wide`` (from 1e-6
to 1e9), ``ward`` (a code), ``smoker``, ``patient``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from tests.unlike.base import Consortium, consortium, write_csv

INPUTS = ("größe", "creatinine", "lactate", "marker", "wide", "ward", "smoker", "patient")
TASK = """
[task]
kind = "{kind}"
{options}
[task.columns]
{target}
numeric = ["größe", "creatinine", "lactate", "marker", "wide"]
categorical = ["ward"]
binary = ["smoker"]
patient_id = "patient"
"""
DECLARED = 'unknown = "ignore"'
"""With the wards declared; one hospital has another one."""
AGREED = "min_category_count = 3"
Target = Callable[[str, np.random.Generator, float], list[object]]
"""(hospital, generator, linear predictor) to the cells of the target's columns."""

SIZES = {
    "north": 80,
    "south": 60,
    "St. Mary's": 33,
    "Köln": 40,
    "a b #1": 2,
    "1002": 1,
    "rare": 500,
}
"""Rows of each hospital."""


def _inputs(
    hospital: str, number: int, generator: np.random.Generator
) -> tuple[list[object], float]:
    """A row's input cells, and what its target follows."""
    size, creatinine, lactate = (
        generator.normal(170, 10),
        generator.gamma(4, 0.3),
        generator.gamma(2),
    )
    ward = int(generator.integers(1, 4))
    smoker = int(generator.integers(0, 2))
    signal = (size - 170) / 10 + creatinine - 1.2 + 0.5 * smoker
    if hospital == "St. Mary's":
        lactate = 1.5
    shown: list[object] = [
        f"{size:.1f}",
        f"{creatinine * (88.4 if hospital == 'south' else 1):.3f}",
        f"{lactate:.2f}",
        None if hospital == "Köln" or number % 7 == 3 else f"{generator.normal():.3f}",
        f"{10 ** generator.uniform(-6, 9):.6g}",
        {"south": f"{ward}.0", "Köln": ward if ward < 3 else 9}.get(hospital, ward),
        smoker,
        f"{hospital[0]}{number // 3 if hospital == 'north' else number}",
    ]
    return shown, signal


def _write(folder: Path, kind: str, columns: list[str], target: Target, options: str) -> Consortium:
    generator = np.random.default_rng(11)
    for hospital, rows in SIZES.items():
        form: Literal["NFC", "NFD"] = "NFD" if hospital in ("south", "rare") else "NFC"
        header = [unicodedata.normalize(form, name) for name in (*INPUTS, *columns)]
        lines = []
        for number in range(rows):
            cells, signal = _inputs(hospital, number, generator)
            found = target(hospital, generator, signal)
            if hospital == "Köln" and number in (4, 5):
                found = [None] * len(found)
            if hospital == "rare" and len(columns) == 1 and kind != "regression":
                found = [1 if number == 77 else 0]
            lines.append([*cells, *found])
        write_csv(folder / "hospitals" / f"{hospital}.csv", header, lines)
    named = "\n".join(
        f'{key} = "{name}"'
        for key, name in zip(
            ["target"] if len(columns) == 1 else ["time", "event"], columns, strict=True
        )
    )
    task = TASK.format(kind=kind, options=options, target=named)
    if options == DECLARED:
        task += 'categories = { ward = ["1", "2", "3"] }\n'
    return consortium(folder, task, SIZES)


def binary(folder: Path) -> Consortium:
    """Deaths; at St. Mary's nobody died, at one hospital one of 500."""

    def died(hospital: str, generator: np.random.Generator, signal: float) -> list[object]:
        value = int(generator.random() < 1 / (1 + np.exp(-signal)))
        if hospital == "St. Mary's":
            value = 0
        return [f"{value}.0" if hospital == "south" else value]

    return _write(folder, "binary", ["died"], died, AGREED)


def multiclass(folder: Path) -> Consortium:
    """Three classes, the third at one hospital only; not declared."""

    def stage(hospital: str, generator: np.random.Generator, signal: float) -> list[object]:
        value = int(signal + generator.normal() > 0)
        if hospital == "north" and signal > 1:
            value = 2
        if hospital == "St. Mary's":
            value = 1
        return [f"{value}.0" if hospital == "south" else value]

    return _write(folder, "multiclass", ["stage"], stage, AGREED)


def regression(folder: Path) -> Consortium:
    """Costs in cents, of the order 1e6."""

    def cost(hospital: str, generator: np.random.Generator, signal: float) -> list[object]:
        value = 1e6 + 2e5 * signal + generator.normal(0, 5e4)
        return [round(1e6 if hospital == "St. Mary's" else value)]

    return _write(folder, "regression", ["cost"], cost, DECLARED)


def survival(folder: Path) -> Consortium:
    """Days to death; at one hospital all are censored, ties everywhere."""

    def days(hospital: str, generator: np.random.Generator, signal: float) -> list[object]:
        time = 1 + int(generator.exponential(100 * np.exp(-0.5 * signal)))
        event = 0 if hospital == "St. Mary's" else int(generator.random() < 0.6)
        return [time, f"{event}.0" if hospital == "south" else event]

    return _write(folder, "survival", ["days", "event"], days, DECLARED)
