"""The preparation where ``[privacy]`` covers it: which form a task has, and what noise is on it."""

from __future__ import annotations

import math
from typing import Any

from wardround.common.config.covers import covers
from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.privacy.accounting import Release
from wardround.common.privacy.budget import sum_release
from wardround.common.privacy.sums import own_multiplier
from wardround.common.tasks.base import Task
from wardround.common.tasks.private import PrivatePreparation, sensitivity


def private_preparation(config: Config, task: Task[Any]) -> PrivatePreparation | None:
    """How the task prepares its rows under noise; None where its sums are exact: they aren't
    covered, or nothing of the rows is in them.

    Raises ConfigError for a task, given as an object, that the settings don't describe.
    """
    if not covers(config, "preparation"):
        return None
    found = task.private_preparation()
    if found is None and task.phases and task.preparation_reads_rows:
        raise config.error(
            "privacy.covers",
            "'preparation' can't be covered: this task says no bound on what a row adds to its "
            "sums (Task.private_preparation)",
            "leave 'preparation' out",
        )
    return found


def phases_of(config: Config, task: Task[Any]) -> int:
    """How many sums prepare the data."""
    private = private_preparation(config, task)
    return task.phases if private is None else private.phases


def phase_release(config: Config, private: PrivatePreparation) -> Release:
    """Of each of the phases' sums."""
    return sum_release(config, "preparation", private.phases)


def phase_noise(
    config: Config, private: PrivatePreparation, sums: Sums, hospitals: int, honest: int | None
) -> float:
    """Standard deviation of what is on each number of these sums over so many hospitals, in grid
    units.

    honest : the fewest honest hospitals in a sum of the group; None without masks
    """
    shapes = {name: value.shape for name, value in sums.items()}
    own = own_multiplier(config, phase_release(config, private), honest)
    return own * sensitivity(private, shapes) * math.sqrt(hospitals)
