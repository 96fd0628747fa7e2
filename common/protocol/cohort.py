"""A message to many clients of one process (a simulation's), and the sums that answer it.

The request is one for training or evaluation with ``clients`` in its model's settings, and for
training a ``weighting``. The reply holds sums over the clients, or metric sums stacked over them,
and says who is in it. Both ends are of one program: these never cross between versions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from numpy.typing import NDArray

from wardround.common.errors import ReplyRefused
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Layout, decode_arrays, encode_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.message import (
    REPLY,
    REQUEST,
    Came,
    Content,
    Kind,
    Records,
    Value,
    number,
    texts,
    values,
    wholes,
)
from wardround.common.protocol.model import CLIENTS, STATE_ROUND
from wardround.common.protocol.train import WEIGHTING

ACCEPTED = Value(m.CONFIG, "accepted", wholes())
REFUSED = Value(m.CONFIG, "refused", wholes())
REASONS = Value(m.CONFIG, "reasons", texts())
WEIGHT = Value(m.METRICS, "weight", number())
LOSS = Value(m.METRICS, m.TRAIN_LOSS, number())
STEPS = Value(m.METRICS, m.LOCAL_STEPS, number())
QUANTILE = Value(m.METRICS, m.QUANTILE, number())
SPENT = Value(m.CONFIG, "spent", wholes())
MORE = Value(m.CONFIG, "more", wholes())
_EPSILONS = "epsilons"
_WHO = "the cohort's reply doesn't say who is in it"


def clients_of(content: Content) -> tuple[int, ...]:
    """Node ids of all whom a request is for; () where it is for one client."""
    record = content.get(m.CONFIG)
    found = CLIENTS.kind.take(record.get(CLIENTS.key)) if isinstance(record, ConfigRecord) else None
    return found or ()


def with_clients(content: Content, clients: Iterable[int]) -> Content:
    """The same request, for these clients."""
    config = dict(Came(content, REQUEST).config()) | values((CLIENTS, tuple(clients)))
    return Content({**content, m.CONFIG: ConfigRecord(config)})


def common_part(content: Content) -> Content:
    """What a request asks, whoever is asked it: of two attempts at a round the same."""
    config = dict(Came(content, REQUEST).config())
    for value in (CLIENTS, WEIGHTING, STATE_ROUND):
        config.pop(value.key, None)
    return Content({**content, m.CONFIG: ConfigRecord(config)})


def for_one(content: Content) -> Content:
    """The same request, as it would be for one client alone."""
    config = dict(Came(content, REQUEST).config())
    config.pop(CLIENTS.key, None)
    return Content({**content, m.CONFIG: ConfigRecord(config)})


def add_weighting(content: Content, weighting: str) -> None:
    """Say in a training request what each client counts for: 'examples' or 'uniform'."""
    Came(content, REQUEST).config()[WEIGHTING.key] = weighting


@dataclass(frozen=True, eq=False)
class CohortTrainReply:
    """Sums over the clients whose update counts.

    accepted : their node ids
    refused : why others are not in the sums, by node id
    weight : sum of the clients' weights
    loss, steps : sums of theirs, times their weight
    sums : of their arrays, times their weight; float64, of the model's names and shapes
    quantile : where the clipping norm adapts, the sum of their quantile coordinates
    epsilons : in a private run, what each of ``accepted`` has spent by its ledger
    more : whose ledgers allow the same round once more, by node id
    spent : of ``refused``, those whose budget or ledger doesn't allow it
    """

    type: ClassVar = m.TRAIN
    accepted: tuple[int, ...]
    refused: Mapping[int, str]
    weight: float
    loss: float
    steps: float
    sums: Mapping[str, NDArray[Any]]
    quantile: float | None = None
    epsilons: tuple[float, ...] = ()
    more: tuple[int, ...] = ()
    spent: tuple[int, ...] = ()

    def to_records(self) -> Content:
        who = values((ACCEPTED, self.accepted)) | refused_values(self.refused)
        if self.epsilons or self.spent:
            who |= values((MORE, self.more), (SPENT, self.spent))
            who[_EPSILONS] = list(self.epsilons)
        sums = values(
            (LOSS, self.loss), (STEPS, self.steps), (WEIGHT, self.weight), (QUANTILE, self.quantile)
        )
        return Content(
            {
                m.CONFIG: ConfigRecord(who),
                m.METRICS: MetricRecord(sums),
                m.ARRAYS: encode_arrays(self.sums),
            }
        )

    @classmethod
    def from_records(
        cls, content: Content, layout: Layout | None = None, max_abs: float = math.inf
    ) -> CohortTrainReply:
        """Raises ReplyRefused. ``layout``, ``max_abs``: of the sums, as ``decode_arrays`` has
        them."""
        came = Came(content, REPLY)
        accepted, refused = _nodes(came, ACCEPTED.key), refused_of(content)
        metrics, arrays = content.get(m.METRICS), content.get(m.ARRAYS)
        if not isinstance(metrics, MetricRecord) or not isinstance(arrays, ArrayRecord):
            raise ReplyRefused("the cohort's reply has no sums")
        found = [one.kind.take(metrics.get(one.key)) for one in (WEIGHT, LOSS, STEPS)]
        numbers = [one for one in found if one is not None]
        if len(numbers) != 3 or (accepted and numbers[0] <= 0):
            raise ReplyRefused("the cohort's weight, loss or steps are no numbers")
        weight, loss, steps = numbers
        return cls(
            accepted,
            refused,
            weight,
            loss,
            steps,
            decode_arrays(arrays, layout, max_abs),
            QUANTILE.kind.take(metrics.get(QUANTILE.key)),
            _epsilons(came, len(accepted)),
            _nodes(came, MORE.key),
            _nodes(came, SPENT.key),
        )


@dataclass(frozen=True, eq=False)
class StackedSums:
    """Metric sums of clients that have them alike: names and shapes.

    split : 'validation' or 'test'
    clients : node ids
    sums : each with one row for each client, in their order
    """

    split: str
    clients: tuple[int, ...]
    sums: Sums


@dataclass(frozen=True, eq=False)
class CohortEvaluateReply:
    """Metric sums of the clients. ``refused``: why others have none, by node id."""

    type: ClassVar = m.EVALUATE
    parts: tuple[StackedSums, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)

    def to_records(self) -> Content:
        records, who = Records(), dict[str, Any]()
        for index, part in enumerate(self.parts):
            name = f"{part.split}/{index}"
            who[name] = list(part.clients)
            records[name] = encode_arrays(part.sums)
        records[m.CONFIG] = ConfigRecord(who | refused_values(self.refused))
        return Content(records)

    @classmethod
    def from_records(cls, content: Content, max_abs: float = math.inf) -> CohortEvaluateReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        refused, parts = refused_of(content), []
        for name, record in m.records_of(content, ArrayRecord).items():
            split = name.partition("/")[0]
            if split not in m.HELD_OUT:
                raise ReplyRefused(f"record '{name[:100]}' is of no split")
            clients = _nodes(came, name)
            sums = decode_arrays(record, max_abs=max_abs)
            if any(not value.ndim or len(value) != len(clients) for value in sums.values()):
                raise ReplyRefused("the cohort's metric sums are not one for each client")
            parts.append(StackedSums(split, clients, sums))
        return cls(tuple(parts), refused)


@dataclass(frozen=True, eq=False)
class CohortMaskedReply:
    """The sum of the clients' vectors, whose masks are emulated (``common/secagg/emulated.py``).

    vector : as one client's would be: update coordinates, then exact ones of 24 bytes
    """

    accepted: tuple[int, ...]
    refused: Mapping[int, str]
    vector: bytes | memoryview

    def to_records(self) -> Content:
        who = values((ACCEPTED, self.accepted)) | refused_values(self.refused)
        return Content(
            {m.CONFIG: ConfigRecord(who), m.SECAGG: ConfigRecord({m.VECTOR: bytes(self.vector)})}
        )

    @classmethod
    def from_records(cls, content: Content) -> CohortMaskedReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        vector = came.config(m.SECAGG).get(m.VECTOR)
        if not isinstance(vector, bytes):
            raise ReplyRefused("the cohort's reply has no vector")
        return cls(_nodes(came, ACCEPTED.key), refused_of(content), vector)


@dataclass(frozen=True, eq=False)
class CohortKeyReply:
    """What each client answers to a message of secure aggregation that is for all of them; those
    that answer alike together.

    messages : with the node ids of whose they are
    """

    messages: Mapping[bytes, tuple[int, ...]]
    refused: Mapping[int, str]

    def to_records(self) -> Content:
        who: dict[str, Any] = {str(i): list(of) for i, of in enumerate(self.messages.values())}
        said: dict[str, Any] = {str(i): message for i, message in enumerate(self.messages)}
        return Content(
            {
                m.CONFIG: ConfigRecord(who | refused_values(self.refused)),
                m.SECAGG: ConfigRecord(said),
            }
        )

    @classmethod
    def from_records(cls, content: Content) -> CohortKeyReply:
        """Raises ReplyRefused."""
        came = Came(content, REPLY)
        messages = {
            message: _nodes(came, key)
            for key, message in came.config(m.SECAGG).items()
            if isinstance(message, bytes)
        }
        return cls(messages, refused_of(content))


def refused_values(refused: Mapping[int, str]) -> dict[str, Any]:
    """Why clients are not in a reply, as its settings have it."""
    return {REFUSED.key: list(refused), REASONS.key: list(refused.values())}


def refused_of(content: Content) -> dict[int, str]:
    """Why clients are not in a reply, by node id. Raises ReplyRefused."""
    came = Came(content, REPLY)
    nodes = _nodes(came, REFUSED.key)
    reasons = _listed(came, REASONS.key, REASONS.kind)
    if len(nodes) != len(reasons):
        raise ReplyRefused(_WHO)
    return dict(zip(nodes, reasons, strict=True))


def _nodes(came: Came, key: str) -> tuple[int, ...]:
    nodes = _listed(came, key, ACCEPTED.kind)
    if len(set(nodes)) < len(nodes):
        raise ReplyRefused("the cohort's reply names a client twice")
    return nodes


def _epsilons(came: Came, accepted: int) -> tuple[float, ...]:
    """One for each client whose update counts; none at all in a run without privacy."""
    found = came.config().get(_EPSILONS, [])
    if not isinstance(found, list) or len(found) not in (0, accepted):
        raise ReplyRefused("the cohort's reply doesn't say what each client has spent")
    numbers = tuple(one for one in found if isinstance(one, float) and one >= 0)
    if len(numbers) < len(found):
        raise ReplyRefused("what a client has spent is no number")
    return numbers


def _listed(came: Came, key: str, kind: Kind[Any]) -> tuple[Any, ...]:
    """A list of the reply's settings; empty where it isn't there."""
    found: tuple[Any, ...] | None = kind.take(came.config().get(key, []))
    if found is None:
        raise ReplyRefused(_WHO)
    return found
