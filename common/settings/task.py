"""``[task]``: which task, and the paths among its options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from wardround.common.identifiers import VERSION
from wardround.common.settings.base import PathText
from wardround.common.settings.key_errors import WrongKey

LINKED = "linked"
"""The task of joint procedures."""


class TaskTable(BaseModel):
    """``[task]``: which task, and its own options."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)
    name: PathText = Field(
        "tabular", description="a built-in [task](tasks.md), or `path/to/file.py:Class`"
    )

    @model_validator(mode="before")
    @classmethod
    def _says_its_rules(cls, values: Any) -> Any:
        """Which rules of identifiers are meant stands in what all parties agree on."""
        if isinstance(values, dict) and values.get("name") == LINKED:
            return {"rules": VERSION} | values
        return values

    @model_validator(mode="after")
    def _names_its_folders(self) -> TaskTable:
        if is_built_in(self.name):
            for key in TASK_PATHS:
                value = self.options.get(key)
                if isinstance(value, str) and "\0" in value:
                    raise WrongKey(key, "no path has a NUL character")
                if value and isinstance(value, str) and _last_part(value).strip() in _UNNAMED:
                    raise ValueError(
                        f"{key}: end the path in the folder's own name, which all parties share"
                    )
        return self

    @property
    def options(self) -> dict[str, Any]:
        """All keys but ``name``, as the task's constructor gets them."""
        return dict(self.model_extra or {})


TASK_PATHS = ("encoder", "base_model")
"""Options of built-in tasks that are files or folders, meant from the configuration's folder."""
_UNNAMED = ("", ".", "..")


def pretrained_key(task: TaskTable) -> str:
    """Which option names the pretrained files that a text task starts from: of each party's own."""
    return "base_model" if task.options.get("kind") == "causal" else "encoder"


def pretrained(task: TaskTable) -> str:
    """The pretrained files that a built-in task starts from, as its settings name them; '' for the
    installed ones, or a task of one's own."""
    value = task.options.get(pretrained_key(task)) if is_built_in(task.name) else ""
    return value if isinstance(value, str) else ""


def is_built_in(task: str) -> bool:
    """Whether the task's name isn't that of a user's own, path/to/file.py:Class."""
    return ":" not in task


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def without_folders(task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of the task called ``task`` as all parties share them: of a built-in task's path the
    last part, for folders differ."""
    if not is_built_in(task):
        return options
    names = {
        key: _last_part(value) for key in TASK_PATHS if isinstance(value := options.get(key), str)
    }
    return options | names


def absolute_paths(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A built-in task's options with absolute paths; '' and what isn't text stay as they are."""
    paths = {
        key: str((folder / value).resolve())
        for key in TASK_PATHS
        if isinstance(value := options.get(key), str) and value
    }
    return options | paths
