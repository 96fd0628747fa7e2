"""One client after the other: the reference that every other executor is held to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flwr.app import Message
from torch import nn

from wardround.common.flower.arrays import Arrays, layout_of
from wardround.common.flower.hosting import timestamp
from wardround.common.model.named import load_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import clients_of
from wardround.server.strategies.aggregation import RunningMean
from wardround.simulations.executors.base import Executor, Host, is_group
from wardround.simulations.executors.group import (
    EvaluationSums,
    Group,
    TrainingSums,
    evaluate_each,
    refusing,
    train_each,
)


class Sequential(Executor):
    """Exact and deterministic; one reply is in memory at a time."""

    name = "sequential"

    def answers(self, messages: Iterable[Message], host: Host) -> Iterator[Message]:
        for message in messages:
            yield self.answer_group(message, host) if is_group(message) else host.answer(message)

    def answer_group(self, message: Message, host: Host) -> Message:
        """The sums of a group's clients."""
        message.metadata.created_at = timestamp()
        reply = self._group_reply(message, host)
        # each client's time is its own, as if every one had a machine
        clients = len(clients_of(message.content))
        took_s = (timestamp() - message.metadata.created_at) / max(1, clients)
        reply.metadata.created_at = message.metadata.created_at + took_s
        return reply

    def _group_reply(self, message: Message, host: Host) -> Message:
        try:
            group = Group(message, host)
            model, x = group.model()
            if message.metadata.message_type == m.EVALUATE:
                load_arrays(model, x)
                return self.evaluate(group, model).reply(group)
            sums = TrainingSums(RunningMean(layout_of(x)), refused=dict(group.failed))
            self.train(group, [n for n in group.node_ids if n not in group.failed], model, x, sums)
            return sums.reply(group)
        except Exception as error:
            return refusing(message, error)

    def train(
        self, group: Group, node_ids: list[int], model: nn.Module, x: Arrays, sums: TrainingSums
    ) -> None:
        """Train these clients of a group and fold their updates into ``sums``."""
        train_each(group, node_ids, model, x, sums)

    def evaluate(self, group: Group, model: nn.Module) -> EvaluationSums:
        """Metric sums of a group's clients, of the model as it is."""
        return evaluate_each(group, model)
