"""The procedure that a configuration names."""

from __future__ import annotations

from typing import Any

from wardround.common.config.load import Config
from wardround.common.procedures.describe.procedure import Describe
from wardround.common.procedures.procedure import Procedure
from wardround.common.settings import DESCRIBE
from wardround.common.tasks.base import Task

_KINDS: dict[str, type[Procedure]] = {DESCRIBE: Describe}


def steps_of(config: Config) -> int:
    """The most steps of the configured procedure, which isn't training."""
    return _KINDS[config.procedure.name].planned_steps(config)


def make_procedure(config: Config, task: Task[Any]) -> Procedure:
    """The configured one, which isn't training. Raises ConfigError, by key, if it doesn't go with
    the task or the other settings."""
    return _KINDS[config.procedure.name].of(config, task)
