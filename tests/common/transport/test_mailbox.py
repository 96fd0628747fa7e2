"""Two mailboxes and a link that breaks: every message comes once, whole, from where it broke.

The link reorders nothing within a connection, as TCP doesn't. It may break with frames in flight,
be replaced while the old one still brings frames, and either side may be started again.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wardround.common.errors import TransportError
from wardround.common.flower.content import Body, encode_content
from wardround.common.transport import frames as f
from wardround.common.transport import inbox
from wardround.common.transport import mailbox as module
from wardround.common.transport.items import Incoming
from wardround.common.transport.mailbox import Mailbox

AT_ONCE = 200
SIZES = [0, 60, 150, 400, 1500]


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything a thousand times smaller; no spool is left open."""
    monkeypatch.setattr(module, "_AT_ONCE_BYTES", AT_ONCE)
    monkeypatch.setattr(module, "_FIRST_CHUNK_BYTES", 64)
    monkeypatch.setattr(inbox, "SPOOL_ABOVE_BYTES", 200)
    yield
    for side in Side.made:
        side.mailbox.forget_partial()
    Side.made.clear()


class Side:
    """A mailbox and its owner. What arrived and what was put outlive the mailbox, as on a disk."""

    made: list[Side] = []

    def __init__(self) -> None:
        self.made.append(self)
        self.arrived_bytes: dict[str, bytes] = {}
        self.waiting: dict[str, tuple[f.Start, Body | None]] = {}
        self.failures: dict[str, str] = {}
        self.controls: list[f.Frame] = []
        self.twice: list[str] = []
        self.start_again()

    def start_again(self) -> None:
        if hasattr(self, "mailbox"):
            self.mailbox.forget_partial()
        self.mailbox = Mailbox(self, 30_000, Path(gettempdir()))
        self.epoch = -1
        self.out: Iterator[bytes] = iter(())
        for start, body in self.waiting.values():
            self.mailbox.put(start, body)

    def connect(self) -> None:
        self.epoch = self.mailbox.open()
        self.out = self.mailbox.frames(self.epoch, 0.0)

    def put(self, start: f.Start, body: Body | None) -> None:
        self.waiting[start.id] = (start, body)
        self.mailbox.put(start, body)

    # events
    def wanted(self, start: f.Start) -> str | None:
        return "" if start.id in self.arrived_bytes else None

    def arrived(self, message: Incoming) -> None:
        if message.start.id in self.arrived_bytes:
            self.twice.append(message.start.id)
        with message.file:
            self.arrived_bytes[message.start.id] = message.file.read()

    def gone(self, start: f.Start) -> None:
        self.waiting.pop(start.id, None)

    def failed(self, start: f.Start, reason: str) -> None:
        self.waiting.pop(start.id, None)
        self.failures[start.id] = reason

    def control(self, frame: f.Frame) -> None:
        self.controls.append(frame)


def message(size: int, seed: int) -> tuple[f.Start, Body | None]:
    """A request of about ``size`` bytes, no two alike."""
    text = random.Random(seed).randbytes(size)
    name = hashlib.sha256(str(seed).encode()).hexdigest()
    if not size:
        return f.Start(number=0, id=name, kind="error", type="train", reason="why"), None
    body = encode_content(RecordDict({"c": ConfigRecord({"k": text})}))
    start = f.Start(
        number=0,
        id=name,
        kind="request",
        type="train",
        size_bytes=body.size_bytes,
        digest=body.digest(),
    )
    return start, body


class Link:
    """Frames in flight between two sides; one object for each connection."""

    def __init__(self, left: Side, right: Side) -> None:
        self.sides = (left, right)
        self.flight: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        for side in self.sides:
            side.connect()
        self.epochs = (left.epoch, right.epoch)
        self.outs = (left.out, right.out)
        self.mailboxes = (left.mailbox, right.mailbox)

    def send(self, who: int) -> f.Frame | f.Chunk | None:
        """Take one frame from a side's writer; None if it had nothing to say."""
        data = next(self.outs[who], None)
        if data is None:
            return None
        frame = f.read_frame(data)
        if isinstance(frame, f.Ping):
            return None
        self.flight[who].append(data)
        return frame

    def deliver(self, who: int) -> bool:
        """Give the other side the oldest frame in flight."""
        if not self.flight[who]:
            return False
        frame = f.read_frame(self.flight[who].popleft())
        self.mailboxes[1 - who].receive(self.epochs[1 - who], frame)
        return True

    def cut(self) -> None:
        for mailbox, epoch in zip(self.mailboxes, self.epochs, strict=True):
            mailbox.close(epoch)
        for flight in self.flight:
            flight.clear()

    def settle(self) -> None:
        """Until nothing moves any more."""
        busy = True
        while busy:
            busy = False
            for who in (0, 1):
                while self.send(who) is not None or self.deliver(who):
                    busy = True


class Lossy(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.sides = (Side(), Side())
        self.link: Link | None = None
        self.old: list[Link] = []
        self.put_by: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        self.taken_back: set[str] = set()
        self.seed = 0

    @rule(who=st.integers(0, 1), size=st.sampled_from(SIZES))
    def put(self, who: int, size: int) -> None:
        self.seed += 1
        start, body = message(size, self.seed)
        self.put_by[who][start.id] = body.read(0, body.size_bytes) if body else b""
        self.sides[who].put(start, body)

    @rule(who=st.integers(0, 1))
    def put_again(self, who: int) -> None:
        for start, body in list(self.sides[who].waiting.values())[:1]:
            self.sides[who].put(start, body)

    @rule(who=st.integers(0, 1))
    def take_back(self, who: int) -> None:
        for message_id in list(self.sides[who].waiting)[-1:]:
            self.sides[who].waiting.pop(message_id)
            self.sides[who].mailbox.take_back(message_id)
            self.taken_back.add(message_id)

    @rule()
    def connect(self) -> None:
        if self.link is not None:
            self.old = [*self.old[-2:], self.link]
        self.link = Link(*self.sides)

    @precondition(lambda self: self.link is not None)
    @rule(who=st.integers(0, 1), sent=st.integers(0, 12), delivered=st.integers(0, 12))
    def move(self, who: int, sent: int, delivered: int) -> None:
        for _ in range(sent):
            self.link.send(who)
        for _ in range(delivered):
            self.link.deliver(who)

    @rule(who=st.integers(0, 1), chunk=st.integers(1, 100))
    def the_link_is_slower_or_faster(self, who: int, chunk: int) -> None:
        self.sides[who].mailbox._chunk_bytes = chunk

    @precondition(lambda self: self.link is not None)
    @rule()
    def cut(self) -> None:
        self.link.cut()
        self.link = None

    @rule(who=st.integers(0, 1), count=st.integers(1, 6))
    def an_old_connection_still_brings_frames(self, who: int, count: int) -> None:
        for link in self.old:
            for _ in range(count):
                link.send(who)
                link.deliver(who)

    @rule(who=st.integers(0, 1))
    def start_again(self, who: int) -> None:
        if self.link is not None:
            self.link.cut()
            self.link = None
        self.old = []
        self.sides[who].start_again()

    @precondition(lambda self: self.link is not None)
    @rule(who=st.integers(0, 1))
    def damage(self, who: int) -> None:
        for place, data in enumerate(self.link.flight[who]):
            if data[0] == 0:  # a chunk's last byte
                self.link.flight[who][place] = data[:-1] + bytes([data[-1] ^ 1])
                return

    @invariant()
    def nothing_came_twice_or_changed(self) -> None:
        for who, side in enumerate(getattr(self, "sides", ())):
            assert not side.twice
            sent = self.put_by[1 - who]
            for message_id, data in side.arrived_bytes.items():
                assert data == sent[message_id]

    def teardown(self) -> None:
        if not hasattr(self, "sides"):
            return
        if self.link is not None:
            self.link.cut()
        Link(*self.sides).settle()
        for who, side in enumerate(self.sides):
            assert not side.waiting, "a message was neither delivered nor failed"
            for message_id in self.put_by[who]:
                arrived = message_id in self.sides[1 - who].arrived_bytes
                failed = bool(side.failures.get(message_id))
                assert arrived or failed or message_id in self.taken_back
            assert not side.mailbox.inbox.begun or self.taken_back
            assert not side.mailbox._outgoing and not side.mailbox._control
            side.mailbox.forget_partial()


Lossy.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class TestLossy(Lossy.TestCase):  # type: ignore[misc, valid-type]
    @pytest.fixture(autouse=True)
    def _small(self, small_numbers: None) -> None:
        pass


def test_a_message_goes_on_where_it_broke() -> None:
    left, right = Side(), Side()
    start, body = message(5000, 1)
    left.put(start, body)
    sent = lost = 0
    rng = random.Random(0)
    while not right.arrived_bytes:
        link = Link(left, right)
        for _ in range(rng.randint(1, 12)):
            for who in (0, 1):
                frame = link.send(who)
                sent += len(frame.data) if isinstance(frame, f.Chunk) else 0
            if rng.random() < 0.8:
                while link.deliver(0) or link.deliver(1):
                    pass
        frames = [f.read_frame(data) for data in link.flight[0]]
        lost += sum(len(frame.data) for frame in frames if isinstance(frame, f.Chunk))
        link.cut()
    assert lost > 0, "the link never lost anything: the test means nothing"
    assert sent == start.size_bytes + lost  # what had arrived was never sent again


@pytest.mark.parametrize("come", range(1, 8))
def test_a_small_message_goes_on_from_anywhere_in_a_chunk(come: int) -> None:
    """Its chunks had shrunk on a slow link; on the next connection it begins at 0, not asked."""
    left, right = Side(), Side()
    start, body = message(150, 1)
    assert body is not None and start.size_bytes <= AT_ONCE
    left.put(start, body)
    link = Link(left, right)
    left.mailbox._chunk_bytes = 24
    for _ in range(1 + come):
        link.send(0), link.deliver(0)
    assert right.mailbox.inbox.begun[start.id].received == 24 * come
    link.cut()
    again = Link(left, right)
    for _ in range(5):  # the whole body is on its way before Have is read
        again.send(0)
    again.settle()
    assert right.arrived_bytes[start.id] == body.read(0, body.size_bytes)
    assert not left.waiting and not right.mailbox.inbox.begun


def test_a_slow_link_gets_small_chunks_and_a_fast_one_large_ones() -> None:
    now = [0.0]
    side = Side()
    mailbox = Mailbox(side, 1 << 30, Path(gettempdir()), clock=lambda: now[0])
    epoch = mailbox.open()
    start, body = message(60_000, 1)
    mailbox.put(start, body)
    out = mailbox.frames(epoch, 1e9)
    next(out)
    mailbox.receive(epoch, f.Have(number=1, offset=0))

    def sizes(took_s: float, count: int) -> list[int]:
        found = []
        for _ in range(count):
            frame = f.read_frame(next(out))
            assert isinstance(frame, f.Chunk)
            found.append(len(frame.data))
            now[0] += took_s
            got = f.Got(number=1, offset=frame.offset + len(frame.data))
            mailbox.receive(epoch, got)
        return found

    assert sizes(0.1, 4) == [64, 128, 256, 512]
    assert sizes(0.5, 3) == [1024, 1024, 1024]
    mailbox._chunk_bytes = 1 << 14
    assert sizes(2.0, 3)[1:] == [1 << 13, 1 << 13]


def test_only_so_much_is_on_its_way(tmp_path: Path) -> None:
    """However much the buffers on the way would take."""
    side = Side()
    side.connect()
    start, body = message(5000, 1)
    side.put(start, body)
    assert isinstance(f.read_frame(next(side.out)), f.Start)
    side.mailbox.receive(side.epoch, f.Have(number=1, offset=0))
    sent = [f.read_frame(next(side.out)) for _ in range(module._CHUNKS_ON_WAY + 1)]
    assert [type(frame) for frame in sent] == [*[f.Chunk] * module._CHUNKS_ON_WAY, f.Ping]
    side.mailbox.receive(side.epoch, f.Got(number=1, offset=64))
    assert isinstance(f.read_frame(next(side.out)), f.Chunk)


@pytest.mark.parametrize(("took_s", "chunks"), [(0.005, 2), (0.2, 8)])
def test_more_is_on_a_long_way(took_s: float, chunks: int) -> None:
    now, side = [0.0], Side()
    mailbox = Mailbox(side, 1 << 30, Path(gettempdir()), clock=lambda: now[0])
    epoch = mailbox.open()
    start, body = message(60_000, 1)
    mailbox.put(start, body)
    out = mailbox.frames(epoch, 0.0)
    next(out)
    mailbox.receive(epoch, f.Have(number=1, offset=0))
    sent = [f.read_frame(next(out)) for _ in range(2)]
    now[0] += took_s
    mailbox.receive(epoch, f.Got(number=1, offset=64))
    while isinstance(frame := f.read_frame(next(out)), f.Chunk):
        sent.append(frame)
    assert len(sent) - 1 >= chunks  # the size of chunks adapts, too
    limit = chunks * mailbox._chunk_bytes
    assert limit - mailbox._chunk_bytes < sum(len(c.data) for c in sent[1:]) <= limit + 64


def test_the_writer_of_an_old_connection_changes_nothing_of_the_new() -> None:
    """It read a chunk while the connection was replaced: the new one must not skip it."""
    left, right = Side(), Side()
    start, body = message(1000, 1)
    assert body is not None
    inner, links = body.read, []

    def read(offset: int, count: int) -> bytes:
        if not links:
            links.append(Link(left, right))
            links[0].send(0)  # announces it anew
        return inner(offset, count)

    link = Link(left, right)
    left.put(start, body)
    link.send(0), link.deliver(0), link.send(1), link.deliver(1)
    body.read = read  # type: ignore[method-assign]
    link.send(0)
    links[0].settle()
    assert right.arrived_bytes.keys() == {start.id}


def test_too_large_is_refused_with_the_setting_and_takes_no_space() -> None:
    left, right = Side(), Side()
    start, body = message(31_000, 1)
    left.put(start, body)
    Link(left, right).settle()
    assert "server.max_message_mb" in left.failures[start.id]
    assert not right.mailbox.inbox.begun


def test_a_full_disk_fails_the_message_with_a_reason(tmp_path: Path) -> None:
    left, right = Side(), Side()
    right.mailbox.inbox.folder = tmp_path / "gone"
    start, body = message(1500, 1)
    left.put(start, body)
    Link(left, right).settle()
    assert "can't be kept" in left.failures[start.id]
    left.put(*message(50, 2))
    Link(left, right).settle()
    assert len(right.arrived_bytes) == 1, "a small message needs no disk"


def test_a_body_that_ends_early_fails_its_message_and_no_other() -> None:
    left, right = Side(), Side()
    start, body = message(1500, 1)
    assert body is not None
    left.put(start.model_copy(update={"size_bytes": start.size_bytes + 10}), body)
    left.put(*message(150, 2))
    Link(left, right).settle()
    assert "ended before" in left.failures[start.id]
    assert len(right.arrived_bytes) == 1 and not right.mailbox.inbox.begun


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (f.Chunk(1, 10, b"x"), "is missing"),
        (f.Chunk(1, 0, b"x" * 2000), "longer than it was announced"),
    ],
)
def test_broken_rules_end_the_connection(frame: f.Chunk, reason: str) -> None:
    left, right = Side(), Side()
    link = Link(left, right)
    start, _ = message(1500, 1)
    right.mailbox.receive(link.epochs[1], start.model_copy(update={"number": 1}))
    with pytest.raises(TransportError, match=reason):
        right.mailbox.receive(link.epochs[1], frame)


def test_a_peer_can_begin_only_so_many_messages() -> None:
    side = Side()
    side.connect()
    with pytest.raises(TransportError, match="begun and not finished"):
        for number in range(1000):
            start, _ = message(100, number)
            side.mailbox.receive(side.epoch, start.model_copy(update={"number": number}))
    assert len(side.mailbox.inbox.begun) <= inbox._MOST_OPEN


class Spool(SpooledTemporaryFile[bytes]):
    """Tells how much of it lies on the disk."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        made.append(self)

    def on_disk(self) -> int:
        if self.closed or not self._rolled:  # type: ignore[attr-defined]
            return 0
        self.flush()
        return os.fstat(self.fileno()).st_size


made: list[Spool] = []
MOST = 4000
SENT = st.one_of(
    st.tuples(st.just("start"), st.integers(0, 30), st.integers(0, 6000), st.integers(0, 9)),
    st.tuples(st.just("chunk"), st.integers(0, 9), st.integers(0, 3000), st.integers(1, 3000)),
    st.tuples(st.sampled_from(("drop", "connect", "expire")), st.integers(0, 30)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(SENT, max_size=40))
def test_whatever_is_sent_the_disk_holds_no_more_than_the_limit(sent: list[Any]) -> None:
    """Of messages that are coming. (What came as a whole is its owner's.)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inbox.tempfile, "SpooledTemporaryFile", Spool)
        side = Side()
        side.mailbox.inbox.most_bytes = MOST
        side.connect()
        for kind, *values in sent:
            with suppress(TransportError):
                send(side, kind, *values)
            assert sum(one.on_disk() for one in made) <= MOST
        side.mailbox.forget_partial()
        made.clear()


def send(side: Side, kind: str, which: int, at: int = 0, more: int = 0) -> None:
    name = f"{which:064x}"
    if kind == "connect":
        side.connect()
    elif kind == "expire":
        side.mailbox.expire(-1.0)
    elif kind == "drop":
        side.mailbox.receive(side.epoch, f.Drop(id=name))
    elif kind == "chunk":
        side.mailbox.receive(side.epoch, f.Chunk(which, at, bytes(more)))
    else:
        start = f.Start(number=more, id=name, kind="request", type="train", size_bytes=at)
        side.mailbox.receive(side.epoch, start)


def test_what_stopped_coming_is_dropped_and_begins_again() -> None:
    left, right = Side(), Side()
    link = Link(left, right)
    start, body = message(1500, 1)
    left.put(start, body)
    while not any(one.received for one in right.mailbox.inbox.begun.values()):
        for who in (0, 1):
            link.send(who)
            link.deliver(who)
    right.mailbox.expire(3600.0)
    assert right.mailbox.inbox.begun
    right.mailbox.expire(-1.0)
    assert not right.mailbox.inbox.begun
    link.settle()
    assert right.arrived_bytes.keys() == {start.id}


def test_a_peer_that_repeats_itself_takes_no_memory() -> None:
    side = Side()
    side.connect()
    start, _ = message(1500, 1)
    for number in range(1, 500):
        side.mailbox.receive(side.epoch, start.model_copy(update={"number": number}))
        next(side.out)
    assert len(side.mailbox.inbox) == 1


def test_stopped_means_that_nothing_leaves() -> None:
    left, right = Side(), Side()
    link = Link(left, right)
    left.put(*message(1500, 1))
    link.settle()
    left.put(*message(1500, 2))
    link.send(0)
    left.mailbox.stop()
    assert next(link.outs[0], None) is None
    left.put(*message(10, 3))
    again = Link(left, right)
    assert next(again.outs[0], None) is None


def test_the_last_frame_says_why() -> None:
    left, right = Side(), Side()
    link = Link(left, right)
    left.mailbox.close(link.epochs[0], f.Bye(reason="the run is over"))
    assert link.send(0) == f.Bye(reason="the run is over")
    assert next(link.outs[0], None) is None
    assert not left.mailbox.close(link.epochs[0])


def test_a_request_that_was_delivered_can_still_be_taken_back() -> None:
    left, right = Side(), Side()
    link = Link(left, right)
    start, body = message(150, 1)
    left.put(start, body)
    link.settle()
    left.mailbox.take_back(start.id)
    link.settle()
    assert right.controls == [f.Drop(id=start.id)]
