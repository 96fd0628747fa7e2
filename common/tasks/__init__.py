"""Tasks: the built-in ones by name, a user's own by ``path/to/file.py:Class``.

A task says how rows become examples, what is summed to prepare them, which model is trained and how
it is measured. It never talks to anyone: what it returns is sums, examples and figures.

Importing this loads no torch: whoever only reads rows, as an exported model does, needs none.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.settings import absolute_paths
from wardround.common.tasks.loading import load_object

if TYPE_CHECKING:
    from wardround.common.tasks.base import Examples, Task

__all__ = ["Examples", "Sums", "Task", "built_in", "load_task"]


def __getattr__(name: str) -> Any:
    if name not in ("Examples", "Task"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from wardround.common.tasks import base

    return getattr(base, name)


def load_task(name: str, options: dict[str, Any], base: Path | None = None) -> Task[Any]:
    """The task called ``name``, constructed with ``options``; a file is meant from ``base``.

    Raises TaskError for an unknown task, a file that can't be used, or refused options;
    pydantic.ValidationError from a task's own options passes through.

    >>> from wardround.common.tasks import load_task
    >>> task = load_task("tabular", {"kind": "binary"})
    >>> task.primary_metric, task.phases
    ('auc', 3)
    """
    if ":" not in name:
        return _of_kind(name, options)(**absolute_paths(options, base or Path()))
    from wardround.common.tasks.base import Task

    kind = load_object(name, base or Path(), Task, TaskError)  # type: ignore[type-abstract]
    _check_options(name, kind, options)
    try:
        return kind(**options)
    except (TypeError, ValueError) as error:
        if type(error).__name__ == "ValidationError":
            raise
        raise TaskError(f"{name}: refused its options: {error}") from error


def _of_kind(name: str, options: dict[str, Any]) -> type[Task[Any]]:
    """The class of a built-in task, of which some ``kind`` are classes of their own with the same
    options."""
    kind = options.get("kind")
    if name == "text" and kind == "causal":
        from wardround.common.tasks.text.causal import CausalTask

        return CausalTask
    if name == "text" and kind == "pairs":
        from wardround.common.tasks.text.pairs import PairsTask

        return PairsTask
    if name == "text" and kind == "labels":
        from wardround.common.tasks.text.labels import LabelsTask

        return LabelsTask
    return built_in(name)


def _check_options(name: str, kind: type[Task[Any]], options: dict[str, Any]) -> None:
    """Raise TaskError, by key, for options that a user's own class doesn't take."""
    parameters = inspect.signature(kind).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    takes = [one.name for one in parameters if one.kind is not one.VAR_POSITIONAL]
    if unknown := [key for key in options if key not in takes]:
        raise TaskError(
            f"{', '.join(f'task.{key}' for key in unknown)}: {name.rpartition(':')[2]} has no such "
            f"option; it has: {', '.join(takes) or 'no options'}",
            mend="leave it out" if len(unknown) == 1 else "leave them out",
        )


def built_in(name: str) -> type[Task[Any]]:
    """The class of a built-in task, imported only now. Raises TaskError for another name.

    >>> from wardround.common.tasks import built_in
    >>> built_in("tabular").__name__
    'TabularTask'
    >>> built_in("tables")
    Traceback (most recent call last):
    wardround.common.errors.TaskError: unknown task 'tables'; use 'tabular', ...
    """
    if name == "tabular":
        from wardround.common.tasks.tabular import TabularTask

        return TabularTask
    if name == "imaging":
        from wardround.common.tasks.imaging import ImagingTask

        return ImagingTask
    if name == "text":
        from wardround.common.tasks.text import TextTask

        return TextTask
    if name == "linked":
        from wardround.common.tasks.linked import LinkedTask

        return LinkedTask
    raise TaskError(
        f"unknown task '{name}'; use 'tabular', 'imaging', 'text', 'linked' or "
        "path/to/file.py:Class"
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
