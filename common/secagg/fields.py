"""How messages of secure aggregation are written: a tag, then fields of a few kinds, in order."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform

from wardround.common.errors import ProtocolRefused


class Reader:
    """Takes a message's bytes from the front. Raises ProtocolRefused where there are too few."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.place, self.what = data, 0, what

    def take(self, count: int, field: str) -> bytes:
        """The next bytes. ``field``: whose, for the error."""
        if self.place + count > len(self.data):
            raise ProtocolRefused(f"{self.what}: truncated at '{field}'")
        self.place += count
        return self.data[self.place - count : self.place]


class Kind(NamedTuple):
    """How a field is written and read."""

    write: Callable[[Any], bytes]
    read: Callable[[Reader, str], Any]


def number(letter: str) -> Kind:
    """A number in the big-endian form that ``struct`` has this letter for."""
    size = struct.calcsize(">" + letter)

    def read(reader: Reader, field: str) -> Any:
        return struct.unpack(">" + letter, reader.take(size, field))[0]

    return Kind(lambda value: struct.pack(">" + letter, value), read)


def fixed(size: int) -> Kind:
    """Bytes of this length, without it."""

    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes in a field of {size}")
        return value

    return Kind(write, lambda reader, field: reader.take(size, field))


def bounded(most: int) -> Kind:
    """Bytes with their length in front, at most so many."""

    def read(reader: Reader, field: str) -> bytes:
        (size,) = struct.unpack(">I", reader.take(4, field))
        if size > most:
            raise ProtocolRefused(f"{reader.what}: '{field}' has {size} bytes, at most {most}")
        return reader.take(size, field)

    return Kind(lambda value: struct.pack(">I", len(value)) + value, read)


def text(most: int) -> Kind:
    """Text of at most so many bytes of UTF-8."""
    raw = bounded(most)

    def read(reader: Reader, field: str) -> str:
        try:
            return str(raw.read(reader, field).decode("utf-8"))
        except UnicodeDecodeError:
            raise ProtocolRefused(f"{reader.what}: '{field}' is not UTF-8 text") from None

    return Kind(lambda value: raw.write(value.encode()), read)


def list_of(item: Kind, most: int) -> Kind:
    """Fields of one kind with their number in front, at most so many."""

    def write(values: Sequence[Any]) -> bytes:
        return struct.pack(">I", len(values)) + b"".join(item.write(v) for v in values)

    def read(reader: Reader, field: str) -> tuple[Any, ...]:
        (count,) = struct.unpack(">I", reader.take(4, field))
        if count > most:
            raise ProtocolRefused(f"{reader.what}: '{field}' has {count} entries, at most {most}")
        return tuple(item.read(reader, field) for _ in range(count))

    return Kind(write, read)


@dataclass_transform(frozen_default=True)
class Message:
    """Base of all messages. ``TAG`` tells them apart on the wire."""

    TAG: ClassVar[int]
    _SPEC: ClassVar[dict[str, Kind]]

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
        reader = Reader(data, what)
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


def nested(kind: type[Message], most: int) -> Kind:
    """A whole message of at most so many bytes."""
    raw = bounded(most)
    return Kind(
        lambda value: raw.write(value.to_bytes()),
        lambda reader, field: kind.from_bytes(raw.read(reader, field)),
    )
