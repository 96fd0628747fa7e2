"""Contents as bytes: exactly what went in comes out, and nothing malformed gets through."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import TransportError
from wardround.common.flower.content import (
    MOST_HEADER_BYTES,
    BodyDigest,
    decode_content,
    encode_content,
)
from wardround.common.flower.stored import StoredArray, StoredBytes, in_memory, part_of

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
whole = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False)
metric = whole | numbers | st.lists(whole, max_size=4) | st.lists(numbers, max_size=4)
scalar = [whole, numbers, names, st.booleans(), st.binary(max_size=40)]
config = st.one_of(*scalar, *(st.lists(kind, max_size=4) for kind in scalar))


@st.composite
def arrays(draw: Any) -> Array:
    if draw(st.booleans()):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        dtype = draw(st.sampled_from(["float32", "float64", "int8", "bool"]))
        return Array(np.ones(shape, dtype))
    sides = tuple(draw(st.lists(st.integers(0, 9), max_size=3)))
    return Array("float32", sides, "numpy.ndarray", draw(st.binary(max_size=60)))


records = st.one_of(
    st.dictionaries(names, arrays(), max_size=3).map(ArrayRecord),
    st.dictionaries(names, metric, max_size=4).map(MetricRecord),
    st.dictionaries(names, config, max_size=4).map(ConfigRecord),
)
contents = st.dictionaries(names, records, max_size=4).map(RecordDict)


def whole_body(content: RecordDict) -> bytes:
    body = encode_content(content)
    return body.read(0, body.size_bytes)


def decode(data: bytes) -> RecordDict:
    return decode_content(io.BytesIO(data), len(data))


def plain(content: RecordDict) -> list[Any]:
    """Names, kinds, values and their types, in order."""
    return [
        (name, type(record), [(key, type(value), _value(value)) for key, value in record.items()])
        for name, record in content.items()
    ]


def _value(value: Any) -> Any:
    if isinstance(value, Array):
        return (value.dtype, tuple(value.shape), value.stype, value.data)
    return [(type(v), v) for v in value] if isinstance(value, list) else value


@given(contents)
def test_what_goes_in_comes_out(content: RecordDict) -> None:
    assert plain(decode(whole_body(content))) == plain(content)


@given(contents, st.data())
def test_digest_and_pieces_are_those_of_the_whole(content: RecordDict, data: Any) -> None:
    body = encode_content(content)
    whole_bytes = body.read(0, body.size_bytes)
    running, offset = BodyDigest(), 0
    while offset < body.size_bytes:
        count = data.draw(st.integers(1, body.size_bytes))
        piece = body.read(offset, count)
        assert piece == whole_bytes[offset : offset + count]
        running.update(piece)
        offset += len(piece)
    assert running.hexdigest() == body.digest() == encode_content(content).digest({})
    assert body.read(offset, 5) == b""


@given(contents, st.data())
def test_damaged_bytes_are_refused_or_a_content(content: RecordDict, data: Any) -> None:
    good = whole_body(content)
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(bad)))
        match data.draw(st.sampled_from(["cut", "insert", "change"])):
            case "cut":
                del bad[place : place + data.draw(st.integers(1, 4))]
            case "insert":
                bad[place:place] = data.draw(st.binary(min_size=1, max_size=4))
            case "change" if place < len(bad):
                bad[place] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(bad))
    except TransportError:
        pass
    else:  # then it is a whole content, with one way to write it
        assert whole_body(found) == bytes(bad)
    running = BodyDigest()
    try:
        running.update(bytes(bad))
        running.hexdigest()
    except TransportError:
        pass


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(TransportError):
        decode(struct.pack(">I", len(data)) + data if len(data) % 2 else data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
almost_values = st.sampled_from(["arrays", "metrics", "config"]) | json_values
almost = st.lists(st.tuples(st.text(max_size=5), almost_values, st.lists(json_values, max_size=3)))


@given(almost | json_values, st.binary(max_size=20))
def test_any_json_in_the_header_is_refused_or_a_content(header: Any, blobs: bytes) -> None:
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    try:
        decode(struct.pack(">I", len(text)) + text + blobs)
    except TransportError:
        pass


@pytest.mark.parametrize(
    ("header", "blobs", "reason"),
    [
        ('[["a","arrays",[["w","f",[2],"n",8]]]]', b"1234567", "not as long"),
        ('[["a","arrays",[["w","f",[2],"n",8]]]]', b"123456789", "not as long"),
        ('[["a","arrays",[["w","f",[2],"n",4294967296]]]]', b"", "not as long"),
        ('[["a","arrays",[["w","f",[-2],"n",0]]]]', b"", "another form"),
        ('[["a","arrays",[["w","f",[true],"n",0]]]]', b"", "another form"),
        ('[["a","config",[["k",{"bytes":-1}]]]]', b"", "another form"),
        ('[["a","config",[["k",{"bytes":1,"more":1}]]]]', b"x", "another form"),
        ('[["a","config",[["k",9223372036854775808]]]]', b"", "another form"),
        ('[["a","config",[["k",1],["k",1]]]]', b"", "two values of one name"),
        ('[["a","config",[]],["a","config",[]]]', b"", "two records of one name"),
        ('[["a","metrics",[["k","text"]]]]', b"", "unreadable record"),
        ('[["a","pickle",[]]]', b"", "another form"),
        ('[["a","config",[["k", 1]]]]', b"", "in another way"),
        ('[["a","config",[["k","\\ud800"]]]]', b"", "isn't Unicode"),
        ("[" * 5000, b"", "not JSON"),
        ('[["a","config",[["k",1e999]]]]', b"", "in another way"),
    ],
)
def test_a_malformed_header_is_refused(header: str, blobs: bytes, reason: str) -> None:
    text = header.encode()
    with pytest.raises(TransportError, match=reason):
        decode(struct.pack(">I", len(text)) + text + blobs)


def test_a_header_that_would_take_much_memory_is_refused_unparsed() -> None:
    text = b"[" + b"[]," * (1 << 20) + b"[]]"
    for use in (lambda data: decode(data), lambda data: BodyDigest().update(data)):
        with pytest.raises(TransportError, match="values"):
            use(struct.pack(">I", len(text)) + text)
    claim = struct.pack(">I", MOST_HEADER_BYTES + 1)
    with pytest.raises(TransportError, match="header"):
        BodyDigest().update(claim)
    with pytest.raises(TransportError, match="header"):
        decode(claim + b"x" * 100)


def test_what_no_one_could_read_is_not_sent() -> None:
    with pytest.raises(TransportError, match="Unicode"):
        encode_content(RecordDict({"a": ConfigRecord({"k": "\ud800"})}))
    with pytest.raises(TransportError, match="too many values"):
        encode_content(RecordDict({"a": ConfigRecord({"k": [1] * ((1 << 20) + 1)})}))


def test_what_is_large_stays_in_the_file_and_is_sent_on_from_there(tmp_path) -> None:
    large, small = np.arange(1 << 15, dtype=np.float64), np.arange(3)
    vector, key = bytes(range(256)) * (1 << 12), bytes(1 << 10)
    content = RecordDict(
        {
            "arrays": ArrayRecord([small, large, large + 1]),
            "masked": ConfigRecord({"vector": vector, "key": key}),
        }
    )
    body = encode_content(content)
    data = body.read(0, body.size_bytes)
    with open(tmp_path / "body", "wb+") as file:
        file.write(data)
        file.seek(0)
        found = decode_content(file, len(data), stored=True)
        assert file.closed  # and what is in it can be read all the same
    (tmp_path / "body").unlink()
    record, masked = found["arrays"], found["masked"]
    assert isinstance(record, ArrayRecord) and isinstance(masked, ConfigRecord)
    kinds = [isinstance(array, StoredArray) for array in record.values()]
    assert kinds == [False, True, True]
    assert np.array_equal(record["2"].numpy(), large + 1)
    assert np.array_equal(record["1"].numpy(), large)
    assert isinstance(masked["vector"], StoredBytes) and type(masked["key"]) is bytes
    assert len(masked["vector"]) == len(vector) and masked["vector"] == vector
    assert not masked["vector"] == vector[:-1] + b"x"
    assert masked["vector"] != vector[:-1] + b"x" and in_memory(masked["vector"]) == vector
    assert bytes(part_of(masked["vector"], 255, 3)) == bytes(part_of(vector, 255, 3))
    again = encode_content(found)
    assert again.read(0, len(data)) == data and again.digest() == body.digest()
    for offset in (0, 7, len(data) - 5):
        assert again.read(offset, 70000) == data[offset : offset + 70000]


def test_a_message_in_memory_is_read_as_a_whole() -> None:
    content = RecordDict({"arrays": ArrayRecord([np.arange(1 << 15)])})
    body = encode_content(content)
    file = io.BytesIO(body.read(0, body.size_bytes))
    found = decode_content(file, body.size_bytes, stored=True)["arrays"]
    assert isinstance(found, ArrayRecord) and file.closed
    assert not isinstance(found["0"], StoredArray)
    assert np.array_equal(found["0"].numpy(), np.arange(1 << 15))


def test_one_model_for_many_is_hashed_once() -> None:
    shared = ArrayRecord({"w": Array(np.arange(5.0))})
    known: dict[int, tuple[object, bytes]] = {}
    bodies = [
        encode_content(RecordDict({"m": shared, "c": ConfigRecord({"n": n})})) for n in range(2)
    ]
    digests = [body.digest(known) for body in bodies]
    assert len(known) == 1 and digests[0] != digests[1]
    assert digests == [body.digest() for body in bodies]
