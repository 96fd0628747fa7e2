"""The content of a message as bytes, and back: records of a Flower ``RecordDict``, no pickle.

    size of the header (4 bytes, big-endian) | header (JSON) | blobs, one after the other

The header names every record and value; arrays and byte strings stand in it with their size and lie
behind it as blobs. They are never copied to be sent: a body is read in pieces, straight from where
the arrays are. What comes back is exactly what went in; a body that is too short, too long, not
what its header says, or whose header isn't written in the one way there is, is refused.

The digest covers header and blobs: SHA-256 over the header and each blob's SHA-256, so a model that
goes to many hospitals is hashed once.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import itertools
import json
import os
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from wardround.common.errors import TransportError
from wardround.common.flower.arrays import record_of
from wardround.common.flower.stored import STORED_BYTES, StoredArray, StoredBlob, StoredBytes
from wardround.common.mapped import view_of

MOST_HEADER_BYTES = 16 << 20
_MOST_VALUES = 1 << 20
"""In a header: parsed, each takes a hundred times the space of the shortest text."""
_STORED_VALUE_BYTES = 1 << 20
_SIZE = struct.Struct(">I")
_ARRAYS, _METRICS, _CONFIG = "arrays", "metrics", "config"
_INT64 = 2**63
_TEXTS = (int, float, str, bool)
Record = ArrayRecord | MetricRecord | ConfigRecord
Blob = bytes | StoredBlob
BlobDigests = dict[int, tuple[object, bytes]]
"""Digests of blobs by object, to be shared between messages that hold the same arrays."""


class Body:
    """The bytes of one content, to be read in pieces; the blobs aren't copied.

    size_bytes : of the whole body
    """

    def __init__(self, header: bytes, blobs: list[Blob]) -> None:
        self._parts: list[Blob] = [_SIZE.pack(len(header)) + header, *blobs]
        self._starts = [0, *itertools.accumulate(len(part) for part in self._parts)]
        self.size_bytes = self._starts[-1]

    def read(self, offset: int, count: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end."""
        pieces: list[bytes | memoryview] = []
        index = bisect.bisect_right(self._starts, offset) - 1
        while count > 0 and index < len(self._parts):
            start = offset - self._starts[index]
            part = self._parts[index]
            if isinstance(part, StoredBlob):
                piece: bytes | memoryview = part.read(start, count)
            else:
                piece = memoryview(part)[start : start + count]
            pieces.append(piece)
            offset, count, index = offset + len(piece), count - len(piece), index + 1
        return b"".join(pieces)

    def digest(self, known: BlobDigests | None = None) -> str:
        """The digest (hex). ``known``: digests of earlier blobs, and where this body's are kept."""
        total = hashlib.sha256(_digest(self._parts[0]))
        for blob in self._parts[1:]:
            kept = known.get(id(blob)) if known is not None else None
            # by identity: the blob is kept beside its digest, so its id can't become another's
            found = kept[1] if kept else _digest(blob)
            if known is not None:
                known[id(blob)] = (blob, found)
            total.update(found)
        return total.hexdigest()


def _digest(blob: Blob) -> bytes:
    state = hashlib.sha256()
    for piece in blob.pieces() if isinstance(blob, StoredBlob) else (blob,):
        state.update(piece)
    return state.digest()


class BodyDigest:
    """The digest of a body that arrives piece by piece. Raises TransportError for a bad header."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._sizes: Iterator[int] | None = None
        self._total = self._blob = hashlib.sha256()
        self._left = 0

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        if self._sizes is None:
            self._head += data
            header = _split_header(self._head)
            if header is None:
                return
            data = bytes(self._head[_SIZE.size + len(header) :])
            whole = hashlib.sha256(self._head[: _SIZE.size + len(header)])
            self._total = hashlib.sha256(whole.digest())
            self._sizes, self._head = iter(_blob_sizes(_parse(header))), bytearray()
            self._next()
        view = memoryview(data)
        while self._left >= 0 and (len(view) or self._left == 0):
            piece, view = view[: self._left], view[self._left :]
            self._blob.update(piece)
            self._left -= len(piece)
            if self._left == 0:
                self._total.update(self._blob.digest())
                self._next()
        if len(view):
            raise TransportError("a message is longer than its header says")

    def hexdigest(self) -> str:
        """The digest, once the whole body is here."""
        if self._sizes is None or self._left >= 0:
            raise TransportError("a message is shorter than its header says")
        return self._total.hexdigest()

    def _next(self) -> None:
        assert self._sizes is not None
        self._left, self._blob = next(self._sizes, -1), hashlib.sha256()


def encode_content(content: RecordDict) -> Body:
    """The body of a content, which must not be changed while the body is in use.

    Raises TransportError for a content that no one could read: a text that isn't Unicode, or more
    values than a header holds.
    """
    records: list[Any] = []
    blobs: list[Blob] = []
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            entries: list[Any] = []
            for key, array in record.items():
                blobs.append(array.blob if isinstance(array, StoredArray) else array.data)
                shape = [int(side) for side in array.shape]
                entries.append([key, array.dtype, shape, array.stype, len(blobs[-1])])
            records.append([name, _ARRAYS, entries])
            continue
        kind = _METRICS if isinstance(record, MetricRecord) else _CONFIG
        records.append([name, kind, [_encode_value(k, v, blobs) for k, v in record.items()]])
    header = _dump(records)
    if len(header) > MOST_HEADER_BYTES or _values(header) > _MOST_VALUES:
        raise TransportError("a message has too many values; put them into arrays")
    return Body(header, blobs)


def decode_content(file: IO[bytes], size_bytes: int, stored: bool = False) -> RecordDict:
    """The content in ``size_bytes`` of ``file``. Raises TransportError for anything malformed.

    stored : leave what is large in the file, which is closed; else it is the caller's to close
    """
    if not stored:
        return _decoded(file, size_bytes, None)
    with file:
        in_memory = isinstance(getattr(file, "_file", file), io.BytesIO)
        return _decoded(file, size_bytes, None if in_memory else view_of(file, size_bytes))


def _decoded(file: IO[bytes], size_bytes: int, whole: NDArray[np.uint8] | None) -> RecordDict:
    start = file.read(_SIZE.size)
    size = _SIZE.unpack(start)[0] if len(start) == _SIZE.size else size_bytes
    if size > min(MOST_HEADER_BYTES, size_bytes - _SIZE.size):
        raise TransportError("a message has no readable header")
    header = _read_exactly(file, size)
    records = _parse(header)
    sizes = _blob_sizes(records)
    if _SIZE.size + len(header) + sum(sizes) != size_bytes:
        raise TransportError("a message is not as long as its header says")
    blobs = _Blobs(file, sizes, whole)
    try:
        decoded = {name: _record(kind, entries, blobs) for name, kind, entries in records}
        if len(decoded) != len(records):
            raise TransportError("a message has two records of one name")
        return RecordDict(decoded)
    except (TypeError, ValueError, KeyError) as error:
        raise TransportError(
            f"a message has an unreadable record ({type(error).__name__})"
        ) from None


class _Blobs(Iterator[bytes]):
    """The blobs of a body, one after the other, read now or left where they are.

    whole : the body, where what is large stays
    """

    def __init__(self, file: IO[bytes], sizes: list[int], whole: NDArray[np.uint8] | None) -> None:
        self._file, self._sizes, self._whole = file, iter(sizes), whole

    def __next__(self) -> bytes:
        return self._read(next(self._sizes))

    def value(self) -> bytes:
        """The next one, as a value of a record."""
        size = next(self._sizes)
        blob = self._stored(size) if size >= _STORED_VALUE_BYTES else None
        return self._read(size) if blob is None else StoredBytes.of(blob)

    def array(self, dtype: str, shape: tuple[int, ...], stype: str) -> Array:
        """The next one, as an array's."""
        size = next(self._sizes)
        blob = self._stored(size) if size >= STORED_BYTES else None
        if blob is None:
            return Array(dtype, shape, stype, self._read(size))
        return StoredArray(dtype, shape, stype, blob)

    def _read(self, size: int) -> bytes:
        return _read_exactly(self._file, size)

    def _stored(self, size: int) -> StoredBlob | None:
        if self._whole is None:
            return None
        start = self._file.tell()
        self._file.seek(size, os.SEEK_CUR)
        return StoredBlob(b"", self._whole[start : start + size])


def _array(entry: list[Any], blobs: _Blobs) -> Array:
    _, dtype, shape, stype, _ = entry
    return blobs.array(dtype, tuple(shape), stype)


def _record(kind: str, entries: list[Any], blobs: _Blobs) -> Record:
    if kind == _ARRAYS:
        record: Record = record_of({entry[0]: _array(entry, blobs) for entry in entries})
    else:
        values = {key: _decode_value(value, blobs) for key, value in entries}
        record = MetricRecord(values) if kind == _METRICS else ConfigRecord(values)
    if len(record) != len(entries):
        raise TransportError("a record has two values of one name")
    return record


def _encode_value(key: str, value: Any, blobs: list[Blob]) -> list[Any]:
    """A plain value as it is; {"bytes": sizes} for a byte string, or for a list of them."""
    if isinstance(value, bytes):
        blobs.append(value.blob if isinstance(value, StoredBytes) else value)
        return [key, {"bytes": len(value)}]
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        blobs.extend(value)
        return [key, {"bytes": [len(part) for part in value]}]
    return [key, value]


def _decode_value(value: Any, blobs: _Blobs) -> Any:
    if isinstance(value, dict):
        sizes = value["bytes"]
        return [next(blobs) for _ in sizes] if isinstance(sizes, list) else blobs.value()
    return value


def _dump(records: list[Any]) -> bytes:
    """The one way to write a header."""
    try:
        return json.dumps(records, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise TransportError("a message has a text that isn't Unicode") from None


def _values(header: bytes) -> int:
    """At least as many as there are in a header, without parsing it."""
    return sum(map(header.count, (b",", b"[", b"{")))


def _split_header(data: bytes | bytearray) -> bytes | None:
    """The header at the start of ``data``; None while it isn't all there."""
    if len(data) < _SIZE.size:
        return None
    (size,) = _SIZE.unpack_from(data)
    if size > MOST_HEADER_BYTES:
        raise TransportError(f"a message's header has {size} bytes, at most {MOST_HEADER_BYTES}")
    whole = len(data) >= _SIZE.size + size
    return bytes(data[_SIZE.size : _SIZE.size + size]) if whole else None


def _parse(header: bytes) -> list[Any]:
    """The checked header. Raises TransportError."""
    if _values(header) > _MOST_VALUES:
        raise TransportError(f"a message's header has over {_MOST_VALUES} values")
    try:
        records = json.loads(header)
    except (ValueError, RecursionError):
        raise TransportError("a message's header is not JSON") from None
    if not isinstance(records, list) or not all(_is_record(record) for record in records):
        raise TransportError("a message's header has another form")
    if _dump(records) != header:
        raise TransportError("a message's header is written in another way")
    return records


def _is_record(record: Any) -> bool:
    if not isinstance(record, list) or len(record) != 3 or not isinstance(record[0], str):
        return False
    _, kind, entries = record
    if kind not in (_ARRAYS, _METRICS, _CONFIG) or not isinstance(entries, list):
        return False
    check = _is_array if kind == _ARRAYS else _is_value
    return all(isinstance(entry, list) and check(entry) for entry in entries)


def _is_array(entry: list[Any]) -> bool:
    if len(entry) != 5:
        return False
    key, dtype, shape, stype, size = entry
    texts = all(isinstance(text, str) for text in (key, dtype, stype))
    return texts and isinstance(shape, list) and all(map(_is_size, [*shape, size]))


def _is_value(entry: list[Any]) -> bool:
    if len(entry) != 2 or not isinstance(entry[0], str):
        return False
    value = entry[1]
    if isinstance(value, dict):
        sizes = value.get("bytes")
        return len(value) == 1 and all(map(_is_size, sizes if isinstance(sizes, list) else [sizes]))
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, _TEXTS) and _in_range(one) for one in values)


def _in_range(value: Any) -> bool:
    return not isinstance(value, int) or -_INT64 <= value < _INT64


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _INT64


def _blob_sizes(records: list[Any]) -> list[int]:
    sizes: list[int] = []
    for _, kind, entries in records:
        for entry in entries:
            if kind == _ARRAYS:
                sizes.append(entry[4])
            elif isinstance(entry[1], dict):
                part = entry[1]["bytes"]
                sizes += part if isinstance(part, list) else [part]
    return sizes


def _read_exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise TransportError("a message is shorter than its header says")
    return data
