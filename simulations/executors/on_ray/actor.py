"""What runs clients on a Ray cluster: an actor that builds the simulation's hospitals for itself.

It is given a ``Recipe``, from which every actor makes the same hospitals: the data must be where
the configuration says, on each machine. Only bytes come in and go out. It imports no Ray, which
makes an actor of it (``pool.py``).
"""

from __future__ import annotations

import json
import socket

import torch
from flwr.app import ConfigRecord, RecordDict

from wardround.common.errors import WardroundError, reason_of
from wardround.common.flower.hosting import become_client
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import refused_values
from wardround.common.tasks.inputs import width
from wardround.common.text import one_line
from wardround.simulations.clients import Clients
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.group import Group
from wardround.simulations.executors.on_ray.recipe import Recipe
from wardround.simulations.executors.sums import Refused, failed_with
from wardround.simulations.executors.workers.orders import Done, Order
from wardround.simulations.executors.workers.parcel import Parcel
from wardround.simulations.executors.workers.worker import group_request, work

EXTENTS = "query.extents"
"""An order of its own: how much clients train on, instead of training."""
NODES, SIZES, WIDTHS = "nodes", "sizes", "widths"


class RayActor:
    """Runs clients on one CPU (or GPU) of a cluster."""

    def __init__(self, recipe: bytes) -> None:
        self._recipe = Recipe.from_bytes(recipe)
        self._executor = Cohort()
        self._last = (0, Parcel([], []))

    def open(self) -> list[str]:
        """Make the hospitals; gives this machine's name, and why it can't be done or ''."""
        torch.set_num_threads(1)
        become_client()  # Flower's messages ask whose process this is
        try:
            population = self._recipe.population()
        except WardroundError as error:
            return [socket.gethostname(), one_line(str(error), 500)]
        except Exception as error:  # whatever a task of the user's own may raise
            return [socket.gethostname(), reason_of(error)]
        names, keep = population.names, population.keep
        self._clients = Clients(names, hospitals=population.open, keep=keep)
        return [socket.gethostname(), ""]

    def work(self, told: bytes, number: int, request: bytes) -> tuple[bytes, bytes]:
        """Do an order on request ``number``; gives what is said, and the reply's parcel."""
        order = Order(**json.loads(told))
        try:
            if self._last[0] != number:
                self._last = (number, Parcel.from_bytes(request))
            if order.kind == EXTENTS:
                done, reply = self._extents(order, self._last[1])
            else:
                done, reply = work(self._executor, self._clients, order, self._last[1])
            return done.to_bytes(), reply.to_bytes()
        except Exception as error:
            return Done.failed(order, reason_of(error)).to_bytes(), b""

    def _extents(self, order: Order, parcel: Parcel) -> tuple[Done, Parcel]:
        group = Group(group_request(order, parcel), self._clients)
        nodes, sizes, widths = [], [], []
        refused: Refused = {}
        for node in order.nodes:
            try:
                examples = group.examples(node)["train"]
            except Exception as error:
                refused[node] = failed_with(reason_of(error))
                continue
            nodes.append(node)
            sizes.append(len(examples))
            widths.append(width(examples.inputs))
        columns = {NODES: nodes, SIZES: sizes, WIDTHS: widths}
        found = ConfigRecord(columns | refused_values(refused))
        return Done(order.number, {}, []), Parcel([RecordDict({m.CONFIG: found})], [])
