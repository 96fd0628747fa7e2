"""What runs clients on a Ray cluster: an actor that builds the simulation's hospitals for itself.

It is given a ``Plan``, from which every actor makes the same hospitals: the data must be where the
configuration says, on each machine. Only bytes come in and go out. It imports no Ray, which makes
an actor of it (``on_ray.py``).
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import torch
from flwr.app import ConfigRecord, RecordDict

from wardround.client.app import reason_of
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import DataError, WardroundError
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import refused_values
from wardround.common.text import one_line
from wardround.common.trust.identity import Identity
from wardround.simulations.executors.cohort import Cohort
from wardround.simulations.executors.group import Group, failed_with
from wardround.simulations.executors.parcel import Parcel
from wardround.simulations.executors.worker import Done, Order, group_request, work
from wardround.simulations.population.hospitals import Population
from wardround.simulations.population.identities import Identities

EXTENTS = "query.extents"
"""An order of its own: how much clients train on, instead of training."""
NODES, SIZES, WIDTHS = "nodes", "sizes", "widths"


@dataclass(frozen=True)
class Plan:
    """What a simulation's hospitals are made from.

    config : TOML text with absolute paths
    names : digest of the hospitals' names, in order
    secrets : of their identities, hexadecimal, by name; empty where none is needed
    release : wardround's
    """

    config: str
    names: str
    secrets: dict[str, str]
    release: str

    @classmethod
    def of(cls, population: Population) -> Plan:
        """The plan of a simulation's own hospitals."""
        config, secrets = population.config, {}
        if config.secure_aggregation.enabled:
            for name in population.names:
                identity = population.hospital(name).identity
                assert identity is not None  # made by the population, as its configuration asks
                secrets[name] = identity.secret_bytes().hex()
        return cls(config.to_toml(), _digest(population.names), secrets, _release())

    def to_bytes(self) -> bytes:
        """JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """The plan back."""
        return cls(**json.loads(data))

    def population(self) -> Population:
        """The hospitals, here. Raises WardroundError where they would be others."""
        if self.release != _release():
            raise WardroundError(
                f"wardround {_release()} is installed here, the simulation's is {self.release}; "
                "install the same"
            )
        config = parse_config(self.config)
        found = Population(config, make_task(config), self._identities)
        if _digest(found.names) != self.names:
            raise DataError(
                f"{config.data_path() or 'the example data'}: gives other hospitals here than "
                "where the simulation runs; put the same data there"
            )
        return found

    def _identities(self, names: Sequence[str]) -> Identities:
        return {name: Identity.from_bytes(bytes.fromhex(self.secrets[name])) for name in names}


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def _release() -> str:
    return version("wardround")


class RayActor:
    """Runs clients on one CPU (or GPU) of a cluster."""

    def __init__(self, plan: bytes) -> None:
        self._plan = Plan.from_bytes(plan)
        self._executor = Cohort()
        self._last = (0, Parcel([], []))

    def open(self) -> list[str]:
        """Make the hospitals; gives this machine's name, and why it can't be done or ''."""
        from wardround.simulations.grid import InProcessGrid

        torch.set_num_threads(1)
        try:
            population = self._plan.population()
        except WardroundError as error:
            return [socket.gethostname(), one_line(str(error), 500)]
        except Exception as error:  # whatever a task of the user's own may raise
            return [socket.gethostname(), reason_of(error)]
        names, keep = population.names, population.keep
        self._grid = InProcessGrid(names, hospitals=population.open, keep=keep)
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
                done, reply = work(self._executor, self._grid, order, self._last[1])
            return done.to_bytes(), reply.to_bytes()
        except Exception as error:
            reasons = dict.fromkeys(range(len(order.nodes)), reason_of(error))
            return Done(order.number, reasons, []).to_bytes(), b""

    def _extents(self, order: Order, parcel: Parcel) -> tuple[Done, Parcel]:
        group = Group(group_request(order, parcel), self._grid)
        nodes, sizes, widths = [], [], []
        refused: dict[int, str] = {}
        for node in order.nodes:
            try:
                examples = group.examples(node)["train"]
            except Exception as error:
                refused[node] = failed_with(reason_of(error))
                continue
            nodes.append(node)
            sizes.append(len(examples))
            widths.append(examples.inputs[:1].numel())
        found = ConfigRecord(
            {
                NODES: nodes,
                SIZES: sizes,
                WIDTHS: widths,
                **refused_values(refused),
            }
        )
        return Done(order.number, {}, []), Parcel([RecordDict({m.CONFIG: found})], [])
