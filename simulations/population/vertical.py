"""One file of everything becomes parties that have columns of their own, of the same persons.

Each party gets the identifiers and its own columns (``[task.parties.NAME]``) of some of the rows,
in an order of its own. A share of the rows (``simulation.vertical_overlap``) is at all parties,
each other row at one party alone: the file is what somebody who sees everything would have, so who
is to be linked is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError
from wardround.common.rng import numpy_generator
from wardround.common.tasks.base import Task
from wardround.common.tasks.linked import LinkedTask

Rows = NDArray[np.int64]


def vertical_rows(task: Task[Any], pooled: Any, config: Config) -> dict[str, Rows]:
    """Row numbers of each party, by name, in the party's own order.

    Raises ConfigError for a task whose parties have no columns of their own, or where a party
    would have too few rows (``simulation.min_examples``).
    """
    if not isinstance(task, LinkedTask):
        raise config.error(
            "simulation.partition",
            f"'vertical' parts columns between parties, and task '{config.task.name}' names none",
            "set task.name = 'linked', with [task.parties.NAME], or another partition",
        )
    names, table, size = task.options.names, config.simulation, task.size(pooled)
    if table.clients not in (type(table)().clients, len(names)):
        raise config.error(
            "simulation.clients",
            f"is {table.clients}, and the parties of the study are {len(names)} (task.parties)",
            "leave it out",
        )
    generator = numpy_generator(config.federation.seed, "partition", "vertical")
    drawn = generator.permutation(size).astype(np.int64)
    common = round(table.vertical_overlap * size)
    shares = np.array_split(drawn[common:], len(names))
    parts = {}
    for name, own in zip(names, shares, strict=True):
        rows = np.concatenate([drawn[:common], own])
        if len(rows) < table.min_examples:
            raise _too_few(config, name, len(rows), size)
        order = numpy_generator(config.federation.seed, "vertical order", name)
        parts[name] = order.permutation(rows)
    return parts


def _too_few(config: Config, name: str, rows: int, size: int) -> ConfigError:
    return config.error(
        "simulation.vertical_overlap",
        f"'{name}' would have {rows} of the file's {size} rows, and simulation.min_examples is "
        f"{config.simulation.min_examples}",
        "raise it, or lower simulation.min_examples",
    )
