"""What a child process does: it holds one study's place, and answers what its parent asks.

It is forked by a server that has imported this module and nothing else has happened in, so it takes
no imports of its own. It reads kit, rules and study from the disk itself, and computes only if
these are what its parent has checked. Privacy spendings, lines for the audit log and failures are
its parent's to write down: it asks, and goes on when that is on the disk. It ends when its parent
is gone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from wardround.client.data.witness import Anchor
from wardround.client.process.pipe import Head, Pipe, read_error, told_error
from wardround.client.process.place import OwnPlace, Surroundings
from wardround.client.site.kit import Kit
from wardround.client.site.outward import Outward
from wardround.client.site.studies import StudyFolders
from wardround.client.site.terms import Data, Terms
from wardround.common.durable.lock import Lock, try_lock
from wardround.common.errors import RulesEdited, TransportError, WardroundError
from wardround.common.flower.hosting import Message, received_message
from wardround.common.manifest.manifest import Manifest
from wardround.common.mapped import keep_in
from wardround.common.protocol.manifest import ManifestRequest
from wardround.common.protocol.message import Content

LOCK = "computing.lock"
"""In a study's state: held by the one child that computes it."""
_LOCK_WITHIN_S = 10.0
_MOST_LINE = 4000


def work(connection: Connection, setup: str) -> None:
    """A child's life.

    setup : JSON: kit (folder), study (id), device, data, none, name, mark, most_bytes, level
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: its parent ends it
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    values = json.loads(setup)
    folder = StudyFolders(Path(values["kit"]) / "state").folder(values["study"])
    keep_in(folder)
    pipe = Pipe(connection, folder, values["most_bytes"])
    logging.basicConfig(handlers=[_ToParent(pipe)], level=values["level"], force=True)
    bench = _Bench(pipe, values, folder)
    while True:
        try:
            head, content = pipe.receive()
        except (EOFError, OSError):
            break
        try:
            done = bench.do(head, content)
        except Exception as error:
            logging.getLogger("wardround.client").debug("a child failed", exc_info=True)
            pipe.send({"error": told_error(error)})
        else:
            pipe.send(*done)
    os._exit(0)


def _end_with_parent() -> None:
    """Training may hold the main thread for minutes: nothing of it is of use any more."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


class _Bench:
    """The place, made when it is first asked for."""

    def __init__(self, pipe: Pipe, values: Mapping[str, Any], folder: Path) -> None:
        self._pipe, self._values, self._folder = pipe, values, folder
        self._place: OwnPlace | None = None
        self._lock: Lock | None = None

    def do(self, head: Head, content: Content) -> tuple[Head, Content | None]:
        """What one message asks for."""
        if head["do"] == "make":
            self._place = self._make()
            return {"done": None}, None
        place = self._place
        if place is None:
            raise WardroundError("a child was asked before it was made")
        match head["do"]:
            case "begin":
                place.begin(str(head["run"]))
            case "accepted":
                body = ManifestRequest.from_records(content).manifest
                place.accepted(Manifest.from_body(body))
            case "units":
                return {"done": place.units()}, None
            case "figures":
                place.figures(Path(str(head["folder"])))
            case "answer":
                message = received_message(content, str(head["type"]), str(head["id"]))
                return _reply(place.answer(message))
        return {"done": None}, None

    def _make(self) -> OwnPlace:
        values = self._values
        kit = Kit.open(Path(values["kit"]))
        study = StudyFolders(kit.state).read(values["study"], kit.description)
        path = Path(values["data"]) if values["data"] is not None else None
        data = Data(path, values["none"], values["name"])
        terms = Terms.read(kit, values["device"], data=data, study=study)
        if terms.mark() != values["mark"]:
            raise RulesEdited(
                "this hospital's own files or the signed description have changed since the plan "
                "was looked at; it is to be shown again"
            )
        self._lock = self._alone()
        outward = Outward(terms.data.path, folders=[kit.folder, Path.cwd()])
        parent = _Parent(self._pipe)
        around = Surroundings(parent, parent, outward, parent.note_failure)
        return OwnPlace(terms, self._folder, around)

    def _alone(self) -> Lock:
        """An earlier child may be at its end. Raises TransportError."""
        deadline = time.monotonic() + _LOCK_WITHIN_S
        while (held := try_lock(self._folder / LOCK)) is None:
            if time.monotonic() > deadline:
                raise TransportError("another process computes this study; it didn't end")
            time.sleep(0.02)
        return held


def _reply(message: Message) -> tuple[Head, Content | None]:
    if message.has_error():
        error = message.error
        return {"failed": error.reason or "no reason", "code": int(error.code)}, None
    return {"done": None}, message.content


class _Parent:
    """The parent as the place sees it: it writes the audit log, and is the ledger's witness."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    def _call(self, name: str, **fields: Any) -> Any:
        self._pipe.send({"call": name} | fields)
        head, _ = self._pipe.receive()
        if "error" in head:
            raise read_error(head["error"])
        return head["done"]

    def append(self, event: str, **fields: Any) -> None:
        self._call("append", event=event, fields=fields)

    @property
    def kit(self) -> str:
        return str(self._call("kit"))

    def newest(self) -> Anchor:
        number, hashed = self._call("newest")
        return Anchor(int(number), str(hashed))

    def add(self, anchor: Anchor, entry: Mapping[str, Any]) -> None:
        self._call("add", anchor=list(anchor), entry=dict(entry))

    def note_failure(self, purpose: str, reason: str) -> None:
        self._call("failure", purpose=purpose, reason=reason)


class _ToParent(logging.Handler):
    """Lines for the parent's log."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()[:_MOST_LINE]
            self._pipe.send({"log": record.levelno, "name": record.name, "text": text})
        except Exception:  # a line that can't be told is no reason to stop
            self.handleError(record)
