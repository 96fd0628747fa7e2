"""The task that a configuration names, with errors that point into its file."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from wardround.common.config.load import Config
from wardround.common.tasks import built_in, load_task
from wardround.common.tasks.base import Task


def make_task(config: Config) -> Task[Any]:
    """The configured task; errors in its options name file and line. Raises WardroundError."""
    try:
        return load_task(config.task.name, config.task.options, config.folder)
    except ValidationError as error:
        name = config.task.name
        model = None if ":" in name else built_in(name).options_model
        raise config.options_error(error, "task.", model) from None
