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
from wardround.common.tasks.tabular import TabularTask


def read_rows(task: Task[Any], path: Path) -> Any:
    """All rows of a file or folder. Raises DataError where it can't be read at all."""
    if isinstance(task, TabularTask):
        return task.rows_of(path)
    try:
        return task.load(path)
    except DataError:
        return task.load_rows(path)  # without labels
