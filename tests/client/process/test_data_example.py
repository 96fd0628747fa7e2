"""The example's rows as a file are those that the example trains on."""

from __future__ import annotations

from pathlib import Path

import pytest

from wardround.client.process.example_cli import example_rows
from wardround.common.errors import DataError
from wardround.common.tasks.tabular import TabularTask


def test_the_file_reads_as_the_example(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    example_rows(file)
    task = TabularTask()
    written, built_in = task.load(file), task.load(None)
    assert len(written) == 569 and written.columns == built_in.columns
    for name in written.columns:
        assert written.numbers(name).tolist() == built_in.numbers(name).tolist()
    with pytest.raises(DataError, match="is there already"):
        example_rows(file)
