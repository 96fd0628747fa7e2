"""The audit log of one party: what it did, in an order and a wording that can't be changed later.

Invariants: one process writes a file (a lock beside it); a line is on the disk when ``append``
returns; every line holds the hash of the one before (``common/audit/lines.py`` has the format);
nothing is ever rewritten but a last line that a crash tore, and that is recorded. ``audit.heads``
beside it keeps heads that both sides signed: it is written before the event that tells of it, so
a log that has the event and no record, or a record and not its line, was tampered with. (A crash
between the two is mended when the log is opened: the line is written then.)

Both ends use these events, among others. A line that is about one of several hospitals names it
in ``hospital``; at a hospital the other side is always the server. ``request`` is a request's id.

| event                           | fields                                                        |
|---------------------------------|---------------------------------------------------------------|
| started, stopped                | version, run, reason                                          |
| connected, disconnected         | hospital, address, reason                                     |
| refused                         | reason, request                                               |
| manifest, policy, approval      | manifest (digest), run, stage, version, rounds, accepted      |
| sent                            | hospital, kind, round, bytes, digest, request, protection,    |
|                                 | epsilon                                                       |
| ledger                          | rows, row_hash, entry, accepted                               |
| log lost                        | head: {party, seq, hash, signature}                           |
| received                        | hospital, kind, round, bytes, digest, request, error; told:   |
|                                 | what all hospitals were told alike (``compare.py``)           |
| results                         | hospital, study, run, state, digest, signer                   |
| peer head, countersigned        | public, head: {party, seq, hash, signature}; peer             |
| study                           | the server's own: ``server/studies/outbox.py``                |
| began, identity, torn line ...  | this module's own                                             |

A hospital appends ``sent`` before the first byte leaves: what the server has and the hospital's log
hasn't can only mean tampering. The server appends it once the hospital has all of the message, so a
crash may cost the line. No field holds a patient-level value.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from wardround.common.audit.lines import (
    BEGAN,
    COUNTERSIGNED,
    FORMAT,
    NO_HASH,
    PEER_HEAD,
    TORN,
    Countersigned,
    Head,
    Line,
    SignedHead,
    Told,
    cut_torn,
    decode_line,
    encode_line,
    heads_path,
    raw_lines,
    read_records,
    told_head,
    untold,
)
from wardround.common.durable.files import MAKE_ROOM, hand_over, sync
from wardround.common.durable.lock import Lock, told_holder, try_lock
from wardround.common.durable.private import why
from wardround.common.durable.whole import whole
from wardround.common.errors import AuditError
from wardround.common.names import HOSPITAL_NAME
from wardround.common.trust.identity import Identity, verify

__all__ = ["AuditLog", "Head", "SignedHead", "lock_log", "restart_advice"]

Clock = Callable[[], float]
Listener = Callable[[dict[str, Any]], None]
_LOG, _HEADS = 0, 1
_MOST_KNOWN = 10_000
"""Hashes of lines that are remembered; the file has them all."""


class AuditLog:
    """An open log. Thread-safe; use as a context manager or close it. ``head`` is its last line."""

    def __init__(
        self,
        path: Path,
        party: str,
        identity: Identity | None,
        clock: Clock,
        listener: Listener | None,
        lock: Lock,
    ) -> None:
        self.path, self.party, self.head = path, party, Head(0, NO_HASH)
        self._identity, self._clock, self._listener = identity, clock, listener
        self._mutex = threading.RLock()
        self._lock, self._descriptors = lock, list[int]()
        self._broken: str | None = None
        self._restarted = False
        self._seen: set[bytes] = set()
        self._peers: dict[str, Countersigned] = {}
        self._own: dict[int, str] = {}
        self._first = 1

    @classmethod
    def open(
        cls,
        path: Path,
        party: str,
        identity: Identity | None,
        clock: Clock = time.time,
        listener: Listener | None = None,
    ) -> AuditLog:
        """Go on with the log at ``path``, or begin one, with mode 0600.

        clock    : Unix time in seconds
        listener : is told each line that this object appends, when it is on the disk

        Raises AuditError if another process has it open, if it is another party's, if a line
        doesn't chain, or if it ends before a head that was countersigned.
        """
        if not HOSPITAL_NAME.fullmatch(party):
            raise ValueError(f"'{party}' can't be a party's name")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            log = cls(path, party, identity, clock, listener, lock_log(path))
            try:
                log._start()
            except BaseException:
                log.close()
                raise
        except OSError as error:
            raise AuditError(f"{path}: can't be opened ({why(error, path)})") from None
        return log

    def _start(self) -> None:
        heads, existed = heads_path(self.path), self.path.exists()
        torn = {file.name: size for file in (heads, self.path) if (size := cut_torn(file))}
        records = self._read_heads(heads)
        own = {one.head.seq: one.head.hash for one in records if one.head.party == self.party}
        told: set[Told] = set()
        party, public = self._read_lines(own, told) if existed else (None, None)
        if own and self.head.seq < max(own):
            raise AuditError(
                f"{self.path}: ends with line {self.head.seq}, but line {max(own)} was "
                f"countersigned: it was truncated; {restart_advice(self.path)}"
            )
        self._descriptors = [_open_to_append(self.path), _open_to_append(heads)]
        sync(self.path.parent)
        mine = self._identity.public.hex() if self._identity else None
        if not self.head.seq:
            self.append(BEGAN, format=FORMAT, party=self.party, public=mine, previous=None)
        elif party != self.party:
            raise AuditError(f"{self.path}: is the log of '{party}', not of '{self.party}'")
        elif mine is not None and mine != public:
            self.append("identity", public=mine)
        for name, size in torn.items():
            self.append(TORN, file=name, bytes=size)
        if told or not self._restarted:  # else the lines are in the file before
            for record in untold(records, told):
                self._tell(record)

    def _read_heads(self, heads: Path) -> list[Countersigned]:
        """Take up what both sides signed, in the order in which it was written."""
        good, bad = read_records(heads.read_bytes()) if heads.exists() else ([], [])
        if bad:
            raise AuditError(
                f"{heads}: line {bad[0]} is not a countersigned head; {restart_advice(self.path)}"
            )
        for _, record in good:
            self._seen.add(record.to_bytes())
            if record.head.party == self.party:
                self._own[record.head.seq] = record.head.hash
            else:
                self._peers[record.head.party] = record
        return [record for _, record in good]

    def _read_lines(self, own: Mapping[int, str], told: set[Told]) -> tuple[str | None, str | None]:
        """Follow the chain to its head; returns whose log it is and its newest public key.

        own : countersigned heads of it, number to hash; told : gets those that a line tells of
        """
        party: str | None = None
        public: str | None = None
        for number, raw in enumerate(raw_lines(self.path), 1):
            line = decode_line(raw)
            if (
                not line
                or not self._follows(line, number)
                or line.hash != own.get(line.seq, line.hash)
            ):
                raise AuditError(
                    f"{self.path}: line {number} doesn't chain: the log was altered "
                    f"(see: wardround audit verify); {restart_advice(self.path)}"
                )
            self.head = Head(line.seq, line.hash)
            if number == 1:
                if (found := line.values.get("format")) != FORMAT:
                    raise AuditError(
                        f"{self.path}: has format {found!r:.20}, and this wardround writes "
                        f"{FORMAT}; install the version of wardround that wrote it, or "
                        f"{restart_advice(self.path)}"
                    )
                party, self._first = line.values.get("party"), line.seq
                self._restarted = line.values.get("previous") is not None
            if (head := told_head(line, self.party)) is not None:
                told.add(head)
            if line.event in (BEGAN, "identity"):
                public = line.values.get("public")
        return party, public

    def _follows(self, line: Line, number: int) -> bool:
        if number == 1:
            restarted = line.values.get("previous") is not None
            return line.sound and line.event == BEGAN and (restarted or line.seq == 1)
        return line.sound and line.prev == self.head.hash and line.seq == self.head.seq + 1

    # --- writing -------------------------------------------------------------------------------
    def append(self, event: str, **fields: Any) -> Head:
        """Add one event of plain JSON values; it is on the disk when this returns.

        Raises AuditError if it can't be written, ValueError for fields that no line may hold.
        """
        return self.append_many([(event, fields)])

    def append_many(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> Head:
        """Add several events with one fsync: all of them or, without a crash, none."""
        with whole(), self._mutex:
            seq, hashed = self.head
            written: list[bytes] = []
            for event, fields in events:
                seq += 1
                line, hashed = encode_line(seq, self._clock(), event, fields, hashed)
                written.append(line)
            self._write(_LOG, b"".join(written))
            self.head = Head(seq, hashed)
            if self._listener:
                for line in written:
                    self._listener(json.loads(line))
            return self.head

    def _write(self, which: int, data: bytes) -> None:
        """Append to one of the two files, durably."""
        if not self._descriptors or self._broken:
            raise AuditError(self._broken or "is closed", who=str(self.path))
        size = os.fstat(descriptor := self._descriptors[which]).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError as error:
            self._undo(descriptor, size)
            said = f"can't be written ({error.strerror})"
            raise AuditError(said, who=str(self.path), mend=MAKE_ROOM) from None
        try:
            os.fsync(descriptor)
        except OSError as error:
            # What is on the disk is unknown now, and a second fsync would not tell.
            self._broken = f"can't be written ({error.strerror}); start again once the disk works"
            raise AuditError(f"{self.path}: {self._broken}") from None

    def _undo(self, descriptor: int, size: int) -> None:
        try:
            os.ftruncate(descriptor, size)
        except OSError:
            self._broken = "a line was written in part; start again once the disk has room"

    # --- heads ---------------------------------------------------------------------------------
    def signed_head(self) -> SignedHead:
        """The last line, signed: for the other side to countersign."""
        with self._mutex:
            seq, hashed = self.head
            signature = self._signer().sign(SignedHead.signed(self.party, seq, hashed))
            if len(self._own) > _MOST_KNOWN:
                self._own.clear()
            self._own[seq] = hashed
            return SignedHead(self.party, seq, hashed, signature)

    def holds(self, head: SignedHead) -> bool:
        """Whether a head of this party is of this log: its line is here, or is from before the log
        was begun anew (which the first line says)."""
        with self._mutex:
            if not self._first <= head.seq <= self.head.seq:
                return head.seq < self._first
            if head.seq not in self._own:
                lines = islice(raw_lines(self.path), head.seq - self._first, None)
                line = decode_line(next(lines, b""))
                self._own[head.seq] = line.hash if line else ""
            return self._own[head.seq] == head.hash

    def countersigned_of(self, party: str) -> Countersigned | None:
        """The last head of a peer that we signed."""
        with self._mutex:
            return self._peers.get(party)

    def countersign(self, head: SignedHead, public: bytes) -> bytes:
        """Our signature over a peer's head, which is kept for good; ``public`` is the peer's key.

        The same head again gets the same signature. Raises AuditError if it isn't signed by it, or
        goes back behind one that we signed before, of the same key: the peer's log was cut or begun
        anew. (With a new key, of a new kit, a peer may begin a new log.)
        """
        signer = self._signer()
        if head.party == self.party or not head.is_by(public):
            raise AuditError(f"the audit head of '{head.party}' is not signed by its own key")
        with whole(), self._mutex:
            last = self._peers.get(head.party)
            if last and last.public == public:
                before = last.head
                if (head.seq, head.hash) == (before.seq, before.hash):
                    return last.signature
                if head.seq <= before.seq:
                    raise AuditError(
                        f"the audit log of '{head.party}' went back from line {before.seq} to "
                        f"{head.seq}: bring its log back, or begin it anew there with "
                        f"'wardround audit restart audit.jsonl --after {before.seq}'"
                    )
            signature = signer.sign(head.countersigned(self.party))
            record = Countersigned(head, public, self.party, signer.public, signature)
            self._write(_HEADS, record.to_bytes() + b"\n")
            self._peers[head.party] = record
            self._tell(record)
            return signature

    def add_countersignature(
        self, head: SignedHead, peer: str, public: bytes, signature: bytes
    ) -> None:
        """Keep a peer's signature over one of our heads; one that is kept already changes nothing.
        Raises AuditError if it isn't one."""
        signer = self._signer()
        if head.party != self.party or not head.is_by(signer.public):
            raise AuditError(f"'{peer}' countersigned a head that is not of this audit log")
        if peer == self.party or not verify(public, signature, head.countersigned(peer)):
            raise AuditError(f"the countersignature of '{peer}' is not by its own key")
        with whole(), self._mutex:
            if not self.holds(head):
                raise AuditError(f"'{peer}' countersigned line {head.seq}, which isn't here")
            record = Countersigned(head, signer.public, peer, public, signature)
            if record.to_bytes() in self._seen:
                return
            self._write(_HEADS, record.to_bytes() + b"\n")
            self._seen.add(record.to_bytes())
            self._tell(record)

    def _tell(self, record: Countersigned) -> None:
        """The line of a record of ``audit.heads``, after it: the file can't be cut unseen."""
        head = record.head
        if head.party == self.party:
            public = record.by_public.hex()
            self.append(COUNTERSIGNED, peer=record.by, public=public, head=head.row())
        else:
            self.append(PEER_HEAD, public=record.public.hex(), head=head.row())

    def _signer(self) -> Identity:
        if self._identity is None:
            raise AuditError(f"{self.path}: was opened without an identity key to sign with")
        return self._identity

    # --- end -----------------------------------------------------------------------------------
    def close(self) -> None:
        """Release the file and its lock; again does nothing."""
        with self._mutex:
            for descriptor in reversed(self._descriptors):
                os.close(descriptor)
            self._descriptors = []
            self._lock.close()

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def restart_advice(path: Path) -> str:
    """The mend for a log that can't go on."""
    return f"keep the file as evidence and begin a new one with: wardround audit restart {path}"


def lock_log(path: Path) -> Lock:
    """Hold the lock of the log at ``path``, to be closed. Raises AuditError if taken."""
    lock = path.with_suffix(".lock")
    if (held := try_lock(lock)) is None:
        raise AuditError(f"{path}: {told_holder(lock)} is writing to it; stop that one first")
    return held


def _open_to_append(path: Path) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    hand_over(path)
    return descriptor
