"""What every host of the apps must do. Further grids join by adding a fixture value."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from wardround.common.flower.content import decode_content, encode_content
from wardround.common.transport.frames import Start, read_frame
from wardround.common.transport.mailbox import Incoming, Mailbox
from wardround.server.gathering.exchange import exchange
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall
from wardround.simulations.clients import Clients
from wardround.simulations.grid import InProcessGrid

MakeGrid = Callable[[ClientApp, int], Grid]


@pytest.fixture(params=["in-process", "behind connections"])
def make_grid(request, tmp_path: Path) -> Iterator[MakeGrid]:
    wires: list[Wires] = []

    def make(app: ClientApp, clients: int) -> Grid:
        names = [f"hospital-{index}" for index in range(clients)]
        if request.param == "in-process":
            return InProcessGrid(Clients(names, app=app))
        wires.append(Wires(app, names, tmp_path))
        return wires[-1].grid

    yield make
    for one in wires:
        one.close()


class Wires:
    """A grid whose hospitals are at the other end of mailboxes, joined without a network."""

    def __init__(self, app: ClientApp, names: list[str], spool: Path) -> None:
        self.grid = HospitalGrid("run", Hall(10.0, 1 << 30, spool, ServerEvents()))
        self._threads = []
        self._boxes = []
        for name in names:
            link = self.grid.link(name)
            here = link.line.begin("0" * 32, "nowhere")
            end = FarEnd(app, link.node_id, spool)
            there = end.mailbox.open()
            link.admitted = True
            for source, own, target, theirs in (
                (link.line.mailbox, here, end.mailbox, there),
                (end.mailbox, there, link.line.mailbox, here),
            ):
                pump = threading.Thread(target=self._pump, args=(source, own, target, theirs))
                pump.start()
                self._threads.append(pump)
            self._boxes += [(link.line.mailbox, here), (end.mailbox, there)]

    def _pump(self, source: Mailbox, own: int, target: Mailbox, theirs: int) -> None:
        for data in source.frames(own, 5.0):
            target.receive(theirs, read_frame(data))

    def close(self) -> None:
        for mailbox, epoch in self._boxes:
            mailbox.close(epoch)
        for thread in self._threads:
            thread.join()


class FarEnd:
    """A hospital's end: answers at once, with state of its own."""

    def __init__(self, app: ClientApp, node_id: int, spool: Path) -> None:
        self.app, self.node_id, self.state = app, node_id, RecordDict()
        self.mailbox = Mailbox(self, 1 << 30, spool)

    def wanted(self, start: Start) -> str | None:
        return None

    def arrived(self, message: Incoming) -> None:
        start = message.start
        with message.file:
            content = decode_content(message.file, start.size_bytes)
        request = Message(content, dst_node_id=self.node_id, message_type=start.type)
        reply = {"number": 0, "type": start.type, "reply_to": start.id}
        try:
            answer = self.app(request, Context(1, self.node_id, {}, self.state, {}))
        except Exception as error:
            kind = type(error).__name__
            self.mailbox.put(Start(id=start.id, kind="error", reason=f"{kind} here", **reply))
            return
        body = encode_content(answer.content)
        sized = {"size_bytes": body.size_bytes, "digest": body.digest()}
        self.mailbox.put(Start(id=start.id, kind="reply", **reply, **sized), body)

    def gone(self, start: Start) -> None:
        """Its answer has arrived."""

    refused = failed = dropped = control = lambda self, *_: None


def echo_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        weight = message.content.array_records["arrays"]["w"].numpy()
        if message.content.config_records["config"].get("fail") == context.node_id:
            raise RuntimeError("broken")
        seen = context.state.metric_records.get("seen", MetricRecord({"n": 0}))["n"] + 1
        context.state["seen"] = MetricRecord({"n": seen})
        message.content["arrays"] = ArrayRecord({})  # must not reach the other clients
        message.content.config_records["config"]["mine"] = 1
        reply = {
            "arrays": ArrayRecord({"w": Array(weight + context.node_id)}),
            "metrics": MetricRecord({"seen": seen}),
        }
        return Message(RecordDict(reply), reply_to=message)

    return app


def requests(grid: Grid, **config: int) -> list[Message]:
    content = RecordDict(
        {"arrays": ArrayRecord({"w": Array(np.zeros(2))}), "config": ConfigRecord(dict(config))}
    )
    return [Message(content, node, "train") for node in grid.get_node_ids()]


class TestGridContract:
    def test_every_node_answers_its_own_request_once(self, make_grid) -> None:
        grid = make_grid(echo_app(), 4)
        found = {}
        for request, reply in exchange(grid, requests(grid), 10):
            assert reply is not None and reply.metadata.src_node_id == request.metadata.dst_node_id
            assert reply.metadata.reply_to_message_id == request.metadata.message_id
            found[reply.metadata.src_node_id] = reply.content["arrays"]["w"].numpy()[0]
        assert found == {node: float(node) for node in grid.get_node_ids()}
        assert len(found) == 4

    def test_a_client_cannot_alter_what_others_get(self, make_grid) -> None:
        grid = make_grid(echo_app(), 3)
        sent = requests(grid)
        assert all(reply.has_content() for _, reply in exchange(grid, sent, 10))
        assert "mine" not in sent[0].content["config"] and "w" in sent[0].content["arrays"]

    def test_a_failing_client_is_an_error_reply(self, make_grid) -> None:
        grid = make_grid(echo_app(), 3)
        first, broken, last = grid.get_node_ids()
        replies = {
            request.metadata.dst_node_id: reply
            for request, reply in exchange(grid, requests(grid, fail=broken), 10)
        }
        assert replies[broken].has_error() and "RuntimeError" in replies[broken].error.reason
        assert "broken" not in replies[broken].error.reason, "a reason may quote data"
        assert replies[first].has_content() and replies[last].has_content()

    def test_an_unknown_node_is_an_error_not_a_crash(self, make_grid) -> None:
        grid = make_grid(echo_app(), 2)
        (message,) = requests(grid)[:1]
        stray = Message(message.content, 999, "train")
        ((_, reply),) = exchange(grid, [stray], 1)
        assert reply is None or reply.has_error()

    def test_state_stays_with_its_node(self, make_grid) -> None:
        grid = make_grid(echo_app(), 2)
        for expected in (1, 2, 3):
            seen = [r.content["metrics"]["seen"] for _, r in exchange(grid, requests(grid), 10)]
            assert seen == [expected, expected]

    def test_pulling_again_gives_nothing_twice(self, make_grid) -> None:
        grid = make_grid(echo_app(), 2)
        ids = list(grid.push_messages(requests(grid)))
        came, deadline = list(grid.pull_messages(ids)), time.monotonic() + 10
        while len(came) < 2 and time.monotonic() < deadline:
            came += grid.pull_messages(ids)
        assert len(came) == 2
        assert list(grid.pull_messages(ids)) == []
        assert list(grid.pull_messages(["no such message"])) == []

    def test_send_and_receive_answers_all(self, make_grid) -> None:
        grid = make_grid(echo_app(), 3)
        assert len(list(grid.send_and_receive(requests(grid)))) == 3


class Silent(InProcessGrid):
    """Never answers node 2, answers node 1 twice, and invents a reply."""

    def pull_messages(self, message_ids):
        messages = [self._waiting.pop(i) for i in list(message_ids) if i in self._waiting]
        for message in messages:
            if message.metadata.dst_node_id != 2:
                yield self.clients.answer(message)
                yield self.clients.answer(message)


def test_exchange_drops_second_replies_and_gives_up_in_time() -> None:
    grid = Silent(Clients(["a", "b", "c"], app=echo_app()))
    started = time.monotonic()
    replies = [(q.metadata.dst_node_id, r) for q, r in exchange(grid, requests(grid), 0.2)]
    assert time.monotonic() - started < 5
    assert [node for node, _ in replies] == [1, 3, 2]
    assert replies[-1][1] is None


def test_exchange_waits_for_no_one_once_there_is_enough() -> None:
    """A minute is allowed, but the silent client is given up as soon as the others have come."""
    grid, came = Silent(Clients(["a", "b", "c"], app=echo_app())), []
    started = time.monotonic()
    for request, reply in exchange(grid, requests(grid), 60, lambda: len(came) >= 2):
        if reply is not None:
            came.append(request.metadata.dst_node_id)
    assert time.monotonic() - started < 30 and len(came) == 2
