"""The same data are the same rows, inputs and keys, whatever kind of file they stand in."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.common.tasks.data.reading.kinds import KINDS, write
from wardround.common.errors import DataError
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


def test_decimals_and_single_precision_are_the_numbers_of_their_texts(tmp_path: Path) -> None:
    """A file of a database's export has what the same rows have in a CSV, to the last bit."""
    drawn = np.random.default_rng(7)
    texts = [f"{n / 100:.2f}" for n in drawn.integers(0, 10**9, 500)]
    short = [str(np.float32(x)) for x in drawn.normal(size=500)]
    rows = {"a": [Decimal(text) for text in texts], "b": short, "ill": [n % 2 for n in range(500)]}
    (tmp_path / "csv").mkdir()
    task = TabularTask(columns=COLUMNS | {"categorical": [], "ignore": []})
    plain = task.load(write(tmp_path / "csv", "csv", rows))
    columns = [pa.array(rows["a"]), pa.array([np.float32(x) for x in short]), pa.array(rows["ill"])]
    pq.write_table(pa.table(columns, names=list(rows)), tmp_path / "x.parquet")
    typed = task.load(tmp_path / "x.parquet")
    for name in ("a", "b"):
        assert np.array_equal(typed.numbers(name), plain.numbers(name))
    assert task.row_keys(typed).tolist() == task.row_keys(plain).tolist()


def test_a_time_that_no_table_holds_is_an_error_not_another_time(tmp_path: Path) -> None:
    far = pa.array([10**15, 0], pa.timestamp("s"))  # in microseconds it would pass 2**63
    pq.write_table(pa.table({"seen": far, "ill": [0, 1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="column 'seen': of type timestamp.*doesn't fit"):
        TabularTask(columns={"target": "ill"}).load(tmp_path / "x.parquet")
