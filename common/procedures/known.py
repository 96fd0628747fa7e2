"""The procedure that a configuration names."""

from __future__ import annotations

from typing import Any

from wardround.common.config.load import Config
from wardround.common.procedures.calibrate.procedure import Calibrate
from wardround.common.procedures.describe.procedure import Describe
from wardround.common.procedures.evaluate.procedure import Evaluate
from wardround.common.procedures.finished import check_finished
from wardround.common.procedures.monitor.procedure import Monitor
from wardround.common.procedures.procedure import Earlier, FinishedModel, Procedure
from wardround.common.procedures.statistics.procedure import Statistics
from wardround.common.procedures.trees.noised import NoisedTrees
from wardround.common.procedures.trees.procedure import TreesProcedure
from wardround.common.procedures.words import Words
from wardround.common.settings import CALIBRATE, DESCRIBE, EVALUATE, MONITOR, STATISTICS, TREES
from wardround.common.tasks.base import Task

_KINDS: dict[str, type[Procedure]] = {
    DESCRIBE: Describe,
    EVALUATE: Evaluate,
    CALIBRATE: Calibrate,
    MONITOR: Monitor,
    STATISTICS: Statistics,
    TREES: TreesProcedure,
}


_NOISED: dict[str, type[Procedure]] = {TREES: NoisedTrees}
"""Those that ask for something else with ``[privacy]``."""


def _kind(config: Config) -> type[Procedure] | None:
    name = config.procedure.name
    return (_NOISED.get(name) if config.privacy.enabled else None) or _KINDS.get(name)


def steps_of(config: Config) -> int:
    """The most steps of the configured procedure, which isn't training."""
    kind = _kind(config)
    assert kind is not None  # one that isn't known was refused when it was read
    return kind.planned_steps(config)


def needs_model(config: Config) -> bool:
    """Whether the configured procedure is asked of a finished model."""
    kind = _kind(config)
    return kind is not None and kind.needs_model


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
    kind = _kind(config)
    assert kind is not None
    if kind.needs_model:
        check_finished(config, task, model)
    return kind.of(config, task, model)
