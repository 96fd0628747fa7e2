"""The Flower ``Grid`` whose nodes are hospitals behind connections, for one study.

Every request has an id made of run, hospital, type and digest: delivered again, by a reconnect or a
server that started again, it is the same request, and the hospital does its work once. Replies lie
in spools until they are pulled, one at a time, so memory doesn't grow with the cohort.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import Message

from wardround.common.errors import WardroundError
from wardround.common.flower.content import BlobDigests, encode_content
from wardround.common.flower.hosting import (
    HostGrid,
    error_reply,
    set_message_id,
    timestamp,
)
from wardround.common.protocol.errors import Code
from wardround.common.transport.frames import Start
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.hall import Hall
from wardround.server.transport.links import Asked, Link, node_id_of


class HospitalGrid(HostGrid):
    """All hospitals of the roster that are connected and whose policy allows the run.

    Parameters
    ----------
    run_name : bound into every request's id
    hall : the connections
    study : its id; '' in a federation that is one study
    events : is told what is sent, received and accepted; default: what the hall has

    Attributes
    ----------
    on_withdrawn : is told of a hospital that withdraws from the run, the reason and its code
    on_again : is told of a hospital whose people have decided something
    """

    def __init__(
        self, run_name: str, hall: Hall, study: str = "", events: ServerEvents | None = None
    ) -> None:
        super().__init__()
        self.run_name, self.hall, self.study = run_name, hall, study
        self.lease_s, self.changed = hall.lease_s, hall.changed
        self.links: dict[str, Link] = {}
        self._by_node: dict[int, Link] = {}
        self._events = events or hall.events
        self._serials = itertools.count(1)
        self._strays: dict[str, Message] = {}
        self._failure: WardroundError | None = None
        self.on_withdrawn: Callable[[Link, str, Code], None] = lambda link, reason, code: None
        self.on_again: Callable[[str], None] = lambda name: None

    def fail(self, error: WardroundError) -> None:
        """Nothing can be asked any more: whoever works with this grid gets the error."""
        with self.changed:
            self._failure = self._failure or error
            self.changed.notify_all()

    def check(self) -> None:
        """Raise what ``fail`` was told."""
        if self._failure is not None:
            raise self._failure

    # --- hospitals ---------------------------------------------------------------------------
    def link(self, name: str) -> Link:
        """The link of a hospital, made when it is first needed."""
        with self.changed:
            if name not in self.links:
                link = Link(
                    self.hall.line(name),
                    self.study,
                    self.changed,
                    self._events,
                    lambda link, reason, code: self.on_withdrawn(link, reason, code),
                    lambda name: self.on_again(name),
                )
                self.links[name] = self._by_node[link.node_id] = link
            return self.links[name]

    def close(self) -> None:
        """The study is over: nothing of it is asked, or waited for, any more."""
        for link in list(self.links.values()):
            link.close()

    def admitted(self) -> list[str]:
        """Names of those that may be asked."""
        with self.changed:
            links = self.links.items()
            return sorted(name for name, link in links if link.connected and link.admitted)

    def gone(self) -> set[str]:
        """Names of those who can't be asked, by a decision of their own people."""
        with self.changed:
            links = self.links.items()
            return {name for name, link in links if link.stays_away(self.lease_s)}

    def departures(self) -> int:
        """Requests that nobody answered for such a decision; it only grows. Who compares it before
        and after an attempt knows whether anybody went meanwhile."""
        with self.changed:
            return sum(link.departures for link in self.links.values())

    # --- Grid --------------------------------------------------------------------------------
    def name(self, node_id: int) -> str:
        known = {node_id_of(name): name for name in list(self.links)}
        return known.get(node_id) or super().name(node_id)

    def get_node_ids(self) -> Iterable[int]:
        return [node_id_of(name) for name in self.admitted()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Ask, and give each message its id: request, node and serial, joined by '-'.

        Where nobody has the node, the reply is an error; so it is at once where the hospital has
        been away for a lease. Raises what ``fail`` was told.
        """
        self.check()
        known: BlobDigests = {}  # arrays that all are sent are hashed once
        return [self._push(message, known) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterator[Message]:
        """The replies that are here, each read from its spool when it is its turn, and forgotten.

        An id that isn't answered yet, or was pulled before, gives nothing.
        """
        self.check()
        for message_id in message_ids:
            stray = self._strays.pop(message_id, None)
            if stray is not None:
                yield error_reply(stray, "no hospital has this node id")
            elif key := self._key(message_id):
                link, request_id, serial = key
                asked = link.take(request_id, serial)
                if asked is not None:
                    yield asked.reply()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """The replies within ``timeout`` seconds, as they come; the others aren't waited for, and
        what was asked is taken back."""
        pending, replies = set(self.push_messages(messages)), []
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while pending and time.monotonic() < deadline:
            for reply in self.pull_messages(list(pending)):
                pending.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
            if pending:
                self.wait(pending, 1.0)
        self.withdraw(pending)
        return replies

    # --- what a loop over replies also needs -------------------------------------------------
    def wait(self, message_ids: Iterable[str], seconds: float) -> None:
        """Until a reply to one of these is here, or anything else changed, at most so long: who
        waits looks again."""
        ids = list(message_ids)
        with self.changed:
            if not any(self._is_answered(message_id) for message_id in ids):
                self.changed.wait(seconds)

    def withdraw(self, message_ids: Iterable[str]) -> None:
        """Nobody waits for these any more."""
        for message_id in message_ids:
            self._strays.pop(message_id, None)
            if key := self._key(message_id):
                link, request_id, serial = key
                link.forget(request_id, serial)

    def _key(self, message_id: str) -> tuple[Link, str, str] | None:
        """Link, request and serial of an id that this grid gave; None for any other."""
        request_id, _, rest = message_id.partition("-")
        node_id, _, serial = rest.partition("-")
        link = self._by_node.get(int(node_id)) if node_id.isdigit() else None
        return (link, request_id, serial) if link is not None else None

    def _is_answered(self, message_id: str) -> bool:
        if message_id in self._strays:
            return True
        key = self._key(message_id)
        if key is None:
            return False
        link, request_id, serial = key
        asked = link.find(request_id, serial)
        return asked is not None and asked.answered

    def _push(self, message: Message, known: BlobDigests) -> str:
        metadata = message.metadata
        link = self._by_node.get(metadata.dst_node_id)
        if link is None:
            set_message_id(message, f"stray-{next(self._serials)}")
            self._strays[metadata.message_id] = message
            return metadata.message_id
        body = encode_content(message.content)
        digest = body.digest(known)
        parts = [self.run_name, link.name, metadata.message_type, digest]
        request_id = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
        serial = str(next(self._serials))
        set_message_id(message, f"{request_id}-{link.node_id}-{serial}")
        metadata.created_at = timestamp()
        start = Start(
            number=0,
            id=request_id,
            kind="request",
            type=metadata.message_type,
            study=self.study,
            size_bytes=body.size_bytes,
            digest=digest,
        )
        link.ask(Asked(message, start, body, serial))
        if not link.connected and link.silent_s() > self.lease_s:
            link.fail_all("it is not connected")
        return metadata.message_id
