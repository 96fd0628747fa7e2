"""How simulated clients are run: one after the other, many at once, in many processes.

Every executor gives what the sequential one gives. It never changes what a hospital computes.
"""

from __future__ import annotations

from collections.abc import Callable

from wardround.simulations.executors.auto import Auto
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.processes import Processes, SequentialProcesses
from wardround.simulations.executors.sequential import Sequential

__all__ = ["EXECUTORS", "Auto", "Executor", "make_executor"]

EXECUTORS: dict[str, type[Executor]] = {
    kind.name: kind for kind in (Auto, Sequential, Cohort, Processes, SequentialProcesses)
}


def make_executor(name: str, say: Callable[[str, str], None] = lambda name, why: None) -> Executor:
    """The executor of that name. ``say``: is told what 'auto' picks, and why."""
    return Auto(say) if name == Auto.name else EXECUTORS[name]()
