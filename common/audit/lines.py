"""The format of an audit log: its lines, its signed heads, and the records of ``audit.heads``.

A line of ``audit.jsonl`` is one JSON object in UTF-8 that begins with ``seq``, ``time`` and
``event`` and ends with ``prev`` and ``hash``:

    {"seq":2,"time":"2026-01-02T03:04:05.678Z","event":"sent",...,"prev":"<hex>","hash":"<hex>"}

``hash`` is the SHA-256 of the line's own bytes without ``,"hash":"..."``; ``prev`` is the hash of
the line before, 64 zeros before the first. So any change of a byte shows, and anyone can check it
without this program. The first line's event is ``began``: format, party, its public key, and after
a restart the ``previous`` file.

A head is the number and hash of a line; signed by the party, it stands for every line up to it. A
peer that has seen it signs it too, and then neither can deny it. Frozen by
``tests/vectors/audit.jsonl``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from wardround.common.errors import AuditError
from wardround.common.names import HOSPITAL_NAME
from wardround.common.text import one_line
from wardround.common.trust.identity import KEY_BYTES, SIGNATURE_BYTES, digest, verify

FORMAT = 1
BEGAN = "began"
PEER_HEAD = "peer head"
COUNTERSIGNED = "countersigned"
TORN = "torn line removed"
NO_HASH = "0" * 64

RESERVED = frozenset({"seq", "time", "event", "prev", "hash"})
MOST_TEXT = 2000
"""Characters of a text in a field; more is a programming error, as no event needs it."""
MOST_LINE = 1 << 20
_MOST_KEY, _MOST_DEPTH, _MOST_NUMBER = 200, 8, 2**63
_MOST_HEAD, _MOST_RECORD = 1024, 4096
_LINE = re.compile(
    rb'(\{"seq":([1-9][0-9]{0,17}),"time":.*,"prev":"([0-9a-f]{64})"),"hash":"([0-9a-f]{64})"\}\n',
    re.DOTALL,
)
_HASH = re.compile(r"[0-9a-f]{64}")


class Head(NamedTuple):
    """A line's number, from 1, and its hash, hexadecimal."""

    seq: int
    hash: str


@dataclass(frozen=True)
class Line:
    """A line as it stands in a file. ``values`` is empty unless the line is sound, which is that
    its hash is of its bytes; an unsound one still shows what it claims."""

    seq: int
    prev: str
    hash: str
    sound: bool
    values: Mapping[str, Any]

    @property
    def event(self) -> str:
        """Empty for an unsound line."""
        return str(self.values.get("event", ""))


def heads_path(path: Path) -> Path:
    """``audit.heads`` beside ``audit.jsonl``."""
    return path.with_suffix(".heads")


def timestamp(seconds: float) -> str:
    """Unix time as UTC with milliseconds."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandths:03d}Z"


def encode_line(
    seq: int, seconds: float, event: str, fields: Mapping[str, Any], prev: str
) -> tuple[bytes, str]:
    """A line with its newline, and its hash. Raises ValueError for what a line can't hold.

    seconds : Unix time
    prev : hash of the line before, hexadecimal
    """
    if taken := RESERVED & fields.keys():
        raise ValueError(f"audit event '{event}': '{min(taken)}' is the log's own field")
    cleaned = _clean(event, dict(fields), 0)
    values = {"seq": seq, "time": timestamp(seconds), "event": _clean(event, event, 0)}
    body = dump({**values, **cleaned, "prev": prev}).encode()
    if len(body) > MOST_LINE // 2:
        raise ValueError(f"audit event '{event}': {len(body)} bytes are too many for a line")
    hashed = hashlib.sha256(body).hexdigest()
    return body[:-1] + f',"hash":"{hashed}"}}\n'.encode(), hashed


def decode_line(raw: bytes) -> Line | None:
    """A line with its newline; None if it isn't one at all.

    The hash is taken of the bytes as they stand, never of values written anew: so a blank more, or
    a number written otherwise, shows too.
    """
    found = _LINE.fullmatch(raw)
    if not found:
        return None
    seq, prev, claimed = int(found[2]), found[3].decode(), found[4].decode()
    if hashlib.sha256(found[1] + b"}").hexdigest() != claimed:
        return Line(seq, prev, claimed, False, {})
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return Line(seq, prev, claimed, False, {})
    texts = (values.get("time"), values.get("event"))
    # in JSON a key may stand twice, and the last one counts: the number read is the one in front
    honest = values.get("seq") == seq and all(isinstance(text, str) for text in texts)
    return Line(seq, prev, claimed, honest, values if honest else {})


def raw_lines(path: Path) -> Iterator[bytes]:
    """The file's lines, each with its newline but for a torn last one; a monstrous line comes in
    pieces, none of which decodes."""
    with open(path, "rb") as file:
        while line := file.readline(MOST_LINE):
            yield line


def cut_torn(path: Path) -> int:
    """Cut off what follows a file's last newline; returns its bytes."""
    if not path.exists():
        return 0
    with open(path, "r+b") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole:
            start = max(0, whole - 65_536)
            file.seek(start)
            place = file.read(whole - start).rfind(b"\n")
            if place >= 0:
                whole = start + place + 1
                break
            whole = start
        if whole < end:
            file.truncate(whole)
            os.fsync(file.fileno())
        return end - whole


def told(path: Path, *events: str) -> Iterator[Mapping[str, Any]]:
    """The fields of the sound lines of these events, in their order, without the whole log in
    memory. Raises OSError if it can't be read."""
    wanted = [f'"event":{dump(one)}'.encode() for one in events]
    for raw in raw_lines(path):
        if any(one in raw for one in wanted):
            line = decode_line(raw)
            if line and line.event in events:
                yield line.values


def dump(values: Any) -> str:
    """JSON without spaces, keys in their order. Raises ValueError for NaN and infinity."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _clean(event: str, value: Any, depth: int) -> Any:
    """The value with its texts made one line. Raises ValueError for what isn't plain JSON."""
    if value is None or isinstance(value, bool):
        return value
    kind = type(value)
    if kind is str:
        if len(value) > MOST_TEXT:
            raise ValueError(f"audit event '{event[:50]}': a text of {len(value)} characters")
        return one_line(value, MOST_TEXT) if value else ""
    if kind is int and abs(value) < _MOST_NUMBER or kind is float and math.isfinite(value):
        return value
    if kind is list and depth < _MOST_DEPTH:
        return [_clean(event, item, depth + 1) for item in value]
    if kind is dict and depth < _MOST_DEPTH and all(map(_is_key, value)):
        return {key: _clean(event, item, depth + 1) for key, item in value.items()}
    raise ValueError(f"audit event '{event[:50]}': {kind.__name__} is not a value for it")


def _is_key(key: object) -> bool:
    return type(key) is str and key.isprintable() and 0 < len(key) <= _MOST_KEY


# --- heads -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class SignedHead:
    """A party's word that its log, up to line ``seq``, is the one whose last hash is ``hash``."""

    party: str
    seq: int
    hash: str
    signature: bytes

    @staticmethod
    def signed(party: str, seq: int, hashed: str) -> bytes:
        """The bytes under the party's signature; the number as uint64, big-endian."""
        return digest("audit head", party.encode(), struct.pack(">Q", seq), bytes.fromhex(hashed))

    def is_by(self, public: bytes) -> bool:
        """Whether that Ed25519 key signed it."""
        return verify(public, self.signature, self.signed(self.party, self.seq, self.hash))

    def countersigned(self, peer: str) -> bytes:
        """The bytes under the countersignature of ``peer``."""
        return digest("audit countersignature", peer.encode(), self.to_bytes())

    def to_bytes(self) -> bytes:
        """JSON, at most 1,024 bytes."""
        return dump(self.row()).encode()

    def row(self) -> dict[str, str | int]:
        """Its fields as plain JSON values."""
        return {
            "party": self.party,
            "seq": self.seq,
            "hash": self.hash,
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedHead:
        """The reverse of ``to_bytes``. Raises AuditError for any other bytes."""
        try:
            if len(data) > _MOST_HEAD:
                raise ValueError
            head = cls.from_row(json.loads(data))
            if head.to_bytes() != data:
                raise ValueError
        except (ValueError, RecursionError):
            raise AuditError("a signed head of an audit log is not readable") from None
        return head

    @classmethod
    def from_row(cls, row: object) -> SignedHead:
        """The reverse of ``row``; the signature is not verified. Raises ValueError."""
        if not isinstance(row, dict) or list(row) != ["party", "seq", "hash", "signature"]:
            raise ValueError("not a signed head")
        party, seq, hashed = row["party"], row["seq"], row["hash"]
        if not isinstance(party, str) or not HOSPITAL_NAME.fullmatch(party):
            raise ValueError("not a party's name")
        if type(seq) is not int or not 0 < seq < 10**18:
            raise ValueError("not a line's number")
        if not isinstance(hashed, str) or not _HASH.fullmatch(hashed):
            raise ValueError("not a hash")
        return cls(party, seq, hashed, _hex(row["signature"], SIGNATURE_BYTES))


Told = tuple[str, str]
"""Which countersigned head a line of the log tells of: the head as JSON, who countersigned."""


@dataclass(frozen=True)
class Countersigned:
    """A head that both sides signed: a line of ``audit.heads``, which each side keeps.

    public : the key of the party whose head it is
    by, by_public, signature : who countersigned, with which key
    """

    head: SignedHead
    public: bytes
    by: str
    by_public: bytes
    signature: bytes

    def is_valid(self) -> bool:
        """Whether both signatures are those of the keys that it names. Whether these keys are the
        parties' own is for who knows a description to say (``publics`` in ``verify.py``)."""
        countersigned = self.head.countersigned(self.by)
        return self.head.is_by(self.public) and verify(
            self.by_public, self.signature, countersigned
        )

    def told(self) -> Told:
        """What a line that tells of it is known by."""
        return json.dumps(self.head.row()), self.by

    def to_bytes(self) -> bytes:
        """A line of JSON, without newline."""
        return dump(
            {
                "head": self.head.row(),
                "public": self.public.hex(),
                "by": self.by,
                "by_public": self.by_public.hex(),
                "signature": self.signature.hex(),
            }
        ).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Countersigned:
        """The reverse; signatures are not verified. Raises ValueError for any other bytes."""
        row = json.loads(data) if len(data) <= _MOST_RECORD else None
        if not isinstance(row, dict) or row.keys() != cls.__dataclass_fields__.keys():
            raise ValueError("not a record of a head")
        if not isinstance(row["by"], str) or not HOSPITAL_NAME.fullmatch(row["by"]):
            raise ValueError("not a party's name")
        record = cls(
            SignedHead.from_row(row["head"]),
            _hex(row["public"], KEY_BYTES),
            row["by"],
            _hex(row["by_public"], KEY_BYTES),
            _hex(row["signature"], SIGNATURE_BYTES),
        )
        if record.to_bytes() != data:
            raise ValueError("not a record of a head as it is written")
        return record


def _hex(value: object, size: int) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * size:
        raise ValueError("not hexadecimal of the right length")
    data = bytes.fromhex(value)
    if data.hex() != value:
        raise ValueError("not hexadecimal as it is written here")
    return data


def read_records(data: bytes) -> tuple[list[tuple[int, Countersigned]], list[int]]:
    """What ``audit.heads`` holds, by line number, and the numbers of lines that aren't records
    with two good signatures. A torn last line is neither."""
    good, bad = [], []
    for number, raw in enumerate(data.split(b"\n")[:-1], 1):
        try:
            record = Countersigned.from_bytes(raw)
            if not record.is_valid():
                raise ValueError
        except (ValueError, RecursionError):
            bad.append(number)
        else:
            good.append((number, record))
    return good, bad


def told_head(line: Line, party: str | None) -> Told | None:
    """Which record of ``audit.heads`` a line in the log of ``party`` tells of; None if of none."""
    if line.event not in (COUNTERSIGNED, PEER_HEAD):
        return None
    by = line.values.get("peer") if line.event == COUNTERSIGNED else party
    return json.dumps(line.values.get("head")), str(by)


def untold(records: Sequence[Countersigned], told: Collection[Told]) -> list[Countersigned]:
    """The records at the end that no line tells of. A record is written before its line, so a crash
    between the two leaves one, at most; the party writes the line when it opens the log again."""
    count = next((n for n, one in enumerate(reversed(records)) if one.told() in told), len(records))
    return list(records[len(records) - count :])
