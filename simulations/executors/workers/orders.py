"""What a worker is told and what it says: lines of JSON beside the parcels."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from wardround.simulations.executors.workers.parcel import Parcel


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    number : of the task, for the reply
    kind : message type
    nodes : node ids; of a group, or of the parcel's messages
    group : whether the parcel is one message for all of them
    """

    number: int
    kind: str
    nodes: list[int]
    group: bool

    def values(self) -> dict[str, Any]:
        """All of it, for JSON; ``Order(**values)`` reads it."""
        return asdict(self)


@dataclass(frozen=True)
class Done:
    """What a worker says of an order.

    errors : reasons of messages without a reply, by position
    seconds : that each message took
    """

    number: int
    errors: dict[int, str]
    seconds: list[float]

    @classmethod
    def failed(cls, order: Order, reason: str) -> Done:
        """Nothing of the order could be done."""
        return cls(order.number, dict.fromkeys(range(len(order.nodes)), reason), [])

    def to_bytes(self) -> bytes:
        """One line."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Done:
        """The line back."""
        found = json.loads(data)
        errors = {int(key): str(value) for key, value in found["errors"].items()}
        return cls(int(found["number"]), errors, [float(x) for x in found["seconds"]])


@dataclass(frozen=True, eq=False)
class Task:
    """An order and the parcel that it is about, which several tasks may share."""

    order: Order
    parcel: Parcel


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of an order.

    done : None if the worker died
    parcel : the reply's; None if there is none
    how : a worker that died ended
    """

    number: int
    done: Done | None
    parcel: Parcel | None = None
    how: str = ""
