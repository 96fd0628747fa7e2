"""The joint procedure that a configuration names."""

from __future__ import annotations

import importlib
from typing import Any, cast

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.joint.party import JointProcedure
from wardround.common.settings import LINKAGE, SPLIT, VERTICAL
from wardround.common.tasks.base import Task

_KINDS = {
    LINKAGE: "linkage.procedure:Linkage",
    VERTICAL: "vertical.procedure:Vertical",
    SPLIT: "split.procedure:Split",
}
"""Module and class of each: imported when it is asked for."""


def make_joint(config: Config, task: Task[Any] | None = None) -> JointProcedure:
    """The configured one. Raises ConfigError, by key, where its settings don't go together.

    task : None: it is made of the settings
    """
    file, _, found = _KINDS[config.procedure.name].partition(":")
    module = importlib.import_module(f"wardround.common.{file}")
    return cast(type[JointProcedure], getattr(module, found)).of(config, task or make_task(config))
