"""How simulated clients are run: one after the other, many at once, in many processes.

    sequential cohort auto     executors, each of which is a way to answer messages
    workers/ on_ray/           the executors that spread clients over workers
    group sums                 a message for many clients, and the sums that answer it
    one_by_one at_once singles what executors do with a message: the reference, and many at once
    trainer example_pool       chunks of clients, and their examples in one tensor
    engines/                   the arithmetic of many clients' steps

What a cohort can't do with ``[training]`` is said by one function, ``trainer.one_at_a_time``. The
grid drives an executor; it drives trainers or workers, and those the code of a hospital. Every
executor gives what the sequential one gives. It never changes what a hospital computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from wardround.simulations.executors.auto import Auto
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.executors.workers.processes import (
    PROCESSES,
    SEQUENTIAL_PROCESSES,
    processes,
)

__all__ = ["EXECUTORS", "Auto", "Executor", "make_executor"]

EXECUTORS: dict[str, Callable[[], Executor]] = {
    Auto.name: Auto,
    Sequential.name: Sequential,
    Cohort.name: Cohort,
    PROCESSES: processes,
    SEQUENTIAL_PROCESSES: partial(processes, forms=False),
}


def make_executor(name: str, say: Callable[[str, str], None] = lambda name, why: None) -> Executor:
    """The executor of that name. ``say``: is told what 'auto' picks, and why."""
    return Auto(say) if name == Auto.name else EXECUTORS[name]()
