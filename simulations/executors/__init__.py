"""How simulated clients are run: one after the other, many at once, in many processes."""

from __future__ import annotations

from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.sequential import Sequential

__all__ = ["EXECUTORS", "Executor", "make_executor"]

EXECUTORS: dict[str, type[Executor]] = {kind.name: kind for kind in (Sequential, Cohort)}


def make_executor(name: str) -> Executor:
    """The executor of that name."""
    return EXECUTORS[name]()
