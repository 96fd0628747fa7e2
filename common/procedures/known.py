"""The procedure that a configuration names."""

from __future__ import annotations

import hashlib
import importlib
from typing import Any, cast

from wardround.common.config.covers import check_statistics
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.procedures.finished import check_finished
from wardround.common.procedures.procedure import Earlier, FinishedModel, Procedure
from wardround.common.procedures.words import Words
from wardround.common.settings import CALIBRATE, DESCRIBE, EVALUATE, MONITOR, STATISTICS, TREES
from wardround.common.tasks.base import Task
from wardround.common.tasks.loading import load_object

_KINDS = {
    DESCRIBE: "describe.procedure:Describe",
    EVALUATE: "evaluate.procedure:Evaluate",
    CALIBRATE: "calibrate.procedure:Calibrate",
    MONITOR: "monitor.procedure:Monitor",
    STATISTICS: "statistics.procedure:Statistics",
    TREES: "trees.procedure:TreesProcedure",
}
"""Module and class of each: imported when it is asked for, as most processes need one or none."""
_NOISED = {TREES: "trees.noised:NoisedTrees"}
"""Those that ask for something else with ``[privacy]``."""


def _kind(config: Config) -> type[Procedure]:
    """The configured procedure's class, which isn't training; of a file of one's own the one whose
    digest the settings have. Raises ConfigError."""
    name = config.procedure.name
    if not config.procedure.own:
        noised = _NOISED.get(name) if config.privacy.enabled else None
        file, _, found = (noised or _KINDS[name]).partition(":")
        module = importlib.import_module(f"wardround.common.procedures.{file}")
        return cast(type[Procedure], getattr(module, found))
    path = config.folder / name.rpartition(":")[0]
    expected = str(config.procedure.options.get("file_sha256", ""))
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != expected:
        raise config.error(
            "procedure.name",
            f"this copy of '{config.procedure.called}' isn't the file of SHA-256 "
            f"{expected[:16] or 'none'}... that the settings have",
            "get that file, and read it",
        )
    try:
        return load_object(name, config.folder, Procedure, TaskError)  # type: ignore[type-abstract]
    except TaskError as error:
        raise config.error("procedure.name", str(error)) from None


def steps_of(config: Config) -> int:
    """The most steps of the configured procedure, which isn't training."""
    return _kind(config).planned_steps(config)


def needs_model(config: Config) -> bool:
    """Whether the configured procedure is asked of a finished model."""
    asks = not config.procedure.trains and not config.procedure.joint
    return asks and _kind(config).needs_model


def step_words(config: Config, procedure: Procedure, earlier: Earlier) -> Words | None:
    """Which of a procedure's next sums are words, under masks: the same at both ends."""
    return None if config.privacy.enabled else procedure.words(earlier)


def make_procedure(
    config: Config, task: Task[Any], model: FinishedModel | None = None
) -> Procedure:
    """The configured one, which isn't training. Raises ConfigError, by key, if it doesn't go with
    the task, the model or the other settings.

    model : as ``Procedure.of``
    """
    check_statistics(config)
    kind = _kind(config)
    if kind.needs_model:
        check_finished(config, task, model)
    made = kind.of(config, task, model)
    if config.privacy.enabled and kind.sensitivity is Procedure.sensitivity:
        raise config.error(
            "privacy.unit",
            f"'{config.procedure.called}' says no bound on what a unit changes its sums by "
            "(sensitivity), so no noise can be made for them",
            "leave [privacy] out, or say it (docs/procedures.md)",
        )
    return made
