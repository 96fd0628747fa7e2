"""Clients spread over a Ray cluster, for simulations that outgrow one machine.

An actor per CPU (per GPU, where training is on one) makes the hospitals for itself and keeps the
shards it has opened; tasks are those of ``processes.py``, so the model is the same, bit for bit. A
round's request is put into the cluster once, and a task's reply holds sums. An actor that is lost
is replaced where there is room; while there is none, the others do its work.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import socket
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flwr.app import ConfigRecord
from torch import nn

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError, WardroundError
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import CohortEvaluateReply, refused_of
from wardround.common.text import one_line
from wardround.simulations.executors.base import Host
from wardround.simulations.executors.group import EvaluationSums, Group
from wardround.simulations.executors.parcel import Parcel
from wardround.simulations.executors.ray_actor import (
    EXTENTS,
    NODES,
    SIZES,
    WIDTHS,
    Plan,
    RayActor,
)
from wardround.simulations.executors.spread import (
    MOST_CLIENTS_A_TASK,
    Answer,
    Spread,
    Task,
    reason_given,
)
from wardround.simulations.executors.trainer import Extent
from wardround.simulations.executors.worker import Done

NAME = "ray"
_ANSWER_S = 5.0
_START_S = 180.0
"""How long no actor at all may be there."""
_MOST_FAILED_STARTS = 3
_MOST_KNOWN = 1 << 17
"""Clients of whom something is noted; there may be more in a virtual population."""
_LOOK_AHEAD = 64
"""Tasks among which an actor is given one that it knows: those behind are shorter."""
_MOST_LOOKED_AT = 16


def check_ray(config: Config, own_task: bool) -> None:
    """Raise ConfigError where a run can't be on Ray.

    own_task : whether the task is an object that exists in this process only
    """
    key = "simulation.executor"
    if importlib.util.find_spec("ray") is None:
        raise config.error(key, "'ray' needs Ray; pip install 'wardround[ray]'")
    if own_task:
        raise config.error(
            key,
            "'ray' can't send a task that is an object of this process; name it by task.name = "
            "'path/to/file.py:Class', at the same path on each machine",
        )
    if config.privacy.enabled:
        raise config.error(
            key,
            "'ray' doesn't go with [privacy]: the hospitals' ledgers are files of this machine, "
            "and actors elsewhere can't write them; use 'processes'",
        )
    if config.training.device not in ("cpu", "cuda"):
        raise config.error(
            "training.device",
            f"'{config.training.device}' with executor 'ray'; use 'cpu' or 'cuda': Ray gives each "
            "actor a GPU of its own",
        )
    _check_address(config)


def _check_address(config: Config) -> None:
    """Whether anyone listens there: Ray itself would try for minutes."""
    host, _, port = config.simulation.ray_address.rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(config, error) from None


def _no_cluster(config: Config, error: Exception) -> ConfigError:
    address = config.simulation.ray_address
    where = f"at '{address}'" if address else "on this machine"
    return config.error(
        "simulation.ray_address",
        f"no Ray cluster {where} ({one_line(str(error), 100)}); start one there by `ray start "
        "--head --port=6379`",
    )


@dataclass(frozen=True)
class _Extent:
    node_id: int
    size: int
    width: int


@dataclass(eq=False)
class _Actor:
    """An actor. ``said``: refers to what it will say, of ``open`` first, then of an order."""

    handle: Any
    said: Any
    reply: Any = None
    order: int | None = None
    opened: bool = False


class OnRay(Spread):
    """Runs clients in actors.

    Parameters
    ----------
    plan : of the hospitals
    config : the same as the plan's, for errors that name a line
    """

    name = NAME
    worker = "Ray actor"
    works_on = None

    def __init__(self, plan: Plan, config: Config) -> None:
        super().__init__()
        self._plan, self._config = plan, config
        self._ray: Any = None
        self._ours = False
        self._kind: Any = None
        self._plan_there: Any = None
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        self._requests: dict[int, tuple[int, Any]] = {}
        self._request_numbers = itertools.count(1)
        self._home: dict[int, _Actor] = {}
        self._extents: dict[int, _Extent] = {}
        self._of = ""

    def close(self) -> None:
        if self._ray is None:
            return
        for actor in self._actors:
            try:
                self._ray.kill(actor.handle)
            except self._ray.exceptions.RayError:
                continue  # it is gone, or the cluster is
        if self._ours:
            self._ray.shutdown()
        self._actors, self._requests, self._home = [], {}, {}
        self._ray, self._ours = None, False

    # --- the cluster -------------------------------------------------------------------------
    def _connect(self) -> None:
        ray = importlib.import_module("ray")
        self._ray = ray
        if not ray.is_initialized():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Ray's notices of its own future
                    ray.init(
                        self._config.simulation.ray_address or None,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                    )
            except (ConnectionError, RuntimeError, ValueError, OSError) as error:
                raise _no_cluster(self._config, error) from None
            self._ours = True
        gpu = self._config.training.device == "cuda"
        count = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
        if not count:
            raise ConfigError(
                f"simulation.executor: the Ray cluster has no {'GPU' if gpu else 'CPU'} to run on; "
                "join a machine that has by `ray start --address=HOST:PORT`"
            )
        self._kind = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0)(RayActor)
        self._plan_there = ray.put(self._plan.to_bytes())
        self._actors = [self._start() for _ in range(count)]

    def _start(self) -> _Actor:
        handle = self._kind.remote(self._plan_there)
        return _Actor(handle, handle.open.remote())

    # --- how messages travel -----------------------------------------------------------------
    def hand_out(self, waiting: deque[Task], host: Host) -> None:
        if self._ray is None:
            self._connect()
        for actor in self._actors:
            if waiting and actor.opened and actor.order is None:
                task = self._fitting(actor, waiting)
                waiting.remove(task)
                self._send(actor, task)

    def _fitting(self, actor: _Actor, waiting: deque[Task]) -> Task:
        """One of the next tasks, the one most of whose clients this actor has had before."""

        def known(task: Task) -> int:
            nodes = task.order.nodes[:_MOST_LOOKED_AT]
            return sum(self._home.get(node) is actor for node in nodes)

        return max(itertools.islice(waiting, _LOOK_AHEAD), key=known)

    def _send(self, actor: _Actor, task: Task) -> None:
        found = self._requests.get(id(task.parcel))
        if found is None:
            put = self._ray.put(task.parcel.to_bytes())
            found = self._requests[id(task.parcel)] = (next(self._request_numbers), put)
        number, request = found
        told = json.dumps(task.order.values()).encode()
        method = actor.handle.work.options(num_returns=2)
        actor.order = task.order.number
        actor.said, actor.reply = method.remote(told, number, request)
        if len(self._home) > _MOST_KNOWN:
            self._home = {}
        self._home |= dict.fromkeys(task.order.nodes, actor)

    def finished(self, host: Host) -> list[Answer]:
        pending = {actor.said: actor for actor in self._actors if not actor.opened or actor.order}
        timeout_s = None if any(actor.opened for actor in self._actors) else _START_S
        said, _ = self._ray.wait(list(pending), num_returns=1, timeout=timeout_s)
        if not said:
            raise WardroundError(
                f"no Ray actor could start in {_START_S:.0f} s: the cluster's CPUs or GPUs are "
                "taken, or its machines gone; `ray status` shows what it has"
            )
        found = (self._heard(pending[one]) for one in said)
        return [answer for answer in found if answer is not None]

    def _heard(self, actor: _Actor) -> Answer | None:
        number, actor.order = actor.order, None
        try:
            if number is None:
                self._opened(actor, *self._ray.get(actor.said))
                return None
            done = Done.from_bytes(self._ray.get(actor.said))
            data = self._ray.get(actor.reply)
            actor.said = actor.reply = None
            return Answer(number, done, Parcel.from_bytes(data) if data else None)
        except self._ray.exceptions.RayError as error:
            how = type(error).__name__
            self._replace(actor)
            if number is not None:
                return Answer(number, None, None, how)
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                raise WardroundError(
                    f"{_MOST_FAILED_STARTS} Ray actors in a row ended while they started, the last "
                    f"with {how}; is there memory for the data, and is wardround installed on each "
                    "machine?"
                ) from None
            return None

    def _opened(self, actor: _Actor, machine: str, reason: str) -> None:
        if reason:
            raise WardroundError(
                f"Ray node {machine}: {reason} (wardround, data and task must be the same on each)"
            )
        actor.opened, self._failed_starts = True, 0

    def _replace(self, lost: _Actor) -> None:
        try:
            self._ray.kill(lost.handle)  # it may be out of reach only
        except self._ray.exceptions.RayError:
            pass
        self._actors[self._actors.index(lost)] = self._start()
        self._home = {node: actor for node, actor in self._home.items() if actor is not lost}

    def release(self, parcel: Parcel) -> None:
        self._requests.pop(id(parcel), None)

    # --- what the simulation itself doesn't look into the shards for --------------------------
    def extents(
        self, group: Group, parcel: Parcel, node_ids: list[int], refused: dict[int, str]
    ) -> Sequence[Extent]:
        if self._of != group.digest or len(self._extents) > _MOST_KNOWN:
            self._of, self._extents = group.digest, {}
        new = [node for node in node_ids if node not in self._extents]
        for task, done, reply in self.run(self._parts(parcel, EXTENTS, new), group.host):
            if reply is None or done.errors:
                refused |= dict.fromkeys(task.order.nodes, reason_given(done))
                continue
            config = reply.contents[0][m.CONFIG]
            assert isinstance(config, ConfigRecord)  # made by ray_actor.py
            refused |= refused_of(reply.contents[0])
            columns = (map(int, _listed(config, name)) for name in (NODES, SIZES, WIDTHS))
            for node, size, width in zip(*columns, strict=True):
                self._extents[node] = _Extent(node, size, width)
        return [self._extents[node] for node in node_ids if node in self._extents]

    def evaluate(self, group: Group, model: nn.Module) -> EvaluationSums:
        found = EvaluationSums()
        found.refused |= group.failed
        nodes = [node for node in group.node_ids if node not in group.failed]
        tasks = self._parts(Parcel([group.message.content], []), m.EVALUATE, nodes)
        for task, done, reply in self.run(tasks, group.host):
            if reply is None or done.errors:
                found.refused |= dict.fromkeys(task.order.nodes, reason_given(done))
            else:
                _fold_evaluation(reply, found)
        return found

    def _parts(self, parcel: Parcel, kind: str, nodes: list[int]) -> list[Task]:
        """Tasks for a group's clients in their order, small enough that every actor has some."""
        size = max(1, min(MOST_CLIENTS_A_TASK, -(-len(nodes) // 64)))
        return [
            self.task(parcel, kind, nodes[start : start + size], True)
            for start in range(0, len(nodes), size)
        ]


def _fold_evaluation(parcel: Parcel, found: EvaluationSums) -> None:
    """Add a task's metric sums, client by client, as they would be had here."""
    (content,) = parcel.contents
    reply = CohortEvaluateReply.from_records(content)
    found.refused |= reply.refused
    for part in reply.parts:
        for index, node in enumerate(part.clients):
            sums = {key: value[index] for key, value in part.sums.items()}
            found.add(part.split, node, sums)


def _listed(config: ConfigRecord, name: str) -> list[Any]:
    values = config[name]
    assert isinstance(values, list)
    return values
