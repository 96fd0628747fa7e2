"""Answers that are kept until nobody can ask for them again.

A request that comes twice (the connection broke, a process at either end was killed) gets the same
bytes twice: training isn't repeated, and no privacy is paid again. An answer is of one run: what
was withdrawn before it had left doesn't leave in a later run. The body isn't forced to disk, since
its digest tells whether it is whole; the journal that says an answer was given is
(``audit.jsonl``).
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path

from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import private_folder
from wardround.common.errors import TransportError
from wardround.common.flower.content import Body, BodyDigest
from wardround.common.transport.frames import CHUNK_BYTES, Start

_KEEP = 4
"""Newest answers, of all runs: a server that begins again asks for what its last round was at."""


class FileBody:
    """A body in a file, from an offset on, read in pieces. It may be removed meanwhile: the open
    descriptor keeps its bytes until they have been sent.

    skip : bytes of the line before it
    """

    def __init__(self, path: Path, skip: int) -> None:
        self._skip = skip
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size_bytes = os.fstat(self._descriptor).st_size - skip

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``."""
        return os.pread(self._descriptor, count, self._skip + offset)


class Answers:
    """The last answers by run and request id, in a folder: a line of JSON (the Start), then the
    body."""

    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)
        for torn in folder.glob("*.tmp"):
            torn.unlink()

    def keep(self, run: str, request_id: str, start: Start, body: Body) -> FileBody:
        """Write an answer; older ones than the last few are forgotten. Gives the body to send.

        Raises OSError if it can't be written.
        """
        path = self._path(run, request_id)
        head = start.model_dump_json().encode() + b"\n"
        places = range(0, body.size_bytes, CHUNK_BYTES)
        pieces = (body.read(offset, CHUNK_BYTES) for offset in places)
        write_atomically(path, itertools.chain([head], pieces), private=True, durable=False)
        kept = sorted(self._folder.iterdir(), key=lambda one: one.stat().st_mtime_ns)
        for old in kept[:-_KEEP]:
            old.unlink()
        return FileBody(path, len(head))

    def find(self, run: str, request_id: str) -> tuple[Start, FileBody] | None:
        """The answer that was given in this run; None if there is none, or it was damaged by a
        power cut."""
        path = self._path(run, request_id)
        try:
            with open(path, "rb") as file:
                head = file.readline(CHUNK_BYTES)
            start = Start.model_validate_json(head)
            body, digest = FileBody(path, len(head)), BodyDigest()
            for offset in range(0, body.size_bytes, CHUNK_BYTES):
                digest.update(body.read(offset, CHUNK_BYTES))
            whole = digest.hexdigest() == start.digest and start.reply_to == request_id
        except (OSError, ValueError, TransportError):
            return None
        return (start, body) if whole else None

    def _path(self, run: str, request_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(run.encode()).hexdigest()}-{request_id}"
