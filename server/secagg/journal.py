"""The journal of secure aggregation: what a server that died needs to go on inside a round.

    journal/train-3.journal   the masked sum, and all it takes to ask for the shares that open it
    journal/train-3.answers   the shares that opened it

A sum's journal is durable before the first request to unmask it, and is written once. A server that
starts again asks with the very requests it holds, so hospitals are never asked for another survivor
set of the same keys; once the sum is open, its answers are durable before anything else is asked of
the hospitals, who may then have forgotten the keys. What can't be opened is dropped for good, and
the round is done afresh under fresh keys. All of it goes when the round's checkpoint is on disk.

What is kept opens the sum of that round, which the server knows anyway (with a central run's noise
in it already), and no single hospital's part. It is no secret worth more than the checkpoints, but
only the server's user may read it. The checksum finds torn files; it is no signature. A server
that lies in its journal could have lied in its messages: ``client/secagg/party.py`` refuses it
either way.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from wardround.common.durable.files import sync, write_atomically
from wardround.common.durable.versioned import Format
from wardround.common.errors import CheckpointError, ProtocolRefused
from wardround.common.mapped import let_go
from wardround.common.secagg import messages as wire
from wardround.common.secagg.ckks import parameters
from wardround.common.secagg.encoding import VectorLayout
from wardround.common.secagg.ring import RingVector
from wardround.common.settings import SecureAggregationTable
from wardround.server.secagg.pending import PendingSums
from wardround.server.secagg.sum import KeyGroup, MaskedSum

log = logging.getLogger("wardround.server")

_FORGET = "remove the file: what it was to open is asked of the hospitals anew"
# version 2 has the key of a blind run's hospitals
FORMAT = Format("journal of a sum", _FORGET, (lambda head: {**head, "blind_key": ""},))
"""Of the head. A field more or less in ``Entry`` or ``Answers`` (whose file belongs to one journal,
by its digest) is another version."""
_MAGIC = b"wardround journal 1\n"
_SIZES = struct.Struct(">QQ")
_DIGEST_BYTES = 32
_MOST_HEAD_BYTES = 1 << 28
_CHUNK_BYTES = 1 << 22
_JOURNAL, _ANSWERS = ".journal", ".answers"


class _Kept(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, ser_json_bytes="base64", val_json_bytes="base64"
    )


class Traffic(_Kept):
    """What one step of the round loop sent, received (bytes) and refused."""

    up: int = 0
    down: int = 0
    refused: list[dict[str, str]] = []

    def resume(self, earlier: Traffic) -> None:
        """Count on from what an earlier life of the server had."""
        self.up, self.down = self.up + earlier.up, self.down + earlier.down
        self.refused[:0] = earlier.refused


class Entry(_Kept):
    """A masked sum that waits to be opened; messages are as they went over the wire.

    purpose : as in the TaskRequest, e.g. 'train 3'
    attempt, cohort : of the round's training, and who was asked
    nonce, roster : of the session; the roster may have changed since, and what was uploaded counts
    group, keys : the GroupRequest, and every member's BundleKeys in order
    task : the TaskRequest
    layout : the vector layout's digest; ``sums`` the SumsLayout it came from, if it is one of sums
    content : digest of what every hospital was sent
    requests : the UnmaskRequest of each survivor, by name
    blind_key : name of the hospitals' key that a blind run's update is masked by
    claims : hospitals' privacy claims as they sent them; ``spent``: whose budget allows no more
    traffic : until the first request to unmask
    """

    purpose: str
    attempt: int
    cohort: list[str]
    nonce: bytes
    roster: dict[str, bytes]
    group: bytes
    keys: list[bytes]
    task: bytes
    layout: bytes
    sums: bytes
    content: bytes
    requests: dict[str, bytes]
    claims: dict[str, bytes]
    spent: list[str]
    traffic: Traffic
    blind_key: bytes


class Answers(_Kept):
    """What opened the sum of the journal with this digest: each survivor's Shares by name."""

    journal: bytes
    shares: dict[str, bytes]
    traffic: Traffic


class _OfAnotherVersion(CheckpointError):
    """A whole journal that can't be read here: not dropped, for its hospitals have uploaded."""


class _Stored(NamedTuple):
    entry: Entry
    digest: bytes


class Journal:
    """The journals of one run's present round.

    Parameters
    ----------
    folder : None keeps nothing: where hospitals don't survive the server, there is no going on
    secure : the run's settings, which say whether its updates are encrypted

    Attributes
    ----------
    attempt : which attempt at a round's training runs; the round loop sets it
    pending : what this process knows of sums that are being opened, on disk or not
    """

    def __init__(self, folder: Path | None, secure: SecureAggregationTable | None = None) -> None:
        self.attempt = 1
        self._folder = folder
        self._ckks = None if secure is None else parameters(secure)
        self._stored: dict[str, _Stored] = {}
        self.pending = PendingSums()

    def begun(self, purpose: str) -> Sequence[str]:
        """The cohort of a sum of that purpose that was begun to be opened; empty: there is none."""
        if pending := self.pending.find(purpose):
            return pending.cohort
        return self._stored[purpose].entry.cohort if purpose in self._stored else ()

    @property
    def active(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def open(self, session_of: Callable[[Entry], bytes]) -> None:
        """Take in what an earlier life of this run has left.

        session_of : gives the name of an entry's session under the present settings; journals of
            other settings are dropped, and so are unreadable ones

        Raises CheckpointError, with the mend, for one that a newer wardround wrote.
        """
        if self._folder is None or not self._folder.is_dir():
            return
        for path in sorted(self._folder.iterdir()):
            if path.suffix == _JOURNAL and not path.name.startswith("."):
                try:
                    stored = _read_head(path)
                    group = wire.GroupRequest.from_bytes(stored.entry.group)
                    if self._path(stored.entry.purpose, _JOURNAL) != path:
                        raise CheckpointError("it has another's name")
                    if group.session != session_of(stored.entry):
                        raise CheckpointError("it is of other settings")
                    self._stored[stored.entry.purpose] = stored
                except _OfAnotherVersion:
                    raise
                except (OSError, CheckpointError, ProtocolRefused) as error:
                    log.warning("%s is not used: %s", path.name, error)
        kept = {self._path(purpose, end) for purpose in self._stored for end in _ENDS}
        self._remove(path for path in self._folder.iterdir() if path not in kept)

    def find(self, purpose: str) -> Entry | None:
        """The journal of that purpose, if there is one."""
        stored = self._stored.get(purpose)
        return stored.entry if stored else None

    def restore(
        self, entry: Entry, layout: VectorLayout, content: bytes, threads: int
    ) -> MaskedSum:
        """The sum of an entry, ready for shares.

        Raises CheckpointError or ProtocolRefused if it is torn or not one of this layout and
        content.
        """
        if (entry.content, entry.layout) != (content, layout.digest()):
            raise CheckpointError("it is of another model or other settings")
        group = KeyGroup.restore(entry.group, entry.roster, entry.keys, entry.requests)
        task = wire.TaskRequest.from_bytes(entry.task)
        if task.purpose != entry.purpose:
            raise CheckpointError("its task is another")
        blind = entry.blind_key, self._ckks if entry.blind_key else None
        masked = MaskedSum.restore(group, task, layout, content, entry.requests, threads, *blind)
        try:
            _read_vector(self._path(entry.purpose, _JOURNAL), masked.vector)
        except OSError as error:
            raise CheckpointError(f"it is not readable ({error.strerror})") from None
        return masked

    def answers(self, entry: Entry) -> Answers | None:
        """What opened this sum, if it was opened."""
        try:
            data = self._path(entry.purpose, _ANSWERS).read_bytes()
            envelope = json.loads(data)
            body = str(envelope["body"])
            found = Answers.model_validate_json(body)
            intact = envelope["sha256"] == hashlib.sha256(body.encode()).hexdigest()
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if intact and found.journal == self._stored[entry.purpose].digest else None

    # --- writing -----------------------------------------------------------------------------
    def write(self, entry: Entry, vector: RingVector) -> None:
        """Make an entry durable, or go on without it if that can't be done.

        Without one, a server that dies now can't open the sum: the round is then done afresh.
        """
        if self._folder is None:
            return
        path = self._path(entry.purpose, _JOURNAL)
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            if not self._folder.is_dir():
                self._folder.mkdir(mode=0o700)
                sync(self._folder.parent)
            head = json.dumps(FORMAT.seal(entry.model_dump(mode="json")))
            digest = _write(temporary, head.encode(), vector.data())
            os.replace(temporary, path)
            sync(self._folder)
            self._stored[entry.purpose] = _Stored(entry, digest)
        except OSError as error:
            log.warning(
                "%s: can't write the journal (%s): if the server dies before round's end, the "
                "hospitals train it again; free some space",
                path,
                error.strerror,
            )
            self._remove([temporary, path])

    def write_answers(self, purpose: str, shares: Mapping[str, bytes], traffic: Traffic) -> None:
        """Make durable what opened a sum: its hospitals may forget their keys from now on."""
        stored = self._stored.get(purpose)
        if stored is None:
            return
        answers = Answers(journal=stored.digest, shares=dict(shares), traffic=traffic)
        body = answers.model_dump_json()
        envelope = {"sha256": hashlib.sha256(body.encode()).hexdigest(), "body": body}
        try:
            write_atomically(self._path(purpose, _ANSWERS), json.dumps(envelope).encode())
        except OSError as error:
            log.warning("can't write the journal's answers (%s); free some space", error.strerror)

    # --- dropping ----------------------------------------------------------------------------
    def drop(self, purpose: str) -> None:
        """Forget a sum for good: its keys are burnt."""
        self.pending.drop(purpose)
        if self._stored.pop(purpose, None) is not None and self._folder is not None:
            self._remove(self._path(purpose, end) for end in _ENDS)
            with suppress(OSError):
                sync(self._folder)

    def drop_unopened(self) -> None:
        """Forget the sums that would need hospitals who are about to forget their keys."""
        for purpose in {*self.pending.purposes(), *self._stored}:
            stored = self._stored.get(purpose)
            if stored is None or self.answers(stored.entry) is None:
                self.drop(purpose)

    def clear(self) -> None:
        """Forget all: the round is committed, or has failed."""
        if self._folder is not None:
            self._remove(self._path(purpose, end) for purpose in self._stored for end in _ENDS)
        self._stored.clear()
        self.pending.clear()

    def close(self) -> None:
        """Forget all, at the end of the run."""
        self.clear()
        if self._folder is not None:
            with suppress(OSError):
                self._folder.rmdir()

    def _path(self, purpose: str, end: str) -> Path:
        assert self._folder is not None
        return self._folder / (purpose.replace(" ", "-") + end)

    def _remove(self, paths: Iterable[Path]) -> None:
        """As far as it goes: what stays would only be asked for once more, or be refused."""
        for path in list(paths):
            with suppress(OSError):
                path.unlink(missing_ok=True)


_ENDS = (_JOURNAL, _ANSWERS)


# --- the file: magic, two sizes, head as JSON, vector, SHA-256 over all of it ---------------------
def _write(path: Path, head: bytes, vector: memoryview) -> bytes:
    """Write and sync a file, mode 0600, without a copy of the vector; gives its digest.

    The checksum is computed beside the writing, and each chunk is on its way to the disk while the
    next one is handed over: the sync at the end then has little to wait for.
    """
    parts = (_MAGIC, _SIZES.pack(len(head), len(vector)), head, vector)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file, ThreadPoolExecutor(1, "checksum") as pool:
        state = pool.submit(_hashed, parts)
        for part in parts:
            for start in range(0, len(part), _CHUNK_BYTES):
                place = file.tell()
                chunk = part[start : start + _CHUNK_BYTES]
                file.write(chunk)
                file.flush()
                let_go(np.frombuffer(chunk, np.uint8))
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(descriptor, place, _CHUNK_BYTES, os.POSIX_FADV_DONTNEED)
        digest = state.result()
        file.write(digest)
        file.flush()
        os.fsync(descriptor)
    return digest


def _hashed(parts: Iterable[bytes | memoryview]) -> bytes:
    state = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), _CHUNK_BYTES):
            chunk = part[start : start + _CHUNK_BYTES]
            state.update(chunk)
            let_go(np.frombuffer(chunk, np.uint8))
    return state.digest()


def _read_sizes(file: BufferedReader) -> tuple[int, int]:
    start = file.read(len(_MAGIC) + _SIZES.size)
    if not start.startswith(_MAGIC) or len(start) != len(_MAGIC) + _SIZES.size:
        raise CheckpointError("it is no journal of this version")
    head, vector = _SIZES.unpack_from(start, len(_MAGIC))
    if len(start) + head + vector + _DIGEST_BYTES != os.fstat(file.fileno()).st_size:
        raise CheckpointError("it is torn")
    if head > _MOST_HEAD_BYTES:
        raise CheckpointError("its head is too large")
    return head, vector


def _read_head(path: Path) -> _Stored:
    """Entry and digest of a journal whose checksum is right. Raises CheckpointError."""
    with open(path, "rb") as file:
        head, vector = _read_sizes(file)
        data = file.read(head)
        file.seek(0)
        state, left = hashlib.sha256(), len(_MAGIC) + _SIZES.size + head + vector
        while left:
            piece = file.read(min(left, _CHUNK_BYTES))
            if not piece:
                raise CheckpointError("it is torn")
            state.update(piece)
            left -= len(piece)
        if file.read() != state.digest():
            raise CheckpointError("its checksum doesn't match")
    try:
        values = FORMAT.read(json.loads(data), _OfAnotherVersion, str(path))
        return _Stored(Entry.model_validate_json(json.dumps(values)), state.digest())
    except (ValueError, ValidationError):
        raise CheckpointError("its head is not that of a sum") from None


def _read_vector(path: Path, vector: RingVector) -> None:
    """Fill ``vector`` from a journal that ``_read_head`` has checked. Raises CheckpointError."""
    with open(path, "rb") as file:
        head, size = _read_sizes(file)
        if size != len(vector.memory):
            raise CheckpointError("its vector is of another size")
        file.seek(head, os.SEEK_CUR)
        for start in range(0, size, _CHUNK_BYTES):
            chunk = vector.memory[start : start + _CHUNK_BYTES]
            if file.readinto(chunk.data) != len(chunk):
                raise CheckpointError("it is torn")
            let_go(chunk)
