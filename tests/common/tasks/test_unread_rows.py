"""Rows whose numbers can't be read may be left out, as far as the hospital allows it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.tabular import TabularTask

COLUMNS = {"target": "y", "numeric": ["a", "b"]}


def write(path: Path, bad: dict[int, str]) -> Path:
    lines = [bad.get(n, f"{n},{n / 2},{n % 2}") for n in range(20)]
    path.write_text("a,b,y\n" + "\n".join(lines) + "\n")
    return path


def test_rows_up_to_the_share_go_and_the_others_are_as_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = TabularTask(columns=COLUMNS)
    whole = write(tmp_path / "y.csv", {})
    path = write(tmp_path / "x.csv", {3: "Smith,1,1", 7: "7,8,Smith", 9: "9,1,"})
    with allowing(0.1), pytest.raises(DataError, match=r"x\.csv:9: column 'y'"):
        task.load(path)  # a text that is neither label is no number that can't be read
    path = write(tmp_path / "x.csv", {3: "Smith,1,1", 7: "7,8O,1", 9: "9,1,"})
    caplog.clear()
    with caplog.at_level(logging.WARNING, "wardround.data"), allowing(0.11):
        found = task.load(path)
    kept = [n for n in range(20) if n not in (3, 7, 9)]
    assert found.numbers("a").tolist() == kept
    assert found.keys.tolist() == task.load(whole).keys[kept].tolist()
    listed = [record.getMessage().partition(f"{path}")[2] for record in caplog.records]
    assert [line.partition(": not")[0] for line in listed] == [":5: column 'a'", ":9: column 'b'"]
    assert [one.count for one in task.left_out(found)] == [1, 2]
    assert "Smith" not in caplog.text
    with allowing(0.1), pytest.raises(DataError, match="2 of 19 rows can't be read"):
        task.load(path)
    with allowing(0.04), pytest.raises(DataError, match=r"x\.csv:5: column 'a'"):
        task.load(path)
