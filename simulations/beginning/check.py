"""A configuration tried as a simulation would use it, up to the first step of training."""

from __future__ import annotations

from typing import Any

from wardround.client.data.hospital import Hospital
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.errors import WardroundError
from wardround.common.figures.sums import Sums, add_sums
from wardround.common.tasks.base import Task
from wardround.simulations.given.held import GivenData
from wardround.simulations.population.hospitals import Population


def problems(
    config: Config, task: Task[Any] | None = None, given: GivenData | None = None
) -> list[str]:
    """What a simulation would stop or leave a hospital out for, one line each: each hospital's rows
    read and split, what all agree on, and the tensors made of them.

    task, given : as a program has them; else what the configuration names
    """
    try:
        task = make_task(config) if task is None else task
        population = Population(config, task, given=given)
    except WardroundError as error:
        return [str(error)]
    found: list[str] = []
    training: list[Hospital] = []
    for name in population.names:
        hospital = population.hospital(name)
        try:
            if hospital.sizes().get("train"):
                training.append(hospital)
        except WardroundError as error:
            found.append(f"{population.titles.get(name, name)}: {error}")
    if not training and not found:
        found.append("no hospital has rows for training")
    return found or _prepared(task, training)


def _prepared(task: Task[Any], training: list[Hospital]) -> list[str]:
    """What comes of the hospitals' sums and examples."""
    totals: Sums = {}
    found = []
    try:
        for phase in range(task.phases):
            totals = totals | add_sums([one.statistics(phase, totals) for one in training])
        totals = task.condense(totals)
        task.agreed(totals)
        task.model(totals)
    except WardroundError as error:
        return [str(error)]
    for hospital in training:
        try:
            hospital.examples(totals, "init")
        except WardroundError as error:
            found.append(f"{hospital.name}: {error}")
    return found
