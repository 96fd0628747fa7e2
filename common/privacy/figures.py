"""What a private evaluation asks for, what each costs, and the noise that is on it.

Both sides work it out from the settings and the agreed totals: how many evaluations the plan has
(``evaluation.every``), so what each may cost; whole-number sums of a known sensitivity
(``Task.private_sums``). Validation and test rows are other units' each, and asked together: an
evaluation is one release.
"""

from __future__ import annotations

import math
from typing import Any

from wardround.common.config.covers import covers
from wardround.common.config.load import Config
from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.privacy.accounting import Release
from wardround.common.privacy.budget import evaluations, sum_release
from wardround.common.privacy.sums import own_multiplier
from wardround.common.tasks.base import Task
from wardround.common.tasks.private_sums import PrivateSums


def records_per_unit(config: Config) -> int:
    """How many rows of one unit count at most."""
    return config.privacy.records_per_patient if config.privacy.unit == "patient" else 1


def figures_covered(config: Config, task: Task[Any]) -> bool:
    """Whether figures carry noise: where the settings ask for it, or, as they leave it open, the
    task can. The same on both sides: the task is."""
    if config.privacy.covers is None and not _says(task):
        return False
    return covers(config, "evaluation")


def _says(task: Task[Any]) -> bool:
    own = type(task).private_sums is not Task.private_sums
    return task.rowwise and not task.coupled_examples and (own or bool(task.metric_bounds))


def figure_release(config: Config) -> Release:
    """What one evaluation releases, of as many as the plan has."""
    return sum_release(config, "evaluation", evaluations(config, config.federation.rounds))


def figure_sums(config: Config, task: Task[Any], totals: Sums) -> PrivateSums:
    """What is asked for. Raises TaskError where the task has no such sums, by the mend."""
    noise = figure_release(config).noise_multiplier * records_per_unit(config)
    found = task.private_sums(totals, noise)
    if found is None or not task.rowwise:
        lacks = "rowwise = True (prepare() makes one example of each row, of that row alone)"
        if found is None:
            lacks = "metric_bounds, or private_sums()"
        raise TaskError(
            f"privacy.covers: 'evaluation' needs a task that says {lacks}",
            mend="say it (docs/privacy.md), or leave 'evaluation' out of privacy.covers",
        )
    return found


def sensitivity_of(config: Config, sums: PrivateSums) -> float:
    """The most (L2) that one unit changes all sums of an evaluation together."""
    return sums.sensitivity * records_per_unit(config)


def figure_noise(config: Config, sums: PrivateSums, hospitals: int, honest: int | None) -> float:
    """Standard deviation of what is on each number of a sum over so many hospitals; of a share of
    noise, where some had dropped out, up to that: each adds what the whole group had needed.

    honest : the fewest honest ones in a sum over these; None without masks
    """
    own = own_multiplier(config, figure_release(config), honest)
    return own * sensitivity_of(config, sums) * math.sqrt(hospitals)
