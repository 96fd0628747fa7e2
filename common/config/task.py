"""The task that a configuration names, with errors that point into its file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from wardround.common.config.joint import check_joint
from wardround.common.config.load import Config
from wardround.common.settings import DESCRIBE, STATISTICS
from wardround.common.tasks import built_in, load_task
from wardround.common.tasks.base import Task

if TYPE_CHECKING:
    from wardround.common.tasks.own_model import OwnModel


def make_task(config: Config, model: OwnModel | None = None) -> Task[Any]:
    """The configured task; errors in its options name file and line. Raises WardroundError.

    model : of a program's own, for ``task.model.kind = "own"``

    A table of ``statistics`` predicts nothing unless its settings say otherwise.
    """
    name, options = config.task.name, config.task.options
    if config.procedure.name == STATISTICS and name == "tabular":
        options = {"kind": "none"} | options
    try:
        task = load_task(name, options, config.folder) if model is None else _own(config, model)
    except ValidationError as error:
        known = None if ":" in name else built_in(name).options_model
        raise config.options_error(error, "task.", known) from None
    check_joint(config, task)
    if config.procedure.name not in (STATISTICS, DESCRIBE) and options.get("kind") == "none":
        raise config.error(
            "task.kind",
            f"'none' predicts nothing, and '{config.procedure.name}' needs a target",
            "set 'binary', 'multiclass', 'regression' or 'survival'",
        )
    if config.privacy.unit in ("example", "patient") and options.get("packing") is True:
        raise config.error(
            "task.packing",
            f"a row holds several conversations, and privacy.unit = '{config.privacy.unit}' "
            "protects each",
            "set it to false",
        )
    return task


def _own(config: Config, model: OwnModel) -> Task[Any]:
    """The tabular task with this model. Raises ConfigError for another task, TaskError."""
    from wardround.common.tasks.own_model import OwnModelTask

    if config.task.name != "tabular":
        raise config.error(
            "task.name",
            f"'{config.task.name}' makes its own model, and model=... goes with tables",
            "leave the argument out",
        )
    return OwnModelTask(model, **config.task.options)
