"""Tasks: the built-in ones by name, a user's own by ``path/to/file.py:Class``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wardround.common.errors import TaskError
from wardround.common.loading import load_object
from wardround.common.tasks.base import Examples, Sums, Task

__all__ = ["Examples", "Sums", "Task", "load_task"]


def load_task(name: str, options: dict[str, Any], base: Path | None = None) -> Task[Any]:
    """The task called ``name``, constructed with ``options``; a file is meant from ``base``.

    Raises TaskError for an unknown task, a file that can't be used, or refused options;
    pydantic.ValidationError from a task's own options passes through.
    """
    if ":" not in name:
        if name != "tabular":
            raise TaskError(f"unknown task '{name}'; use 'tabular' or path/to/file.py:Class")
        from wardround.common.tasks.tabular import TabularTask

        return TabularTask(**options)
    kind = load_object(name, base or Path(), Task, TaskError)  # type: ignore[type-abstract]
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        if type(error).__name__ == "ValidationError":
            raise
        raise TaskError(f"{name}: refused its options: {error}") from error
