"""The worker: what is answered, remembered and written down, in which order, whatever fails."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from wardround.client.process.answers import Answers
from wardround.client.process.responder import Responder
from wardround.common.audit.log import AuditLog
from wardround.common.durable.records import DurableState
from wardround.common.errors import PlanRefused, PlanRejected, PolicyRefused, ReplyRefused
from wardround.common.flower.arrays import encode_arrays
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.flower.hosting import become_client, error_reply
from wardround.common.protocol import names as m
from wardround.common.transport.frames import Start
from wardround.common.transport.inbox import Inbox
from wardround.common.transport.mailbox import Incoming
from wardround.common.trust.identity import Identity

MANIFEST = RecordDict({"manifest": ConfigRecord({m.MESSAGE: b"plan"})})


class Outbox:
    """Keeps what the worker would send."""

    def __init__(self) -> None:
        self.sent: list[tuple[Start, bytes]] = []
        self.inbox = Inbox(1 << 40, Path(), time.monotonic)

    def put(self, start: Start, body=None) -> None:
        data = body.read(0, body.size_bytes) if body is not None else b""
        self.sent.append((start, data))

    def waiting(self) -> list[Start]:
        return [start for start, _ in self.sent[-1:]]

    def take_back(self, reply_id: str) -> None:
        self.sent.pop()


class OpenDoor:
    """A guard that allows everything once a plan was accepted, but for one reply."""

    def __init__(self) -> None:
        self.accepted, self.forbidden, self.run, self.refused = False, "", "", ""

    def admit(self, content: RecordDict) -> RecordDict:
        if self.refused:
            raise PolicyRefused(self.refused)
        self.accepted, self.run = True, str(content["plan"]["run"]) if "plan" in content else "one"
        return RecordDict({"accepted": ConfigRecord({"ok": True})})

    def may_begin(self, message_type: str, request: RecordDict | None) -> None:
        if not self.accepted:
            raise PlanRefused("no run manifest was accepted")

    def may_spend(self) -> None:
        """Nothing is private here."""

    def may_leave(self, message_type: str, content: RecordDict) -> str:
        if self.forbidden and self.forbidden in content:
            raise PolicyRefused(f"'{self.forbidden}' isn't in the accepted manifest")
        return "masked"


class Bench:
    """A responder with its surroundings, driven in this thread."""

    def __init__(self, folder: Path, handler: Callable[[Message, Context], Message]) -> None:
        become_client()
        app = ClientApp()
        app.train()(handler)
        app.evaluate()(handler)
        self.folder, self.outbox, self.door, self.app = folder, Outbox(), OpenDoor(), app
        self.state = DurableState(folder / "store")
        self.audit = AuditLog.open(folder / "audit.jsonl", "north", Identity.generate())
        self.rounds: list[int] = []
        self.responder = Responder(
            self.answer,
            Answers(folder / "answers"),
            self.audit,
            self.door,
            mailbox=self.outbox,
            on_round=self.rounds.append,
        )

    def answer(self, message: Message) -> Message:
        reply = self.app(message, Context(1, 2, {}, self.state.records, {}))
        self.state.save()
        return reply

    def ask(self, content: RecordDict, kind: str = m.TRAIN) -> Start:
        """Hand over a request and let the responder work until it has nothing left."""
        body = encode_content(content)
        digest = body.digest()
        request_id = hashlib.sha256((kind + digest).encode()).hexdigest()
        start = Start(
            number=1,
            id=request_id,
            kind="request",
            type=kind,
            size_bytes=body.size_bytes,
            digest=digest,
        )
        if self.responder.wanted(start) is None:
            file = io.BytesIO(body.read(0, body.size_bytes))
            self.responder.request(Incoming(start, file))
            self.responder.stop()
            self.responder.run()
        return start

    def last(self) -> tuple[Start, RecordDict | None]:
        start, data = self.outbox.sent[-1]
        return start, decode_content(io.BytesIO(data), len(data)) if data else None

    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.audit.path.read_text().splitlines()]


def request(number: int = 1) -> RecordDict:
    return RecordDict({m.CONFIG: ConfigRecord({m.ROUND: number})})


def answer_with_count(calls: list[int]) -> Callable[[Message, Context], Message]:
    def handler(message: Message, context: Context) -> Message:
        calls.append(1)
        context.state["count"] = ConfigRecord({"calls": len(calls)})
        arrays = encode_arrays({"w": np.full(3, len(calls), np.float32)})
        return Message(RecordDict({m.ARRAYS: arrays}), reply_to=message)

    return handler


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path, answer_with_count([]))
    bench.ask(MANIFEST, m.MANIFEST)
    return bench


def test_nothing_is_answered_before_a_plan_was_accepted(tmp_path: Path) -> None:
    calls: list[int] = []
    bench = Bench(tmp_path, answer_with_count(calls))
    bench.ask(request())
    start, _ = bench.last()
    assert start.kind == "error" and "no run manifest" in start.reason and not calls


def test_a_plan_that_waits_is_in_the_log_once_and_again_when_the_reason_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, answer_with_count([]))
    caplog.set_level("INFO", "wardround.client")
    for number, refused in enumerate(["waits", "waits", "max_rounds", "max_rounds", "", "waits"]):
        bench.door.refused = refused
        plan = RecordDict({"manifest": ConfigRecord({m.MESSAGE: b"plan %d" % number})})
        bench.ask(plan, m.MANIFEST)
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    said = ["waits", "max_rounds", "waits"]
    assert lines == [f"query.manifest refused: {reason}" for reason in said]
    # what left and what didn't stands in the audit log, each time
    assert [line["event"] for line in bench.events()].count("refused") == 5


def test_a_request_that_comes_again_gets_the_same_bytes_without_new_work(tmp_path: Path) -> None:
    calls: list[int] = []
    bench = Bench(tmp_path, answer_with_count(calls))
    bench.ask(MANIFEST, m.MANIFEST)
    bench.ask(request())
    bench.ask(request())
    (first, body), (again, same) = bench.outbox.sent[-2:]
    assert calls == [1] and first == again and body == same
    assert bench.events()[-1]["again"] is True
    bench.audit.close()
    # and after a crash of the process, once it has accepted the plan again
    later = Bench(tmp_path, answer_with_count(calls))
    later.ask(MANIFEST, m.MANIFEST)
    later.ask(request())
    assert calls == [1] and later.outbox.sent[-1] == (first, body)


def test_another_round_is_other_work_and_is_told(bench: Bench) -> None:
    bench.ask(request(1))
    bench.ask(request(2))
    _, content = bench.last()
    assert content is not None and bench.rounds == [1, 2]
    assert list(bench.state.records["count"].values()) == [2]


def test_what_a_handler_promised_is_on_disk_before_anything_leaves(tmp_path: Path) -> None:
    bench = Bench(tmp_path, answer_with_count([]))
    bench.ask(MANIFEST, m.MANIFEST)
    put, seen = bench.outbox.put, []

    def watching(start: Start, body=None) -> None:
        kept = DurableState(tmp_path / "store").records
        seen.append((dict(kept["count"])["calls"], bench.events()[-1]["event"]))
        put(start, body)

    bench.outbox.put = watching  # type: ignore[method-assign]
    bench.ask(request())
    assert seen == [(1, "sent")]


def test_the_audit_log_says_what_left(bench: Bench) -> None:
    start = bench.ask(request(7))
    received, sent = bench.events()[-2:]
    reply, data = bench.outbox.sent[-1]
    assert (received["event"], received["kind"], received["round"]) == ("received", m.TRAIN, 7)
    assert sent["bytes"] == len(data) and sent["digest"] == reply.digest
    assert sent["request"] == received["request"] == start.id and sent["protection"] == "masked"


def test_what_the_manifest_does_not_list_does_not_leave(bench: Bench) -> None:
    bench.door.forbidden = m.ARRAYS
    bench.ask(request())
    start, content = bench.last()
    assert (
        start.kind == "error" and start.reason == PolicyRefused.outside
    )  # a sum's name may be a column's
    assert content is None and bench.events()[-1]["event"] == "refused"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ReplyRefused("too few rows"), "too few rows"),
        (OSError(28, "No space left on device"), "its disk failed (No space left on device)"),
        (ZeroDivisionError("patient Ada"), "ZeroDivisionError in the hospital's host"),
    ],
)
def test_a_failure_is_a_line_without_what_it_quotes(tmp_path: Path, failure, said) -> None:
    def handler(message: Message, context: Context) -> Message:
        raise failure

    bench = Bench(tmp_path, handler)
    bench.ask(MANIFEST, m.MANIFEST)
    bench.ask(request())
    start, _ = bench.last()
    assert start.kind == "error" and start.reason == said
    assert "Ada" not in bench.audit.path.read_text()


def test_an_error_of_the_app_is_not_kept_so_it_can_be_tried_again(tmp_path: Path) -> None:
    calls: list[int] = []

    def handler(message: Message, context: Context) -> Message:
        calls.append(1)
        return error_reply(message, "not now")

    bench = Bench(tmp_path, handler)
    bench.ask(MANIFEST, m.MANIFEST)
    bench.ask(request())
    bench.ask(request())
    assert calls == [1, 1]


def test_a_dropped_request_is_not_begun_and_one_asked_for_again_is(tmp_path: Path) -> None:
    calls: list[int] = []
    bench = Bench(tmp_path, answer_with_count(calls))
    bench.ask(MANIFEST, m.MANIFEST)
    contents = [request(1), request(2)]
    starts = []
    for content in contents:
        body = encode_content(content)
        start = Start(
            number=1,
            id=hashlib.sha256(body.digest().encode()).hexdigest(),
            kind="request",
            type=m.TRAIN,
            size_bytes=body.size_bytes,
            digest=body.digest(),
        )
        bench.responder.request(Incoming(start, io.BytesIO(body.read(0, body.size_bytes))))
        starts.append(start)
    bench.responder.drop_all()
    assert bench.responder.wanted(starts[1]) == ""  # it is here already, and wanted again
    bench.responder.stop()
    bench.responder.run()
    assert calls == [1] and bench.outbox.sent[-1][0].reply_to == starts[1].id


def test_a_flood_of_requests_is_turned_away(bench: Bench) -> None:
    body = encode_content(request())
    answers = []
    for number in range(20):
        start = Start(
            number=number,
            id=hashlib.sha256(str(number).encode()).hexdigest(),
            kind="request",
            type=m.TRAIN,
            size_bytes=body.size_bytes,
            digest=body.digest(),
        )
        answers.append(bench.responder.wanted(start))
        if answers[-1] is None:
            bench.responder.request(Incoming(start, io.BytesIO(body.read(0, body.size_bytes))))
    assert answers[0] is None and answers[-1] == "more than 8 requests at once"


def test_an_answer_of_a_run_that_was_withdrawn_from_does_not_leave_in_the_next_one(
    bench: Bench,
) -> None:
    """It was kept and not sent; the server asks for it by its number under another plan."""
    bench.ask(request())
    answer = bench.outbox.sent[-1]
    bench.responder.withdraw(PlanRejected("this hospital rejected the plan of run 'one'"))
    assert bench.outbox.sent[-1][0].kind == "error"
    plan = RecordDict({**MANIFEST, "plan": ConfigRecord({"run": "two"})})
    bench.ask(plan, m.MANIFEST)
    bench.ask(request())
    again = bench.outbox.sent[-1]
    assert again[1] != answer[1] and again[0].kind == "reply"  # trained anew, for run two


def test_a_withdrawal_breaks_off_its_own_study_alone(bench: Bench) -> None:
    bench.ask(request())
    (own, body), another = bench.outbox.sent[-1], "b" * 64
    other = own.model_copy(update={"id": "a" * 64, "study": another})
    bench.outbox.sent.append((other, body))
    bench.responder.withdraw(PlanRejected("this hospital rejected the plan of run 'one'"))
    assert bench.outbox.sent[-1] == (other, body)  # the last one is what waits
    mine = Responder(
        bench.answer,
        Answers(bench.folder / "other"),
        bench.audit,
        bench.door,
        mailbox=bench.outbox,
        study=another,
        on_round=bench.rounds.append,
    )
    mine.withdraw(PlanRejected("this hospital rejected the plan of run 'two'"))
    error, _ = bench.outbox.sent[-1]
    assert error.kind == "error" and error.study == another
    assert (own, body) in bench.outbox.sent and (other, body) not in bench.outbox.sent


def test_before_a_plan_is_accepted_nothing_large_is_taken(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lambda message, context: message)
    start = Start(number=1, id="a" * 64, kind="request", type=m.TRAIN, size_bytes=1 << 30)
    assert bench.responder.wanted(start) == ""  # it needn't come: this is its answer
    (answer, _), before = bench.outbox.sent[-1], len(bench.outbox.sent)
    assert answer.kind == "error" and "no run manifest was accepted" in answer.reason
    shown = start.model_copy(update={"type": m.MANIFEST})
    assert "at most" in (bench.responder.wanted(shown) or "")
    small = shown.model_copy(update={"size_bytes": 40 << 20})
    assert bench.responder.wanted(small) is None
    bench.outbox.inbox.begun["b" * 64] = Incoming(
        small.model_copy(update={"id": "b" * 64}), BytesIO()
    )
    assert "at most" in (bench.responder.wanted(small) or "")
    bench.door.accepted = True
    assert bench.responder.wanted(start) is None
    keys = start.model_copy(update={"type": m.KEYS})
    assert "at most" in (bench.responder.wanted(keys) or "")
    assert len(bench.outbox.sent) == before
