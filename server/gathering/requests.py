"""Requests to clients, each with shells of its own: what one client gets, no other can alter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import digest_arrays, encode_arrays
from wardround.common.protocol import names as m
from wardround.server.members.member import Member

ConfigValues = Mapping[str, int | float | str | list[str]]


class Totals:
    """The federation's summed preparation as a record, encoded once for all requests."""

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self._record = encode_arrays(sums)
        self._digest = digest_arrays(sums)

    def add_to(self, records: dict[str, ArrayRecord | MetricRecord | ConfigRecord]) -> None:
        """Put the totals and their digest into a request's records."""
        config = records[m.CONFIG]
        assert isinstance(config, ConfigRecord)
        config[m.TOTALS_DIGEST] = self._digest
        records[m.TOTALS] = self._record


def queries(
    message_type: str, members: Iterable[Member | int], config: ConfigValues, totals: Totals
) -> list[Message]:
    """The same question to each member (or node id)."""
    messages = []
    for member in members:
        records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
            m.CONFIG: ConfigRecord(dict(config))
        }
        totals.add_to(records)
        node_id = member.node_id if isinstance(member, Member) else member
        messages.append(Message(RecordDict(records), node_id, message_type))
    return messages


def complete(
    messages: Iterable[Message],
    groups: Sequence[Sequence[Member]],
    totals: Totals,
    extra: Mapping[str, ArrayRecord],
    config: ConfigValues,
    state_rounds: Mapping[str, int],
) -> list[Message]:
    """A strategy's messages, ordered by hospital, with all that a client needs besides the model.

    groups : whom each message is for; one hospital, or many of one host, of which the first gets it

    Every message gets a config record of its own (strategies share one between all).
    """
    by_node = {group[0].node_id: group for group in groups}
    completed = {}
    for message in messages:
        group = by_node[message.metadata.dst_node_id]
        member = group[0]
        records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = dict(
            message.content.items()
        )
        shared = records.get(m.CONFIG)
        values = dict(shared) if isinstance(shared, ConfigRecord) else {}
        values |= dict(config) | {m.STATE_ROUND: state_rounds.get(member.name, 0)}
        if len(group) > 1:
            values[m.CLIENTS] = [one.node_id for one in group]
        records[m.CONFIG] = ConfigRecord(values)
        totals.add_to(records)
        message.content = RecordDict({**records, **extra})
        completed[member.name] = message
    return [completed[group[0].name] for group in groups if group[0].name in completed]


def as_layout_queries(requests: list[Message]) -> list[Message]:
    """The evaluation requests as questions for names and shapes."""
    return [
        Message(RecordDict(dict(request.content)), request.metadata.dst_node_id, m.LAYOUT)
        for request in requests
    ]
