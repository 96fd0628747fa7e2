"""The server's memory of a hospital: what is asked is answered once, whatever breaks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from tests.joined import join
from wardround.common.flower.content import encode_content
from wardround.common.protocol import names as m
from wardround.common.protocol.errors import Code
from wardround.common.transport import frames as f
from wardround.common.transport.mailbox import Incoming, Mailbox
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.hall import Hall
from wardround.server.transport.links import Link

LEASE_S = 5.0


class Process:
    """A hospital's process: answers what it is asked, or doesn't."""

    def __init__(self, folder: Path, instance: str) -> None:
        self.mailbox = Mailbox(self, 1 << 20, folder)
        self.instance = instance
        self.requests: list[f.Start] = []
        self.dropped: list[str] = []

    def wanted(self, start: f.Start) -> str | None:
        return None

    def arrived(self, message: Incoming) -> None:
        message.file.close()
        self.requests.append(message.start)

    def gone(self, start: f.Start) -> None: ...

    def failed(self, start: f.Start, reason: str) -> None: ...

    def control(self, frame: f.Frame) -> None:
        if isinstance(frame, f.Drop):
            self.dropped.append(frame.id)

    def answer(self, start: f.Start, number: int = 1, **changes: object) -> None:
        body = encode_content(RecordDict({"c": ConfigRecord({"n": number})}))
        reply = f.Start(
            number=0,
            id=f"{number:064x}",
            kind="reply",
            type=start.type,
            reply_to=start.id,
            size_bytes=body.size_bytes,
            digest=body.digest(),
        )
        self.mailbox.put(reply.model_copy(update=changes), body)


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[HospitalGrid]:
    yield HospitalGrid("run", Hall(LEASE_S, 1 << 20, tmp_path, ServerEvents()))


def question(link: Link, kind: str = m.TRAIN, number: int = 0) -> Message:
    content = RecordDict({"c": ConfigRecord({"q": number})})
    return Message(content, link.node_id, kind)


def replies(grid: HospitalGrid, ids: list[str]) -> list[Message]:
    return list(grid.pull_messages(ids))


def test_an_answer_comes_once_and_belongs_to_its_question(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    (start,) = process.requests
    process.answer(start, 1)
    process.answer(start, 2)
    settle()
    (reply,) = replies(grid, ids)
    assert reply.content["c"] == ConfigRecord({"n": 1})
    assert replies(grid, ids) == []
    process.answer(start, 3)
    settle()
    assert replies(grid, ids) == [], "nobody waits for it any more"


def test_the_same_question_has_the_same_id_and_is_sent_once(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    """Also from a server that started again: then the hospital's work is done once."""
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    grid.push_messages([question(link)])
    settle()
    again = HospitalGrid("run", Hall(LEASE_S, 1 << 20, tmp_path, ServerEvents()))
    settle = join(again.link("a"), process)
    again.link("a").admitted = True
    again.push_messages([question(again.link("a"))])
    other = HospitalGrid("another run", Hall(LEASE_S, 1 << 20, tmp_path, ServerEvents()))
    settle()
    first, second = process.requests
    assert first.id == second.id
    settle = join(other.link("a"), process)
    other.link("a").admitted = True
    other.push_messages([question(other.link("a"))])
    settle()
    assert process.requests[-1].id != first.id


def test_a_new_process_is_asked_again_once_its_policy_allows(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, first = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, first)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    assert len(first.requests) == 1  # delivered, so only that process knew of it; it dies
    second = Process(tmp_path, "2" * 32)
    settle = join(link, second)
    grid.push_messages([question(link, m.MANIFEST)])
    settle()
    assert [start.type for start in second.requests] == [m.MANIFEST]
    assert not link.admitted and not second.mailbox._outgoing
    link.admitted = True
    settle()
    assert second.requests[-1].id == first.requests[0].id
    second.answer(second.requests[-1])
    settle()
    assert replies(grid, ids)[0].has_content()


def test_the_same_process_over_a_new_connection_isnt_asked_twice(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    grid.push_messages([question(link)])
    settle()
    settle = join(link, process)
    assert link.admitted
    settle()
    assert len(process.requests) == 1


def test_a_hospital_that_may_not_take_part_answers_what_waited(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    ids = list(grid.push_messages([question(link)]))
    link.turn_away("max_rounds: too many")
    settle()
    (reply,) = replies(grid, ids)
    assert "max_rounds" in (reply.error.reason or "") and process.requests == []


def refuse(process: Process, start: f.Start, reason: str, code: int = Code.FAILED) -> None:
    """An error instead of an answer."""
    update = {"id": "d" * 64, "kind": "error", "size_bytes": 0, "digest": "", "reason": reason}
    update |= {"code": int(code)}
    process.mailbox.put(start.model_copy(update=update | {"reply_to": start.id}))


def test_a_withdrawal_is_a_departure_and_what_is_asked_then_is_answered_at_once(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    told: list[str] = []

    def turn_away(link: Link, reason: str, code: Code) -> None:
        told.append(reason)
        link.refusal, link.refusal_code = reason, code
        link.turn_away(reason)

    grid.on_withdrawn = turn_away
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    refuse(process, process.requests[0], "its disk failed")
    settle()
    assert not told and grid.departures() == 0 and not grid.gone() and replies(grid, ids)
    ids = list(grid.push_messages([question(link, number=1)]))
    settle()
    refuse(process, process.requests[1], "'run': no more", Code.REJECTED)
    settle()
    assert link.withdrew and grid.gone() == {"a"} and grid.departures() == 1 and len(told) == 1
    ids += grid.push_messages([question(link, number=2)])
    assert [str(one.error.reason)[-7:] for one in replies(grid, ids)] == ["no more"] * 2
    link.admitted = True
    link.refusal = ""
    assert not grid.gone() and not link.withdrew and grid.departures() == 2


def test_a_goodbye_is_waited_for_like_a_lost_connection_and_then_a_departure(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    for left, counted in (("", 0), ("signal", 2)):
        link, process = grid.link("a"), Process(tmp_path, "1" * 32)
        settle = join(link, process)
        assert not link.left
        link.admitted = True
        ids = list(grid.push_messages([question(link, number=counted)]))
        settle()
        link.line.left = left
        link.line.mailbox.close(link.line.mailbox.epoch)
        grid.hall.give_up_silent()
        assert replies(grid, ids) == [] and not grid.gone()
        link.line.mailbox.heard -= LEASE_S + 1
        grid.hall.give_up_silent()
        ids += grid.push_messages([question(link, number=counted + 1)])
        assert grid.departures() == counted and grid.gone() == ({"a"} if left else set())
        reasons = [str(one.error.reason) for one in replies(grid, ids)]
        assert len(reasons) == 2 and all(("left (signal)" in x) == bool(left) for x in reasons)


def test_an_absent_hospital_is_waited_for_as_long_as_its_lease(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    link.line.mailbox.close(link.line.mailbox.epoch)
    grid.hall.give_up_silent()
    assert replies(grid, ids) == []
    link.line.mailbox.heard -= LEASE_S + 1
    grid.hall.give_up_silent()
    (reply,) = replies(grid, ids)
    assert "server.lease_s" in (reply.error.reason or "")
    late = list(grid.push_messages([question(link, number=1)]))
    assert "not connected" in (replies(grid, late)[0].error.reason or "")


def test_withdrawn_means_dropped_there_and_deaf_here(grid: HospitalGrid, tmp_path: Path) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    grid.withdraw(ids)
    settle()
    assert process.dropped == [process.requests[0].id]
    process.answer(process.requests[0])
    settle()
    assert replies(grid, ids) == [] and link.asked == {}


def test_who_asked_first_doesnt_get_the_second_ones_answer(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    """An old waiter that withdraws must not withdraw the new one's question."""
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    old = list(grid.push_messages([question(link, m.MANIFEST)]))
    new = list(grid.push_messages([question(link, m.MANIFEST)]))
    assert old != new
    settle()
    process.answer(process.requests[0])
    settle()
    grid.withdraw(old)
    assert replies(grid, old) == [] and len(replies(grid, new)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "request"}, "doesn't ask"),
        ({"type": m.EVALUATE}, "another type"),
        ({"reply_to": "f" * 64}, ""),
    ],
)
def test_answers_that_fit_no_question_are_not_taken(
    grid: HospitalGrid, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    failed: list[str] = []
    process.failed = lambda start, why: failed.append(why)  # type: ignore[method-assign]
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    process.answer(process.requests[0], 1, **changes)
    settle()
    assert replies(grid, ids) == [] and not process.mailbox._outgoing
    assert (reason in failed[0]) if reason else not failed


def test_what_cant_be_decoded_is_an_error_of_the_hospital(
    grid: HospitalGrid, tmp_path: Path
) -> None:
    link, process = grid.link("a"), Process(tmp_path, "1" * 32)
    settle = join(link, process)
    link.admitted = True
    ids = list(grid.push_messages([question(link)]))
    settle()
    start = process.requests[0]
    reply = {"id": "e" * 64, "kind": "reply", "reply_to": start.id, "size_bytes": 0, "digest": ""}
    process.mailbox.put(start.model_copy(update=reply))
    settle()
    assert "no readable header" in (replies(grid, ids)[0].error.reason or "")


def begin(link: Link, epoch: int, asked: f.Start, size_bytes: int, number: int = 1) -> None:
    """A large answer of which nothing has come yet."""
    start = f.Start(
        number=number,
        id=f"{number:064x}",
        kind="reply",
        type=asked.type,
        reply_to=asked.id,
        size_bytes=size_bytes,
    )
    link.line.mailbox.receive(epoch, start)


def test_what_came_of_an_answer_goes_when_nobody_waits_for_it(grid: HospitalGrid) -> None:
    """Whoever sent it has left, was revoked, or was too slow: it never comes to an end."""
    link = grid.link("a")
    epoch = link.line.begin("1" * 32, "here")
    link.admitted = True
    grid.push_messages([question(link)])
    (asked,) = link.asked.values()
    begin(link, epoch, asked.start, 900_000)
    grid.hall.sweep()
    assert link.line.spooled_bytes() == 900_000  # it may go on over another connection
    link.line.mailbox.close(epoch)
    link.line.mailbox.heard -= LEASE_S + 1
    grid.hall.give_up_silent()
    grid.hall.sweep()
    assert link.line.spooled_bytes() == 0


def test_one_hospital_and_all_of_them_have_a_limit(tmp_path: Path) -> None:
    grid = HospitalGrid("run", Hall(LEASE_S, 1 << 20, tmp_path, ServerEvents(), 2 << 20))
    links, epochs = [grid.link(name) for name in "abc"], []
    for link in links:
        epochs.append(link.line.begin(link.name * 32, "here"))
        link.admitted = True
        grid.push_messages([question(link)])
    for link, epoch in zip(links, epochs, strict=True):
        (asked,) = link.asked.values()
        begin(link, epoch, asked.start, 1_000_000)
        begin(link, epoch, asked.start, 900_000, number=2)
    held = [link.line.spooled_bytes() for link in links]
    assert held == [1_000_000, 1_000_000, 0]
    frames = [
        f.read_frame(data) for data in islice(links[2].line.mailbox.frames(epochs[2], 9.0), 3)
    ]
    reasons = [one.reason for one in frames if isinstance(one, f.Failed)]
    assert "server.max_spool_mb = 2" in reasons[0]
    for link in links:
        link.line.mailbox.forget_partial()


def test_two_studies_are_asked_over_one_connection_and_each_gets_its_own_answers(
    tmp_path: Path,
) -> None:
    hall = Hall(LEASE_S, 1 << 20, tmp_path, ServerEvents())
    grids = {key: HospitalGrid(f"run {key}", hall, key) for key in ("a" * 64, "b" * 64)}
    process, ids = Process(tmp_path, "1" * 32), {}
    settle = join(grids["a" * 64].link("north"), process)
    for key, grid in grids.items():
        grid.link("north").admitted = True
        ids[key] = list(grid.push_messages([question(grid.link("north"))]))
    settle()
    first, second = process.requests
    assert [first.study, second.study] == list(grids) and first.id != second.id
    process.answer(second, 2, study=second.study)
    process.answer(first, 1, study=second.study)  # an answer under another study's name is none
    settle()
    assert replies(grids["a" * 64], ids["a" * 64]) == []
    (reply,) = replies(grids["b" * 64], ids["b" * 64])
    assert reply.content["c"] == ConfigRecord({"n": 2})
    grids["a" * 64].close()  # what its hospital still sends has nobody to take it
    process.answer(first, 1, study=first.study)
    settle()
    assert hall.line("north").spooled_bytes() == 0 and list(hall.line("north").studies) == [
        "b" * 64
    ]
    join(grids["b" * 64].link("north"), Process(tmp_path, "2" * 32))
    assert not grids["b" * 64].link("north").admitted, "another process has accepted nothing"
