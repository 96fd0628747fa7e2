"""What of the model a strategy sees: what it may move, and no more.

Statistics and counters (``common/model/entries.py``) are averaged by the round loop. A strategy
that steps, like Flower's FedAdam, would step running variances too, below zero; one that compares
single updates sees the statistics, which are part of what a hospital says, but no counter: that is
as far from another hospital's as their numbers of rows are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from flwr.app import Array, ArrayRecord, Message, MetricRecord

from wardround.common.flower.arrays import (
    Arrays,
    decode_arrays,
    encode_arrays,
    layout_of,
    record_of,
)
from wardround.common.model.entries import AVERAGED, Entries, Kind
from wardround.common.protocol import names as m
from wardround.server.strategies.aggregation import RunningMean


class StrategyView:
    """Takes entries out before a strategy is asked, and puts them back afterwards.

    individual : whether the strategy compares single updates
    """

    def __init__(self, entries: Entries, individual: bool) -> None:
        kinds = (Kind.COUNTER,) if individual else AVERAGED
        self._hidden = frozenset(entries.names(*kinds))

    def shown(self, arrays: Arrays) -> ArrayRecord:
        """The model as a strategy gets it."""
        return encode_arrays({k: v for k, v in arrays.items() if k not in self._hidden})

    def completed(self, messages: Iterable[Message], arrays: Arrays) -> Iterable[Message]:
        """The strategy's requests, with what it didn't see of the model that was given to it."""
        if not self._hidden:
            return messages
        hidden = encode_arrays({k: v for k, v in arrays.items() if k in self._hidden})
        return [_with(message, hidden, arrays) for message in messages]

    def taken(self, replies: Sequence[Message]) -> Arrays:
        """The weighted means of what the strategy isn't to see; takes it out of the replies."""
        if not self._hidden or not replies:
            return {}
        parts = []
        for reply in replies:
            record = _arrays(reply)
            parts.append(
                decode_arrays(record_of({k: v for k, v in record.items() if k in self._hidden}))
            )
            shown = {k: v for k, v in record.items() if k not in self._hidden}
            reply.content[m.ARRAYS] = record_of(shown)
        if len(parts) == 1:
            return parts[0]
        mean = RunningMean(layout_of(parts[0]))
        for reply, part in zip(replies, parts, strict=True):
            mean.add(part, _weight(reply))
        return mean.mean()


def _with(message: Message, hidden: ArrayRecord, order: Arrays) -> Message:
    record = message.content.get(m.ARRAYS)
    if isinstance(record, ArrayRecord):
        known: dict[str, Array] = {**hidden, **record}
        ordered = {name: known[name] for name in order if name in known}
        message.content[m.ARRAYS] = record_of(ordered | known)
    return message


def _arrays(reply: Message) -> ArrayRecord:
    record = reply.content[m.ARRAYS]
    assert isinstance(record, ArrayRecord)  # made by the gatherer
    return record


def _weight(reply: Message) -> float:
    metrics = reply.content[m.METRICS]
    assert isinstance(metrics, MetricRecord)
    value = metrics[m.NUM_EXAMPLES]
    assert isinstance(value, int | float)
    return float(value)
