"""Picks an executor: the fastest of those that it has tried on the first cohort.

Trying costs nothing but time where a cohort is asked by one message, as such training has no
consequence: each executor trains a sample of the clients twice, and the second time counts. Where
messages are for single clients, training may spend privacy or alter what a client remembers, so
nothing is tried.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message

from wardround.common.errors import WardroundError
from wardround.common.protocol import names as m
from wardround.simulations.clients import Clients
from wardround.simulations.executors.base import Executor
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.group import Group, is_group, new_sums
from wardround.simulations.executors.sequential import Sequential
from wardround.simulations.executors.workers.processes import cores, processes
from wardround.simulations.executors.workers.spread import Spread

Candidate = Sequential | Cohort | Spread
FEW = 16
"""Clients in a round below which nothing is gained."""
_SAMPLE = 256
_LONG_S = 1.0
"""Per client and pass: a sample is made smaller than would take longer."""


class Auto(Executor):
    """Runs clients one after the other until training begins, then by what was picked.

    Parameters
    ----------
    say : is told the name of what was picked, and why
    """

    name = "auto"

    def __init__(self, say: Callable[[str, str], None] = lambda name, why: None) -> None:
        self._say, self._picked = say, False
        self._now: Executor = Sequential()

    @property
    def picked(self) -> Executor:
        """The executor in use."""
        return self._now

    def notes(self) -> list[str]:
        return self._now.notes()

    def close(self) -> None:
        self._now.close()

    def answers(self, messages: Iterable[Message], clients: Clients) -> Iterator[Message]:
        listed = list(messages)
        if not self._picked and listed and listed[0].metadata.message_type in (m.TRAIN, m.BEGIN):
            self._picked = True
            self._pick(listed, clients)
        yield from self._now.answers(listed, clients)

    def _pick(self, messages: list[Message], clients: Clients) -> None:
        if not is_group(messages[0]):
            if len(messages) >= FEW:
                self._now = Cohort()
                self._say(
                    Cohort.name, "training of single clients isn't tried: it may cost privacy"
                )
            return
        try:
            group = Group(messages[0], clients)
            times = self._try_all(group)
        except WardroundError:  # the round itself will say what is wrong
            return
        if times:
            best = min(times, key=lambda executor: times[executor])
            self._now = best
            for executor in times:
                if executor is not best:
                    executor.close()
            ordered = sorted(times.items(), key=lambda item: item[1])
            shown = ", ".join(f"{one.name} {took_s * 1e3:.3g} ms" for one, took_s in ordered)
            self._say(best.name, f"a client takes {shown}")

    def _try_all(self, group: Group) -> dict[Candidate, float]:
        nodes = group.node_ids  # also of those that will fail: to ask would count as an attempt
        if len(nodes) < FEW:
            return {}
        one_s = max(1e-5, self._time(Sequential(), group, nodes[:2]))
        sample = nodes[: max(FEW, min(_SAMPLE, int(_LONG_S / one_s)))]
        candidates: list[Candidate] = [Sequential(), Cohort()]
        if cores() > 1:
            candidates += [processes(), processes(forms=False)]
        return {executor: self._time(executor, group, sample) for executor in candidates}

    @staticmethod
    def _time(executor: Candidate, group: Group, nodes: list[int]) -> float:
        """Seconds per client, of the second pass over ``nodes``."""
        started_s = 0.0
        for _ in range(2):
            group.load()
            sums = new_sums(group)
            started_s = time.perf_counter()
            executor.work.train(group, nodes, sums)
        return (time.perf_counter() - started_s) / len(nodes)
