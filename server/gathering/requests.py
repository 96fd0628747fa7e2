"""Requests to clients, each with shells of its own: what one client gets, no other can alter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from flwr.app import ArrayRecord, ConfigRecord, Message

from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import clients_of, with_clients
from wardround.common.protocol.describe import DescribeRequest
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.layout import LayoutRequest
from wardround.common.protocol.message import REQUEST, Came
from wardround.common.protocol.statistics import StatisticsRequest
from wardround.common.protocol.sums import SumsRequest
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import TrainRequest
from wardround.server.members.member import Member

Query = DescribeRequest | StatisticsRequest | SumsRequest | LayoutRequest | EvaluateRequest


def queries(
    request: Query,
    members: Iterable[Member | int],
) -> list[Message]:
    """The same question to each member (or node id)."""
    return [
        Message(
            request.to_records(),
            member.node_id if isinstance(member, Member) else member,
            request.type,
        )
        for member in members
    ]


def complete(
    messages: Iterable[Message],
    addressees: Sequence[Sequence[Member]],
    request: TrainRequest | EvaluateRequest,
    state_rounds: Mapping[str, int],
) -> list[Message]:
    """A strategy's messages, ordered by hospital, with all that a client needs besides what the
    strategy gives: the model and settings of its own.

    addressees : whom each message is for; one hospital, or many of one host, of which the first
        gets it
    request : what is the same for all; its model has no arrays yet

    Every message gets records of its own (strategies share one between all).
    """
    by_node = {those[0].node_id: those for those in addressees}
    completed = {}
    for message in messages:
        those = by_node[message.metadata.dst_node_id]
        name = those[0].name
        settings = m.records_of(message.content, ConfigRecord).get(m.CONFIG, ConfigRecord())
        arrays = m.records_of(message.content, ArrayRecord).get(m.ARRAYS, ArrayRecord())
        model = replace(
            request.model,
            arrays=arrays,
            state_round=state_rounds.get(name, 0),
            clients=tuple(one.node_id for one in those) if len(those) > 1 else (),
        )
        whole = request.completed(model, settings)
        message.content = whole.to_records(first=settings)
        completed[name] = message
    return [completed[first.name] for first, *_ in addressees if first.name in completed]


def as_layout_queries(requests: list[Message]) -> list[Message]:
    """Questions for names and shapes of metric sums, in place of the evaluation requests: without
    the model, which they don't depend on."""
    nodes = [request.metadata.dst_node_id for request in requests]
    totals = Totals.read(Came(requests[0].content, REQUEST))
    asked = queries(LayoutRequest(totals), nodes)
    for one, request in zip(asked, requests, strict=True):
        if clients := clients_of(request.content):
            one.content = with_clients(one.content, clients)
    return asked


def queries_together(request: Query, members: Sequence[Member], most: int) -> list[Message]:
    """The same question, in messages that each ask many members, at most so many."""
    parts = [members[start : start + most] for start in range(0, len(members), most)]
    asked = queries(request, [part[0] for part in parts])
    for one, part in zip(asked, parts, strict=True):
        one.content = with_clients(one.content, [member.node_id for member in part])
    return asked
