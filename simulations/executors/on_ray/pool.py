"""A pool of Ray actors.

An actor makes the hospitals for itself and keeps the shards it has opened. A round's request is put
into the cluster once, and a task's reply holds sums. An actor that is lost is replaced where there
is room; while there is none, the others do its work.
"""

from __future__ import annotations

import importlib
import itertools
import json
import warnings
from collections import deque
from dataclasses import dataclass
from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import ConfigError, WardroundError
from wardround.simulations.clients import Clients
from wardround.simulations.executors.on_ray.actor import RayActor
from wardround.simulations.executors.on_ray.checks import no_cluster
from wardround.simulations.executors.on_ray.recipe import Recipe
from wardround.simulations.executors.workers.orders import Answer, Done, Task
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.tasks import WorkerPool

_START_S = 180.0
"""How long no actor at all may be there."""
_MOST_FAILED_STARTS = 3
_MOST_KNOWN = 1 << 17
"""Clients whose actor is noted; there may be more in a virtual population."""
_LOOK_AHEAD = 64
"""Tasks among which an actor is given one that it knows: those behind are shorter."""
_MOST_LOOKED_AT = 16


@dataclass(eq=False)
class _Actor:
    """An actor. ``said``: refers to what it will say, of ``open`` first, then of an order."""

    handle: Any
    said: Any
    reply: Any = None
    order: int | None = None
    opened: bool = False


class RayPool(WorkerPool):
    """Actors of a Ray cluster, one per CPU (per GPU, where training is on one).

    Parameters
    ----------
    recipe : of the hospitals
    config : the same as the recipe's, for errors that name a line
    """

    called = "Ray actor"

    def __init__(self, recipe: Recipe, config: Config) -> None:
        self._recipe, self._config = recipe, config
        self._ray: Any = None
        self._ours = False
        self._kind: Any = None
        self._recipe_there: Any = None
        self._actors: list[_Actor] = []
        self._failed_starts = 0
        self._requests: dict[int, tuple[int, Any]] = {}
        self._request_numbers = itertools.count(1)
        self._home: dict[int, _Actor] = {}

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
                raise no_cluster(self._config, error) from None
            self._ours = True
        gpu = self._config.training.device == "cuda"
        count = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0))
        if not count:
            raise ConfigError(
                f"simulation.executor: the Ray cluster has no {'GPU' if gpu else 'CPU'} to run on; "
                "join a machine that has by `ray start --address=HOST:PORT`"
            )
        self._kind = ray.remote(num_cpus=1, num_gpus=int(gpu), max_restarts=0)(RayActor)
        self._recipe_there = ray.put(self._recipe.to_bytes())
        self._actors = [self._start() for _ in range(count)]

    def _start(self) -> _Actor:
        handle = self._kind.remote(self._recipe_there)
        return _Actor(handle, handle.open.remote())

    # --- how messages travel -----------------------------------------------------------------
    def hand_out(self, waiting: deque[Task], clients: Clients) -> None:
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

    def finished(self, clients: Clients) -> list[Answer]:
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
