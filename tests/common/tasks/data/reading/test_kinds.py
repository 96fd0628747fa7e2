"""The same data are the same rows, inputs and keys, whatever kind of file they stand in."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.common.tasks.data.reading.kinds import KINDS, write
from wardround.common.tasks.tabular import TabularTask

COLUMNS = {"target": "ill", "categorical": ["ward", "code"], "ignore": ["seen", "note"]}


def records(rows: int) -> dict[str, list[object]]:
    drawn = np.random.default_rng(5)
    wards = ["Süd", "north", None]
    return {
        "age": [int(x) for x in drawn.integers(0, 90, rows)],
        "lactate": [None if x > 1 else round(float(x), 6) for x in drawn.normal(size=rows)],
        "ward": [wards[n % 3] for n in range(rows)],
        "code": [n % 2 + 1 for n in range(rows)],
        "seen": [date(1890 + n % 130, 1 + n % 12, 3) for n in range(rows)],
        "note": ["a, b" if n % 2 else None for n in range(rows)],
        "ill": [int(x) for x in drawn.integers(0, 2, rows)],
    }


def test_three_kinds_of_files_give_equal_inputs_targets_and_keys(tmp_path: Path) -> None:
    found = []
    for kind in KINDS:
        rows = records(60)
        if kind == "xlsx":  # Excel knows no date before 1900: such are texts there
            rows["seen"] = [str(day) if day.year < 1900 else day for day in rows["seen"]]
        task = TabularTask(columns=COLUMNS)
        raw = task.load(write(tmp_path, kind, rows))
        totals: dict = {}
        for phase in range(task.phases):
            totals |= task.statistics(raw, phase, totals)
        made = task.prepare(raw, task.condense(totals), raw)
        found.append((made.inputs, made.targets, task.row_keys(raw).tolist()))
    for inputs, targets, keys in found[1:]:
        assert torch.equal(inputs, found[0][0]) and torch.equal(targets, found[0][1])
        assert keys == found[0][2] and len(set(keys)) == 60


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_looks_like_a_number_stays_as_it_is(tmp_path: Path, kind: str) -> None:
    rows = {"ward": ["007", "7", "1e3"] * 5, "ill": [0, 1, 1] * 5}
    task = TabularTask(columns={"target": "ill", "categorical": ["ward"]})
    raw = task.load(write(tmp_path, kind, rows))
    assert raw.coded("ward").texts == ["007", "7", "1e3"]
