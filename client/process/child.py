"""A study's place in a child process, and how many of these there are at once.

A child takes some 0.3 GB after its imports, so only so many live as ``studies_at_once`` says. One
that is at nothing ends when another study needs its room: what a hospital has promised is on the
disk between any two requests, so nothing is lost, and the next request starts it again. A child
that dies fails its request in a fixed sentence.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from wardround.client.data.witness import Anchor
from wardround.client.links.store import EVENT as LINK
from wardround.client.process.child_work import work
from wardround.client.process.pipe import Head, Pipe, read_error, told_error
from wardround.client.process.place import Surroundings
from wardround.client.site.terms import Data, Terms
from wardround.common.errors import AuditError, TransportError, WardroundError
from wardround.common.flower.hosting import Message, error_reply, message_with
from wardround.common.manifest.manifest import MOST_BYTES, Manifest
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.protocol.message import Content
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")
DIED = "the process that computes this study ended; it is started again at the next request"
_DATA = "data"
"""The only event that a child may write beside those of links: which rows were read."""


class Children:
    """Room for so many children.

    most : ``studies_at_once``
    """

    def __init__(self, most: int) -> None:
        self._most, self._changed = most, threading.Condition()
        self._live: dict[ChildPlace, None] = {}  # the longest unused first
        self._busy: set[ChildPlace] = set()

    @contextmanager
    def room(self, place: ChildPlace) -> Iterator[None]:
        """Hold room for a place's child, as long as it is at work: wait for it where all others are
        at work, or end the one that was idle for longest."""
        with self._changed:
            while place not in self._live and len(self._live) >= self._most:
                idle = next((one for one in self._live if one not in self._busy), None)
                if idle is None:
                    self._changed.wait()
                else:
                    idle.end()
                    del self._live[idle]
            self._live.pop(place, None)
            self._live[place] = None
            self._busy.add(place)
        try:
            yield
        finally:
            with self._changed:
                self._busy.discard(place)
                if not place.is_alive:
                    self._live.pop(place, None)
                self._changed.notify_all()

    def leave(self, place: ChildPlace) -> None:
        """A place is closed."""
        with self._changed:
            if place not in self._busy:  # else its room is given back when it is
                self._live.pop(place, None)
            self._changed.notify_all()


@dataclass(frozen=True)
class Setup:
    """What a child is told to begin with.

    kit : its folder
    study : id
    device, data : what the client was started with
    """

    kit: Path
    study: str
    device: str | None
    data: Data

    def told(self, terms: Terms, most_bytes: int) -> str:
        """JSON for a child that is to compute by these terms."""
        values = {
            "kit": str(self.kit.absolute()),
            "study": self.study,
            "device": self.device,
            "data": str(self.data.path.absolute()) if self.data.path is not None else None,
            "none": self.data.none,
            "name": self.data.name,
            "mark": terms.mark(),
            "most_bytes": most_bytes,
            "level": log.getEffectiveLevel(),
        }
        return json.dumps(values)


class ChildPlace:
    """A ``Place`` whose work is done by a child process, begun when it is needed.

    spool : folder for bodies on their way
    """

    def __init__(self, setup: Setup, children: Children, spool: Path, around: Surroundings) -> None:
        self._setup, self._children, self._spool = setup, children, spool
        self._around = around
        self._terms: Terms | None = None
        self._last: Terms | None = (
            None  # what last held, also where nothing can be made of new ones
        )
        self._run = ""
        self._plan: Manifest | None = None
        self._child: _Child | None = None
        self._closed = False

    @property
    def is_alive(self) -> bool:
        """Whether there is a child."""
        return self._child is not None and self._child.process.is_alive()

    @property
    def process_id(self) -> int | None:
        """The child's, where there is one."""
        return self._child.process.pid if self._child is not None else None

    def take_up(self, terms: Terms) -> str:
        before, self._terms = self._terms, None
        if before is None or terms.mark() != before.mark():
            self._plan = None
            with self._children.room(self):
                self.end()
                self._make(terms)
        others = terms.others(self._last) if self._last is not None else ""
        self._terms = self._last = terms
        return others

    def begin(self, run: str) -> None:
        self._run = run
        self._ask({"do": "begin", "run": run})

    def accepted(self, manifest: Manifest) -> None:
        self._plan = manifest
        self._ask({"do": "accepted"}, _plan(manifest))

    def units(self) -> int | None:
        head, _ = self._ask({"do": "units"})
        return None if head["done"] is None else int(head["done"])

    def answer(self, message: Message) -> Message:
        request = {"do": "answer", "type": message.metadata.message_type}
        try:
            head, content = self._ask(
                request | {"id": message.metadata.message_id}, message.content
            )
        except _Died:
            if not self._closed:  # it counts: a request may have been made for just that
                self._around.on_failure("a request", DIED)
            raise
        if "failed" in head:
            return error_reply(message, str(head["failed"]), int(head["code"]))
        return message_with(content, message)

    def figures(self, folder: Path) -> None:
        self._ask({"do": "figures", "folder": str(folder.absolute())})

    def end(self) -> None:
        """End the child, whatever it is at; the next request starts it again."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def close(self) -> None:
        """End the child for good."""
        self._closed = True
        if (child := self._child) is not None:
            child.end()
        self._children.leave(self)

    # --- the child -------------------------------------------------------------------------------
    def _ask(self, head: Head, content: Content | None = None) -> tuple[Head, Content]:
        if self._terms is None:
            raise WardroundError("nothing could be made of this study's settings yet")
        with self._children.room(self):
            if not self.is_alive:
                self.end()
                self._make(self._terms)
                if self._run and head["do"] != "begin":
                    self._send({"do": "begin", "run": self._run})
                if self._plan is not None and head["do"] != "accepted":
                    self._send({"do": "accepted"}, _plan(self._plan))
            return self._send(head, content)

    def _make(self, terms: Terms) -> None:
        if self._closed:
            raise WardroundError("this study is over at this hospital")
        most = max(terms.config.server.max_message_mb << 20, MOST_BYTES + (1 << 16))
        self._child = _Child(self._setup.told(terms, most), self._spool, most)
        if self._closed:  # meanwhile
            self._child.end()
        log.debug("study %s computes in process %s", self._setup.study[:12], self.process_id)
        try:
            self._send({"do": "make"})
        except BaseException:
            self.end()
            raise

    def _send(self, head: Head, content: Content | None = None) -> tuple[Head, Content]:
        """Ask, and do meanwhile what the child asks for. Raises what it told, or _Died."""
        child = self._child
        assert child is not None
        try:
            child.pipe.send(head, content)
            answer, body = child.pipe.receive()
            while "error" not in answer and "done" not in answer and "failed" not in answer:
                if "log" in answer:
                    _log(answer)
                else:
                    child.pipe.send(self._called(answer))
                answer, body = child.pipe.receive()
        except (EOFError, OSError, TransportError) as error:
            how = str(error) if isinstance(error, TransportError) else child.how()
            if not self._closed:
                log.error("study %s: its child %s", self._setup.study[:12], how)
            self.end()
            raise _Died(DIED) from None
        if "error" in answer:
            raise read_error(answer["error"])
        return answer, body

    def _called(self, head: Head) -> Head:
        """What a child asks for in between. Raises AuditError."""
        try:
            return {"done": self._do(head)}
        except AuditError:
            raise  # what can't be written down isn't done: the process ends
        except (WardroundError, OSError) as error:
            return {"error": told_error(error)}

    def _do(self, head: Head) -> Any:
        witness = self._around.witness
        match head["call"]:
            case "append" if head["event"] in (_DATA, LINK):
                self._around.audit.append(str(head["event"]), **head["fields"])
            case "kit":
                return witness.kit
            case "newest":
                return list(witness.newest())
            case "add":
                number, hashed = head["anchor"]
                witness.add(Anchor(int(number), str(hashed)), head["entry"])
            case "failure":
                self._around.on_failure(str(head["purpose"]), str(head["reason"]))
            case _:
                raise TransportError("a child asked for what there isn't")
        return None


AHEAD = "wardround.client.process.ahead"
"""By its name: this process has no need of what it imports."""


class _Died(WardroundError):
    """A child ended in the middle."""

    tells = True


class _Child:
    """A child process and the pipe to it; it ends with this object."""

    def __init__(self, setup: str, spool: Path, most_bytes: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([work.__module__, AHEAD])
        ours, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, setup), name="study")
        try:
            self.process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self.pipe = Pipe(ours, spool, most_bytes)
        self._finish = weakref.finalize(self, _end, self.process, self.pipe)

    def how(self) -> str:
        """How it ended, for this hospital's own log."""
        self.process.join(1.0)
        code = self.process.exitcode
        return f"ended by signal {-code}" if code is not None and code < 0 else f"ended ({code})"

    def end(self) -> None:
        """Kill it."""
        self._finish()


def _end(process: BaseProcess, pipe: Pipe) -> None:
    process.kill()
    process.join()
    pipe.close()


def _plan(manifest: Manifest) -> Content:
    return ManifestRequest(manifest.body()).to_records()


def _log(head: Head) -> None:
    level, name = int(head["log"]), str(head["name"])
    logging.getLogger(name).log(level, "%s", one_line(str(head["text"]), 4000))
