"""What actors are asked because the simulation itself doesn't look into the shards: how much
clients train on, and the metric sums of a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord

from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import refused_of
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.on_ray.actor import EXTENTS, NODES, SIZES, WIDTHS
from wardround.simulations.executors.sums import EvaluationSums, Refused
from wardround.simulations.executors.workers.orders import Task
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.spread import MOST_CLIENTS_A_TASK
from wardround.simulations.executors.workers.tasks import Tasks

_MOST_KNOWN = 1 << 17
"""Clients of whom something is noted; there may be more in a virtual population."""
_TASKS_A_GROUP = 64
"""So many at least, where there are clients enough, that every actor has some."""


@dataclass(frozen=True)
class _Extent:
    node_id: int
    size: int
    width: int


class AskedExtents:
    """How much clients train on, by those that have read their shards."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._known: dict[int, _Extent] = {}
        self._digest = ""

    def of(self, group: Group, node_ids: list[int], refused: Refused) -> Sequence[_Extent]:
        """These clients' extents; why others can't train goes to ``refused``."""
        if self._digest != group.digest or len(self._known) > _MOST_KNOWN:
            self._digest, self._known = group.digest, {}
        new = [node for node in node_ids if node not in self._known]
        for finished in self._tasks.run(_asking(self._tasks, group, EXTENTS, new), group.clients):
            if (content := finished.group_reply) is None:
                refused |= dict.fromkeys(finished.task.order.nodes, finished.reason)
                continue
            config = content[m.CONFIG]
            assert isinstance(config, ConfigRecord)  # made by an actor
            refused |= refused_of(content)
            columns = (map(int, _listed(config, name)) for name in (NODES, SIZES, WIDTHS))
            for node, size, width in zip(*columns, strict=True):
                self._known[node] = _Extent(node, size, width)
        return [self._known[node] for node in node_ids if node in self._known]


class AskedEvaluation:
    """Metric sums of a group's clients, from the actors."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    def evaluate(self, group: Group) -> EvaluationSums:
        """Of the model as it was sent."""
        found = EvaluationSums()
        found.refused |= group.failed
        nodes = [node for node in group.node_ids if node not in group.failed]
        todo = _asking(self._tasks, group, m.EVALUATE, nodes)
        for finished in self._tasks.run(todo, group.clients):
            if (content := finished.group_reply) is None:
                found.refused |= dict.fromkeys(finished.task.order.nodes, finished.reason)
            else:
                found.add_content(content)
        return found


def _asking(tasks: Tasks, group: Group, kind: str, nodes: list[int]) -> list[Task]:
    """Tasks for a group's clients in their order."""
    most = max(1, min(MOST_CLIENTS_A_TASK, -(-len(nodes) // _TASKS_A_GROUP)))
    return tasks.of_group(Parcel([group.message.content], []), kind, nodes, most=most)


def _listed(config: ConfigRecord, name: str) -> list[Any]:
    values = config[name]
    assert isinstance(values, list)
    return values
