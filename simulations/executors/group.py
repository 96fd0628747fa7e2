"""A message for a group of clients: what it asks, and how it is answered.

In a simulation the server may ask many clients by one message, because one process runs them all:
the reply then holds the weighted sum of their models and never a single one. The arithmetic is the
server's own (``server/strategies/aggregation.py``), client after client in the order of their
names, so that a sequential executor gives the bits that single messages give.

Only what needs nothing of a single client goes so: ``server/gathering/cohorts.py`` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from flwr.app import Message, RecordDict
from torch import Tensor, nn

from wardround.client.algorithms import ALGORITHMS, LocalAlgorithm
from wardround.client.requests.received import shared_arrays, totals_of
from wardround.client.state import ClientState
from wardround.common.errors import reason_of
from wardround.common.flower.arrays import Arrays, layout_of
from wardround.common.flower.hosting import error_reply, timestamp
from wardround.common.model.named import load_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import clients_of
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.train import TrainRequest
from wardround.common.tasks.base import Examples
from wardround.common.text import one_line
from wardround.server.strategies.aggregation import RunningMean
from wardround.simulations.clients import Clients
from wardround.simulations.executors.each import answer_each
from wardround.simulations.executors.group_privacy import GroupPrivacy
from wardround.simulations.executors.ring_sums import RingSums
from wardround.simulations.executors.sums import (
    EvaluationSums,
    GroupSums,
    Refused,
    TrainingSums,
    failed_with,
)


def is_group(message: Message) -> bool:
    """Whether a message is for a group of clients."""
    return message.has_content() and bool(clients_of(message.content))


class Group:
    """The clients that one message asks, and what it sends them. The model is one object that
    all groups use, one after the other: ``load`` puts what was sent into it.

    Attributes
    ----------
    node_ids : whom it asks, in the order of their names
    """

    def __init__(self, message: Message, clients: Clients) -> None:
        self.message, self.clients = message, clients
        self.request: TrainRequest | EvaluateRequest = (
            EvaluateRequest.from_records(message.content)
            if message.metadata.message_type == m.EVALUATE
            else TrainRequest.from_records(message.content)
        )
        self.node_ids = list(self.request.model.clients)
        self.server_round = self.request.model.server_round
        self.totals, self.digest = totals_of(self.request.totals)

    @property
    def training(self) -> TrainRequest:
        """The request, where it is one for training."""
        assert isinstance(self.request, TrainRequest)  # asked by the message's type
        return self.request

    @cached_property
    def failed(self) -> Refused:
        """Clients that don't answer, and why."""
        names = [self.clients.name(x) for x in self.node_ids]
        kind = self.message.metadata.message_type
        reasons = self.clients.failures(kind, self.server_round, names, self.message)
        return {
            node: failed_with(reasons[name])
            for node, name in zip(self.node_ids, names, strict=True)
            if name in reasons
        }

    def examples(self, node_id: int) -> dict[str, Examples]:
        """The client's prepared examples by split."""
        return self.clients.hospital(node_id).examples(self.totals, self.digest)

    def training_examples(self, node_id: int) -> Examples:
        """Those that it trains on, with what a teacher says of them."""
        return self.clients.hospital(node_id).training_examples(self.totals, self.digest)

    @property
    def model(self) -> nn.Module:
        """The model that every client of the group uses."""
        return self._sent[0]

    @property
    def arrays(self) -> Arrays:
        """The model's arrays, x, as they were sent."""
        return self._sent[1]

    @cached_property
    def _sent(self) -> tuple[nn.Module, Arrays]:
        hospital = self.clients.hospital(self.node_ids[0])
        model, initial = self.clients.models.get(hospital, self.totals, self.digest)
        return model, shared_arrays(self.request.model, initial)

    def load(self) -> nn.Module:
        """The model, with what was sent in it."""
        load_arrays(self.model, self.arrays)
        return self.model

    @property
    def kind(self) -> type[LocalAlgorithm]:
        """The client's half of the strategy; one that remembers nothing, for clients of others are
        asked one by one."""
        return ALGORITHMS[self.training.algorithm]

    def algorithm(self, start: dict[str, Tensor] | None = None) -> LocalAlgorithm:
        """The same, for the model as it is now; ``start``: copies of its trained parameters."""
        return self.kind(dict(self._trained), self.training, self._no_state, start)

    @cached_property
    def _trained(self) -> dict[str, Tensor]:
        return {key: p for key, p in self.model.named_parameters() if p.requires_grad}

    @cached_property
    def _no_state(self) -> ClientState:
        return ClientState(RecordDict())

    @cached_property
    def private(self) -> GroupPrivacy | None:
        """The clients' privacy; None in a run without."""
        if self.training.privacy is None:
            return None
        return GroupPrivacy(self.training, self.clients.hospital, self.clients.announced)

    def settled(self, node_ids: list[int], sums: GroupSums) -> list[int]:
        """Those of the clients that train now: in a private run they have paid for it, or it was
        paid for where the group was asked."""
        if self.private is None or self.clients.settled_elsewhere:
            return node_ids
        assert isinstance(sums, TrainingSums)  # under masks private clients are asked one by one

        def check(node_id: int) -> None:
            self.clients.hospital(node_id).training_part()
            self.training_examples(node_id)

        content = self.message.content
        sums.balances, sums.spent = self.private.settle(content, node_ids, check, sums.refused)
        return [node for node in node_ids if node in sums.balances]


@dataclass(frozen=True)
class GroupWork:
    """How an executor does what a group is asked.

    train : trains these clients, who don't fail by the simulation's will, and folds their updates
        into the sums, reasons of failures too
    evaluate : metric sums of the group's clients, of the model as it is; those of ``Group.failed``
        are refused
    """

    train: Callable[[Group, list[int], GroupSums], None]
    evaluate: Callable[[Group], EvaluationSums]


def answer_one(message: Message, clients: Clients, work: GroupWork) -> Message:
    """The reply to a message, be it for one client, by the app, or for a group, by ``work``."""
    if not is_group(message):
        return clients.answer(message)
    started_s = message.metadata.created_at = timestamp()
    reply = _group_reply(message, clients, work)
    # each client's time is its own, as if every one had a machine
    asked = len(clients_of(message.content))
    reply.metadata.created_at = started_s + (timestamp() - started_s) / max(1, asked)
    return reply


def _group_reply(message: Message, clients: Clients, work: GroupWork) -> Message:
    try:
        if is_for_each(message):
            return Message(answer_each(message, clients).content(), reply_to=message)
        group = Group(message, clients)
        sums: GroupSums | EvaluationSums
        if message.metadata.message_type == m.EVALUATE:
            group.load()
            sums = work.evaluate(group)
        else:
            sums = new_sums(group)
            sums.refused |= group.failed
            asked = [node for node in group.node_ids if node not in group.failed]
            work.train(group, group.settled(asked, sums), sums)
        return Message(sums.content(), reply_to=message)
    except Exception as error:
        return error_reply(message, one_line(reason_of(error)))


def is_for_each(message: Message) -> bool:
    """Whether a group's message is answered by each client's own app: all but training, and
    evaluation in plain."""
    kind = message.metadata.message_type
    return kind != m.TRAIN and (kind != m.EVALUATE or m.SECAGG in message.content)


def new_sums(group: Group) -> GroupSums:
    """Sums of nobody yet, of the arrays that the group was sent; under masks, where the message
    asks for these."""
    training = group.training
    if training.masked is not None:
        content, hospital, first = group.message.content, group.clients.hospital, group.node_ids[0]
        return RingSums(training, content, group.model, group.arrays, hospital, first)
    mean = RunningMean(layout_of(group.arrays))
    return TrainingSums(mean, weighting=training.weighting or "uniform")
