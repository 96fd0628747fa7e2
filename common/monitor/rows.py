"""Rows for a watch, in the form of the model's task: with outcomes where there are some, and as
they are.

What ends a study, a column that isn't there or a cell that can't be read, is here just what is
looked for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wardround.common.errors import DataError
from wardround.common.tasks.base import Task
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.tabular import TabularTask


def read_rows(task: Task[Any], path: Path, named: bool = False) -> Any:
    """All rows of a file or folder. Raises DataError where it can't be read at all.

    named : with all columns of a table, of texts then without their labels
    """
    if isinstance(task, TabularTask):
        return task.rows_of(path)
    if named:
        return task.load_rows(path)
    try:
        return task.load(path)
    except DataError:
        return task.load_rows(path)  # without labels


def cells_of(raw: Any, column: str) -> list[Any]:
    """N cells of a column that stands beside the rows; None where one is empty. Raises DataError
    where there is none of that name."""
    if isinstance(raw, Table):
        return list(raw.cells(column))
    written = getattr(raw, "written", None)
    if written is None or column not in written.named.column_names:
        raise DataError(f"the rows have no column '{column}'", mend="name one that they have")
    return list(written.named.column(column).to_pylist())
