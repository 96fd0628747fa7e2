"""The wire format of secure aggregation.

Every message is a tag, its fields in order, and nothing else: numbers big-endian, bytes and lists
with their length in front and a limit, text as UTF-8. What is signed or hashed is exactly what is
sent. ``from_bytes`` refuses another tag, a length beyond its limit, a truncated field and trailing
bytes, each by name.

| message        | from   | says                                                                  |
|----------------|--------|-----------------------------------------------------------------------|
| HelloRequest   | server | which session begins                                                  |
| Hello          | client | signed: my key for encrypting shares in this session                   |
| GroupRequest   | server | these hospitals, this graph and threshold, for these aggregations      |
| Bundle         | client | signed: a public key for each aggregation, and shares for each holder  |
| KeysRequest    | server | everyone's bundles (without the shares), as digests and in full        |
| Accepted       | client | I hold the same keys as everyone                                       |
| SumsLayout     | both   | names, shapes and words of sums: a client's own, then what is added    |
| TaskRequest    | server | add up this, under these parameters                                    |
| Upload         | client | whose masked vector follows                                            |
| UnmaskRequest  | server | who uploaded; the shares that were encrypted for you                   |
| Shares         | client | for each holder's client one share                                     |
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.encoding import WORDS, Encoding
from wardround.common.secagg.keys import SHARE_BYTES
from wardround.common.trust.identity import KEY_BYTES, SIGNATURE_BYTES, digest

MOST_CLIENTS = 65_535
MOST_AGGREGATIONS = 64
"""Aggregations that one bundle of keys covers at most."""
OPEN_GROUPS = 4
"""Groups that a hospital knows keys of: those that it used last. A server counts on no other."""
_MOST_KEYS = MOST_AGGREGATIONS * KEY_BYTES
_MOST_SHARES = MOST_AGGREGATIONS * SHARE_BYTES


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.place, self.what = data, 0, what

    def take(self, count: int, field: str) -> bytes:
        if self.place + count > len(self.data):
            raise ProtocolRefused(f"{self.what}: truncated at '{field}'")
        self.place += count
        return self.data[self.place - count : self.place]


class _Kind(NamedTuple):
    """How a field is written and read."""

    write: Callable[[Any], bytes]
    read: Callable[[_Reader, str], Any]


def _number(letter: str) -> _Kind:
    size = struct.calcsize(">" + letter)

    def read(reader: _Reader, field: str) -> Any:
        return struct.unpack(">" + letter, reader.take(size, field))[0]

    return _Kind(lambda value: struct.pack(">" + letter, value), read)


def _fixed(size: int) -> _Kind:
    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes in a field of {size}")
        return value

    return _Kind(write, lambda reader, field: reader.take(size, field))


def _bounded(most: int) -> _Kind:
    def read(reader: _Reader, field: str) -> bytes:
        (size,) = struct.unpack(">I", reader.take(4, field))
        if size > most:
            raise ProtocolRefused(f"{reader.what}: '{field}' has {size} bytes, at most {most}")
        return reader.take(size, field)

    return _Kind(lambda value: struct.pack(">I", len(value)) + value, read)


def _text(most: int) -> _Kind:
    raw = _bounded(most)

    def read(reader: _Reader, field: str) -> str:
        try:
            return str(raw.read(reader, field).decode("utf-8"))
        except UnicodeDecodeError:
            raise ProtocolRefused(f"{reader.what}: '{field}' is not UTF-8 text") from None

    return _Kind(lambda value: raw.write(value.encode()), read)


def _list(item: _Kind, most: int) -> _Kind:
    def write(values: Sequence[Any]) -> bytes:
        return struct.pack(">I", len(values)) + b"".join(item.write(v) for v in values)

    def read(reader: _Reader, field: str) -> tuple[Any, ...]:
        (count,) = struct.unpack(">I", reader.take(4, field))
        if count > most:
            raise ProtocolRefused(f"{reader.what}: '{field}' has {count} entries, at most {most}")
        return tuple(item.read(reader, field) for _ in range(count))

    return _Kind(write, read)


_U8, _U16, _U32, _U64, _F64 = map(_number, "BHIQd")
_KEY = _fixed(KEY_BYTES)
_SIGNATURE = _fixed(SIGNATURE_BYTES)
_NAME, _KEY_OF_SUM = _text(256), _text(1024)
_KINDS: dict[type, dict[str, _Kind]] = {}


@dataclass_transform(frozen_default=True)
class Message:
    """Base of all messages. ``TAG`` tells them apart on the wire."""

    TAG: ClassVar[int]
    _SPEC: ClassVar[dict[str, _Kind]]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, repr=False)(cls)

    def to_bytes(self) -> bytes:
        """The message as it is sent, signed and hashed: the tag's byte, then the fields in the
        order of ``_SPEC``. There is one encoding of each message."""
        parts = [kind.write(getattr(self, name)) for name, kind in self._SPEC.items()]
        return bytes([self.TAG]) + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The message in ``data``. Raises ProtocolRefused for anything but exactly one."""
        what = cls.__name__
        reader = _Reader(data, what)
        (tag,) = reader.take(1, "tag")
        if tag != cls.TAG:
            raise ProtocolRefused(f"{what}: another message came (tag {tag})")
        values = {name: kind.read(reader, name) for name, kind in cls._SPEC.items()}
        if reader.place != len(data):
            raise ProtocolRefused(f"{what}: {len(data) - reader.place} trailing bytes")
        return cls(**values)

    def __repr__(self) -> str:
        """Names of the fields only: some hold shares of secrets."""
        names = ", ".join(f.name for f in fields(self))  # type: ignore[arg-type]
        return f"{type(self).__name__}({names})"


def _nested(kind: type[Message], most: int) -> _Kind:
    raw = _bounded(most)
    return _Kind(
        lambda value: raw.write(value.to_bytes()),
        lambda reader, field: kind.from_bytes(raw.read(reader, field)),
    )


class HelloRequest(Message):
    """``nonce``: fresh for every session; ``session``: what the server makes of it."""

    nonce: bytes
    session: bytes
    TAG = 1
    _SPEC = {"nonce": _KEY, "session": _KEY}


class Hello(Message):
    """``exchange``: X25519 public key; the signature is over ``signed``."""

    session: bytes
    name: str
    exchange: bytes
    signature: bytes
    TAG = 2
    _SPEC = {"session": _KEY, "name": _NAME, "exchange": _KEY, "signature": _SIGNATURE}

    @staticmethod
    def signed(session: bytes, name: str, exchange: bytes) -> bytes:
        """The bytes under the signature."""
        return digest("hello", session, name.encode(), exchange)


class GroupRequest(Message):
    """Aggregations ``first`` to ``first + count - 1`` of the members, whose order is theirs;
    ``degree`` to ``window``: as in ``Thresholds``."""

    session: bytes
    first: int
    count: int
    degree: int
    threshold: int
    survivors: int
    window: int
    members: tuple[Hello, ...]
    TAG = 3
    _SPEC = {
        "session": _KEY,
        "first": _U32,
        "count": _U16,
        "degree": _U16,
        "threshold": _U16,
        "survivors": _U16,
        "window": _U16,
        "members": _list(_nested(Hello, 512), MOST_CLIENTS),
    }


class BundleKeys(Message):
    """The public half of a bundle: 32 bytes per aggregation in each of the two blocks."""

    group: bytes
    name: str
    public_keys: bytes
    commitments: bytes
    ciphertexts: bytes
    signature: bytes
    TAG = 4
    _SPEC = {
        "group": _KEY,
        "name": _NAME,
        "public_keys": _bounded(_MOST_KEYS),
        "commitments": _bounded(_MOST_KEYS),
        "ciphertexts": _KEY,
        "signature": _SIGNATURE,
    }

    @staticmethod
    def signed(
        group: bytes, name: str, public_keys: bytes, commitments: bytes, ciphertexts: bytes
    ) -> bytes:
        """The bytes under the signature; ``ciphertexts`` is the digest of all of them."""
        return digest("bundle", group, name.encode(), public_keys, commitments, ciphertexts)

    def body(self) -> bytes:
        """The bytes under this bundle's signature."""
        return self.signed(
            self.group, self.name, self.public_keys, self.commitments, self.ciphertexts
        )

    def digest(self) -> bytes:
        """What stands for this bundle in the group's transcript."""
        return digest("bundle keys", self.to_bytes())


class Bundle(Message):
    """A bundle: for each neighbour, in the group's order, 80 bytes per aggregation."""

    keys: BundleKeys
    ciphertexts: tuple[bytes, ...]
    TAG = 5
    _SPEC = {
        "keys": _nested(BundleKeys, 8192),
        "ciphertexts": _list(_bounded(_MOST_SHARES), MOST_CLIENTS),
    }

    @staticmethod
    def digest_of(ciphertexts: Sequence[bytes]) -> bytes:
        """The digest that the keys' signature covers."""
        return digest("ciphertexts", *ciphertexts)


class KeysRequest(Message):
    """``digests``: one per member, in order; ``bundles``: those of the receiver's neighbours."""

    group: bytes
    digests: tuple[bytes, ...]
    bundles: tuple[BundleKeys, ...]
    TAG = 6
    _SPEC = {
        "group": _KEY,
        "digests": _list(_KEY, MOST_CLIENTS),
        "bundles": _list(_nested(BundleKeys, 8192), MOST_CLIENTS),
    }


class Accepted(Message):
    """``transcript``: the digest of the group with all its keys."""

    group: bytes
    name: str
    transcript: bytes
    TAG = 7
    _SPEC = {"group": _KEY, "name": _NAME, "transcript": _KEY}


class TaskRequest(Message):
    """One aggregation. ``purpose`` says what is summed, e.g. 'train 3'; ``fine`` is 1 for whole
    numbers that carry noise, 2 for words of named sums, else 0."""

    group: bytes
    index: int
    purpose: str
    bits: int
    clip: float
    largest_weight: int
    fine: int
    TAG = 8
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "purpose": _NAME,
        "bits": _U8,
        "clip": _F64,
        "largest_weight": _U64,
        "fine": _U8,
    }

    def encoding(self, clients: int) -> Encoding:
        """How the numbers are written. Raises ProtocolRefused for parameters out of range."""
        if self.fine not in (0, 1, WORDS):
            raise ProtocolRefused("the task's encoding is unknown")
        how = self.fine == 1, self.fine == WORDS
        return Encoding(self.bits, self.clip, clients, self.largest_weight, *how)


class Upload(Message):
    """Goes with a masked vector, which travels beside it."""

    group: bytes
    index: int
    name: str
    TAG = 9
    _SPEC = {"group": _KEY, "index": _U32, "name": _NAME}


class UnmaskRequest(Message):
    """``survivors``: positions of who uploaded, ascending; ``ciphertexts``: the pair of shares of
    each neighbour that was encrypted for the receiver, in the group's order."""

    group: bytes
    index: int
    survivors: tuple[int, ...]
    ciphertexts: tuple[bytes, ...]
    TAG = 10
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "survivors": _list(_U16, MOST_CLIENTS),
        "ciphertexts": _list(_fixed(SHARE_BYTES), MOST_CLIENTS),
    }


class Shares(Message):
    """For each holder's client (the neighbours and the sender, in the group's order) 32 bytes:
    a share of the self mask of a survivor, or of the round key of another. Nothing stands for a
    share that its owner had not encrypted properly."""

    group: bytes
    index: int
    name: str
    shares: tuple[bytes, ...]
    TAG = 11
    _SPEC = {
        "group": _KEY,
        "index": _U32,
        "name": _NAME,
        "shares": _list(_bounded(KEY_BYTES), MOST_CLIENTS),
    }


class SumsLayout(Message):
    """Names and shapes of arrays of sums; no value of them. ``words``: names of those that are
    added as words of ``bits`` bits (0 where none are), in their order; all others are exact."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    bits: int
    words: tuple[str, ...]
    TAG = 12
    _SPEC = {
        "names": _list(_KEY_OF_SUM, 100_000),
        "shapes": _list(_list(_U32, 8), 100_000),
        "bits": _U8,
        "words": _list(_KEY_OF_SUM, 100_000),
    }
