"""One request after the other: check, work, remember, write down, send.

The order keeps every promise over a crash. What secure aggregation and the ledger promise is on
disk before an answer exists; the answer is kept and the audit log says it leaves before it does;
asked again, the hospital gives the same bytes. Nothing leaves that isn't in the accepted manifest.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from wardround.client.process.answers import Answers, FileBody
from wardround.client.process.public_words import PublicWords
from wardround.client.process.said import Said
from wardround.client.site.outward import Outward
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, RequestRefused, TransportError, WardroundError
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.flower.hosting import Message, received_message
from wardround.common.manifest.manifest import MOST_BYTES
from wardround.common.privacy.claims import claimed_epsilon
from wardround.common.protocol import names as m
from wardround.common.protocol.errors import Code, code_for, code_of
from wardround.common.protocol.kept import is_work
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import round_of
from wardround.common.protocol.train import claim_in
from wardround.common.text import one_line
from wardround.common.transport.frames import Start
from wardround.common.transport.items import Incoming, Readable
from wardround.common.transport.mailbox import Mailbox

log = logging.getLogger("wardround.client")

_KEPT = {m.TRAIN, m.BEGIN, m.EVALUATE, m.STATISTICS, m.SUMS, m.LETTERS, m.UNMASK}
"""Answers that are kept: work, or promises, that must not be made twice."""


class Guard(Protocol):
    """The hospital's last word."""

    @property
    def run(self) -> str:
        """The name of the run whose manifest is accepted; '' where none is."""

    def admit(self, content: Content) -> Content:
        """The answer to a run manifest. Raises WardroundError if the policy forbids the run."""

    def may_begin(self, message_type: str, request: Content | None) -> None:
        """Raise PolicyRefused unless an accepted manifest has requests of this type."""

    def may_spend(self) -> None:
        """Before training, or a step of another procedure. Raise PrivacyRefused if the hospital's
        rules forbid another round."""

    def may_leave(self, message_type: str, content: Content) -> str:
        """What protects a reply, in a word. Raises PolicyRefused if it isn't in the manifest."""


_MOST_AT_ONCE = 8
_LARGE = {m.TRAIN, m.BEGIN, m.EVALUATE, m.STATISTICS, m.SUMS, m.LETTERS}
_LARGE |= {m.MODEL, m.GIVE, m.TAKE}
"""Requests that may carry a model or totals."""
MOST_SMALL_BYTES = MOST_BYTES + (1 << 16)
"""Of all others: a manifest in its envelope is the largest."""


@dataclass
class _Work:
    start: Start
    content: Content


_Answer = tuple[Start, Readable | None]
"""What is to be sent: its announcement and its body."""


def too_large(start: Start, mailbox: Mailbox) -> str:
    """Why a request's size can't be right; '' if it may be. Before a plan is accepted a server has
    nothing to send but manifests, one after the other."""
    if start.type in _LARGE:
        return ""
    begun = [one.start for one in mailbox.inbox.begun.values()]
    others = [one for one in begun if one.type == start.type and one.id != start.id]
    size = start.size_bytes + sum(one.size_bytes for one in others)
    over = size > MOST_SMALL_BYTES
    return f"{start.type} of {size} bytes; at most {MOST_SMALL_BYTES} are taken" if over else ""


class Responder:
    """Answers requests in a thread of its own: the connection hands them over, the app works.

    Parameters
    ----------
    app : the reply to a request; it alone computes on patients' data, and what the reply promises
        is on disk when it returns
    study : id of the one of a network; '' in a federation that is one
    name : of that study, for people
    on_round : is told when a training request of a new round comes
    outward : what may leave of an error; by default nothing of the hospital's own
    host : requests that the process answers itself, whatever was accepted, by type
    """

    def __init__(
        self,
        app: Callable[[Message], Message],
        answers: Answers,
        audit: AuditLog,
        guard: Guard,
        *,
        mailbox: Mailbox,
        on_round: Callable[[int], None],
        study: str = "",
        name: str = "",
        outward: Callable[[Exception], str] | None = None,
        host: Mapping[str, Callable[[Content], Content]] | None = None,
    ) -> None:
        self._study, self._host = study, host or {}
        self._named = f"study {name or study[:12]}: " if study else ""
        self._said = Said()
        self._over: WardroundError | None = None
        self._app, self._answers = app, answers
        self._audit, self._guard, self._mailbox, self._on_round = audit, guard, mailbox, on_round
        self._outward = outward or Outward()
        self._words = PublicWords(audit.path)
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._busy: set[str] = set()
        self._dropped: set[str] = set()
        self._lock = threading.Lock()
        self._round = 0

    # --- called by the connection ----------------------------------------------------------------
    def wanted(self, start: Start) -> str | None:
        """Whether a request's body is to come: not if it is being answered, or was.

        If it is being answered, a Drop that came before is undone. If it was, the kept answer is
        sent, after a line in the audit log; nothing is computed or paid again.
        """
        with self._lock:
            if start.id in self._busy:
                self._dropped.discard(start.id)
                return ""
            if len(self._busy) >= _MOST_AT_ONCE:
                return f"more than {_MOST_AT_ONCE} requests at once"
        if start.type in self._host:
            return too_large(start, self._mailbox) or None
        if (reason := too_large(start, self._mailbox)) or start.type == m.MANIFEST:
            return reason or None
        try:  # before anything of it comes: what isn't answered takes no room
            self._guard.may_begin(start.type, None)
        except WardroundError as error:
            self._mailbox.put(*self._error(start, error))
            return ""
        kept = self._answers.find(self._guard.run, start.id)
        if kept is None:
            return None
        answer, body = kept
        log.info("%s was asked again; the kept answer is sent", start.type)
        self._audit.append(
            "sent",
            kind=start.type,
            bytes=body.size_bytes,
            digest=answer.digest,
            request=start.id,
            again=True,
            **_of(start),
        )
        self._mailbox.put(answer, body)
        return ""

    def request(self, message: Incoming) -> None:
        """Take a request that has come as a whole."""
        start = message.start
        with message.file, self._lock:
            try:
                content = decode_content(message.file, start.size_bytes, stored=True)
            except TransportError as error:
                self._mailbox.put(*self._error(start, RequestRefused(str(error))))
                return
            self._busy.add(start.id)
            self._dropped.discard(start.id)
        self._queue.put(_Work(start, content))

    def drop(self, request_id: str) -> None:
        """Don't begin a request that nobody waits for."""
        with self._lock:
            if request_id in self._busy:
                self._dropped.add(request_id)

    def drop_all(self) -> None:
        """The server is another process now and knows nothing of what was asked before."""
        with self._lock:
            self._dropped |= self._busy

    def withdraw(self, why: WardroundError) -> None:
        """Break off this study's answers that are on their way, or wait for a connection; the
        server is told why instead."""
        for start in self._mailbox.waiting():
            if start.kind == "reply" and start.study == self._study:
                self._mailbox.take_back(start.id)
                asked = start.model_copy(update={"id": start.reply_to})
                self._mailbox.put(*self._error(asked, why))

    def end(self, why: WardroundError) -> None:
        """The study is over: no answer leaves from now on, whatever is at work. ``run`` returns."""
        with self._lock:
            self._over = why
        self.withdraw(why)
        self.stop()

    def stop(self) -> None:
        """``run`` returns after the request that it is at."""
        self._queue.put(None)

    # --- the thread ------------------------------------------------------------------------------
    def run(self) -> None:
        """Answer requests until ``stop``."""
        while (work := self._queue.get()) is not None:
            with self._lock:
                if work.start.id in self._dropped:
                    self._dropped.discard(work.start.id)
                    self._busy.discard(work.start.id)
                    continue
            answer = self._answer(work)
            with self._lock:  # in one: who asks again finds it either at work or on its way
                if self._over is not None and work.start.type not in self._host:
                    answer = self._error(work.start, self._over)
                self._busy.discard(work.start.id)
                self._dropped.discard(work.start.id)
                self._mailbox.put(*answer)

    def _answer(self, work: _Work) -> _Answer:
        start = work.start
        number = round_of(work.content)
        self._audit.append(
            "received",
            kind=start.type,
            round=number,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.id,
            told=self._words.of(self._guard.run, start.type, work.content),
            **_of(start),
        )
        if is_work(start.type, work.content) and number != self._round:
            self._round = number
            self._on_round(number)
        try:
            # the order: may it begin and be paid, work, state on disk, may it leave, answer kept,
            # audit line on disk; only then bytes
            if start.type in self._host:
                content, protection = self._host[start.type](work.content), "none"
            elif start.type == m.MANIFEST:
                content, protection = self._guard.admit(work.content), "none"
            else:
                self._guard.may_begin(start.type, work.content)
                if start.type in (m.SUMS, m.LETTERS) or is_work(start.type, work.content):
                    self._guard.may_spend()
                reply = self._run_app(work)
                if reply.has_error():
                    code = code_of(reply.error.code)
                    said = RequestRefused(reply.error.reason or "no reason")  # by the app, for all
                    return self._error(start, said, number, code)
                content = reply.content
                protection = self._guard.may_leave(start.type, content)
            return self._reply(start, content, number, protection)
        except AuditError:
            raise  # what can't be written down isn't done: the process ends
        except WardroundError as error:
            return self._error(start, error, number)
        except OSError as error:
            failed = RequestRefused(f"its disk failed ({error.strerror})")
            return self._error(start, failed, number)
        except Exception as error:  # its text might quote a cell
            log.debug("a request failed", exc_info=True)
            failed = RequestRefused(f"{type(error).__name__} in the hospital's host")
            return self._error(start, failed, number)

    def _run_app(self, work: _Work) -> Message:
        request = received_message(work.content, work.start.type, work.start.id)
        return self._app(request)

    def _reply(self, start: Start, content: Content, number: int, protection: str) -> _Answer:
        """An answer that is kept, written down, and may leave.

        Kept before the audit log says that it leaves: what is said to have left can be sent again.
        """
        body = encode_content(content)
        digest = body.digest()
        reply = reply_to(start, body.size_bytes, digest)
        kept: FileBody | None = None
        if start.type in _KEPT:
            kept = self._answers.keep(self._guard.run, start.id, reply, body)
        with self._lock:  # of a study that is over no later line says that something left
            if self._over is not None and start.type not in self._host:
                raise self._over
            self._audit.append(
                "sent",
                kind=start.type,
                round=number,
                bytes=body.size_bytes,
                digest=digest,
                request=start.id,
                protection=protection,
                epsilon=_epsilon(content),
                **_of(start),
            )
        self._said.forget(start.type)
        log.log(
            logging.DEBUG if start.type in self._host else logging.INFO,
            "%s%s%s: %d bytes leave (%s)",
            self._named,
            start.type,
            f" of round {number}" if number else "",
            body.size_bytes,
            protection,
        )
        return reply, kept or body

    def _error(
        self, start: Start, error: WardroundError, number: int = 0, code: Code | None = None
    ) -> _Answer:
        line = f"{self._named}{start.type} refused: {one_line(str(error), 1000)}"
        # a plan is shown again and again until a person has decided, or the rules are others; and
        # results until there is room for them
        again = start.type == m.MANIFEST or start.type in self._host
        new = not again or self._said.is_new(start.type, line)
        log.log(logging.WARNING if new else logging.DEBUG, "%s", line)
        code = code_for(error) if code is None else code
        return refusal(start, self._outward(error), self._audit, number, code), None


def reply_to(start: Start, size_bytes: int, digest: str) -> Start:
    """What announces an answer of that size and digest (hexadecimal) to a request. Its id is of
    request and content, so another answer to the same request is another message."""
    return Start(
        number=0,
        id=hashlib.sha256(f"{start.id}\x1f{digest}".encode()).hexdigest(),
        kind="reply",
        type=start.type,
        study=start.study,
        reply_to=start.id,
        size_bytes=size_bytes,
        digest=digest,
    )


def refusal(
    start: Start, reason: str, audit: AuditLog, number: int = 0, code: Code = Code.FAILED
) -> Start:
    """A line that says why there is no answer to a request, written down.

    reason : what may leave of it
    number : of its round; 0 where it has none
    """
    line = one_line(reason)
    of = _of(start)
    audit.append("refused", kind=start.type, round=number, reason=line, request=start.id, **of)
    return Start(
        number=0,
        id=hashlib.sha256(f"{start.id}\x1ferror\x1f{line}".encode()).hexdigest(),
        kind="error",
        type=start.type,
        study=start.study,
        reply_to=start.id,
        reason=line,
        code=code,
    )


def _of(start: Start) -> dict[str, str]:
    """What an audit line says of the study that a message is about."""
    return {"study": start.study} if start.study else {}


def _epsilon(content: Content) -> float | None:
    """What this hospital has spent, by the claim in a reply."""
    return claimed_epsilon(claim_in(content))
