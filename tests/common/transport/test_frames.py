"""Frames: strict, bounded, and nothing but TransportError for whatever comes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import TransportError
from wardround.common.transport import frames as f

ids = st.text("0123456789abcdef", min_size=64, max_size=64)
instances = st.text("0123456789abcdef", min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
short = st.text("abc-. 012", max_size=20)
numbers = st.integers(0, 2**32 - 1)
sizes = st.integers(0, 2**63 - 1)
seconds = st.floats(0.01, 3600)
signatures = st.sampled_from(["", "0" * 128])
control: list[st.SearchStrategy[f.Frame]] = [
    st.builds(
        f.Hello,
        wire=numbers,
        version=short,
        instance=instances,
        description=numbers,
        issued=short,
    ),
    st.builds(
        f.Welcome,
        instance=instances,
        heartbeat_s=seconds,
        lease_s=seconds,
        most_bytes=sizes,
        description=texts,
    ),
    st.builds(f.Refused, code=st.sampled_from(["twin", "revoked"]), reason=texts),
    st.builds(
        f.Start,
        number=numbers,
        id=ids,
        kind=st.sampled_from(["request", "reply", "error"]),
        type=short,
        reply_to=ids | st.just(""),
        size_bytes=sizes,
        digest=ids | st.just(""),
        reason=texts,
    ),
    st.builds(f.Have, number=numbers, offset=sizes),
    st.builds(f.Got, number=numbers, offset=sizes),
    st.builds(f.Done, id=ids),
    st.builds(f.Failed, id=ids, reason=texts, again=st.booleans()),
    st.builds(f.Drop, id=ids),
    st.builds(f.Ping),
    st.builds(f.Heads, head=texts, countersigned=texts, signature=signatures),
    st.builds(f.Bye, reason=texts),
]
chunks = st.builds(f.Chunk, numbers, st.integers(0, 2**64 - 1), st.binary(min_size=1, max_size=100))
frames = st.one_of(*control, chunks)


@given(frames)
def test_what_is_sent_is_what_is_read(frame: f.Frame | f.Chunk) -> None:
    assert f.read_frame(frame.to_bytes()) == frame


@given(frames, st.data())
def test_a_damaged_frame_is_refused_or_a_frame(frame: f.Frame | f.Chunk, data: Any) -> None:
    raw = bytearray(frame.to_bytes())
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[place] = data.draw(st.integers(0, 255))
    else:
        del raw[place:]
    read_or_refuse(bytes(raw))


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_a_frame(data: bytes) -> None:
    read_or_refuse(data)


def read_or_refuse(data: bytes) -> None:
    try:
        frame = f.read_frame(data)
    except TransportError as error:
        assert len(str(error)) < 200 and str(error).isprintable()
    else:
        assert f.read_frame(frame.to_bytes()) == frame


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 13,  # an empty chunk
        b"\0" + b"\0" * 12 + b"x" * (f.CHUNK_BYTES + 1),
        bytes([99]) + b"{}",
        bytes([9]) + b'{"more": 1}',
        bytes([6]) + b'{"id": "..%2f"}',
        bytes([5]) + b'{"number": 1, "offset": -1}',
        bytes([5]) + b'{"number": true, "offset": 1}',
        bytes([5]) + b'{"number": "1", "offset": 1}',
        bytes([11]) + b'{"reason": "' + b"x" * 2001 + b'"}',
        bytes([11]) + b'{"reason": "\\ud800"}',
        bytes([9]) + b'{"' + b"k" * (1 << 17) + b'": 1}',
        bytes([9]) + b"[" * 10000,
        b"\1" * (f.MOST_FRAME_BYTES + 1),
    ],
)
def test_what_is_no_frame_is_refused_in_one_short_line(data: bytes) -> None:
    with pytest.raises(TransportError) as error:
        f.read_frame(data)
    assert len(str(error.value)) < 200 and str(error.value).isprintable()


def test_a_key_that_was_made_up_is_not_repeated_at_length() -> None:
    with pytest.raises(TransportError) as error:
        f.read_frame(bytes([9]) + b'{"' + b"k\\n" * 10000 + b'": 1}')
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_tags_are_what_they_were() -> None:
    """Another order of frames would be another protocol: then WIRE_VERSION must change."""
    kinds = "Hello Welcome Refused Start Have Done Failed Drop Ping Heads Bye Got Again"
    assert [kind.__name__ for kind in f._KINDS] == kinds.split()
    assert f.WIRE_VERSION == 4
