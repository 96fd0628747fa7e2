"""The wire format: what is written is read, and everything else is refused by name."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg import messages as wire
from wardround.common.secagg.keys import SHARE_BYTES
from wardround.common.trust.identity import KEY_BYTES, SIGNATURE_BYTES, digest

modest = settings(deadline=None, max_examples=60)

# --- any message of each class --------------------------------------------------------------------
key = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)
signature = st.binary(min_size=SIGNATURE_BYTES, max_size=SIGNATURE_BYTES)
share = st.binary(min_size=SHARE_BYTES, max_size=SHARE_BYTES)
sealed = st.binary(min_size=KEY_BYTES + 16, max_size=KEY_BYTES + 16)
name = st.text(max_size=20)
u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))


def several(item: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(item, max_size=3).map(tuple)


hello = st.builds(wire.Hello, key, name, key, signature)
blocks = st.integers(0, 3).flatmap(lambda n: st.binary(min_size=32 * n, max_size=32 * n))
bundle_keys = st.builds(wire.BundleKeys, key, name, blocks, blocks, key, signature)
SOME = {
    "HelloRequest": st.builds(wire.HelloRequest, key, key),
    "Hello": hello,
    "GroupRequest": st.builds(wire.GroupRequest, key, u32, u16, u16, u16, u16, u16, several(hello)),
    "BundleKeys": bundle_keys,
    "Bundle": st.builds(wire.Bundle, bundle_keys, several(st.binary(max_size=200))),
    "KeysRequest": st.builds(wire.KeysRequest, key, several(key), several(bundle_keys)),
    "Accepted": st.builds(wire.Accepted, key, name, key),
    "TaskRequest": st.builds(
        wire.TaskRequest, key, u32, name, u8, st.floats(allow_nan=False), u64, u8
    ),
    "Upload": st.builds(wire.Upload, key, u32, name),
    "UnmaskRequest": st.builds(wire.UnmaskRequest, key, u32, several(u16), several(share)),
    "Shares": st.builds(wire.Shares, key, u32, name, several(st.one_of(key, st.just(b"")))),
    "SumsLayout": st.builds(
        wire.SumsLayout, several(name), several(several(u32)), u8, several(name)
    ),
    "DealRequest": st.builds(wire.DealRequest, key, several(hello)),
    "Deal": st.builds(wire.Deal, key, several(hello), key, several(sealed), signature),
    "Dealt": st.builds(wire.Dealt, key, name, signature),
    "Blind": st.builds(wire.Blind, u32, u32, key, key, u32, several(name), u64, u32),
    "Held": st.builds(wire.Held, name, u32, key),
}
ANY = st.one_of(*SOME.values())
CLASSES: dict[str, type[wire.Message]] = {name: getattr(wire, name) for name in SOME}


def test_every_message_is_tested_here_and_has_its_own_tag() -> None:
    assert set(CLASSES.values()) == set(wire.Message.__subclasses__())
    assert sorted(kind.TAG for kind in CLASSES.values()) == list(range(1, len(CLASSES) + 1))


@pytest.mark.parametrize("kind", SOME)
def test_what_is_written_is_read(kind) -> None:
    @modest
    @given(SOME[kind])
    def round_trip(message) -> None:
        data = message.to_bytes()
        assert data[0] == message.TAG
        back = type(message).from_bytes(data)
        assert back == message and type(back) is type(message)
        assert back.to_bytes() == data

    round_trip()


@modest
@given(ANY, ANY)
def test_two_messages_have_the_same_bytes_only_if_they_are_the_same(one, other) -> None:
    """What is signed or hashed is what is sent, so no bytes may say two things."""
    assert (one.to_bytes() == other.to_bytes()) == (one == other)


# --- one full example of each class ---------------------------------------------------------------
G, S = bytes(range(32)), bytes(range(64))
HELLO = wire.Hello(G, "Köln", G[::-1], S)
KEYS = wire.BundleKeys(G, "Köln", bytes(64), b"c" * 64, G, S)
EXAMPLES: list[wire.Message] = [
    wire.HelloRequest(G, G[::-1]),
    HELLO,
    wire.GroupRequest(G, 7, 2, 9, 6, 5, 3, (HELLO, wire.Hello(G, "b", G, S))),
    KEYS,
    wire.Bundle(KEYS, (b"x" * 160, b"y" * 160)),
    wire.KeysRequest(G, (G, G[::-1]), (KEYS,)),
    wire.Accepted(G, "Köln", G),
    wire.TaskRequest(G, 8, "train 3", 32, 8.0, 1000, 0),
    wire.Upload(G, 8, "Köln"),
    wire.UnmaskRequest(G, 8, (0, 2, 513), (b"s" * 80, b"t" * 80)),
    wire.Shares(G, 8, "Köln", (G, b"")),
    wire.SumsLayout(("loss", "Köln"), ((2, 3), ()), 16, ("loss",)),
]
each = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)


def refusal(kind: type[wire.Message], data: bytes) -> str:
    """The text with which ``data`` is refused; it must be."""
    with pytest.raises(ProtocolRefused) as refused:
        kind.from_bytes(data)
    return str(refused.value)


def size_in_front(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_the_format_done_by_hand() -> None:
    """Tag, fields in order, big-endian numbers, lengths in front: every class, byte by byte."""
    koeln = size_in_front(b"K\xc3\xb6ln")
    h = b"\x02" + G + koeln + G[::-1] + S
    b = b"\x02" + G + size_in_front(b"b") + G + S
    k = b"\x04" + G + koeln + size_in_front(bytes(64)) + size_in_front(b"c" * 64) + G + S
    two, index = bytes([0, 0, 0, 2]), bytes([0, 0, 0, 8])
    expected = [
        b"\x01" + G + G[::-1],
        h,
        b"\x03" + G + b"\0\0\0\x07\0\x02\0\x09\0\x06\0\x05\0\x03" + two + size_in_front(h)
        + size_in_front(b),
        k,
        b"\x05" + size_in_front(k) + two + size_in_front(b"x" * 160) + size_in_front(b"y" * 160),
        b"\x06" + G + two + G + G[::-1] + b"\0\0\0\x01" + size_in_front(k),
        b"\x07" + G + koeln + G,
        b"\x08" + G + index + size_in_front(b"train 3") + b"\x20" + b"\x40\x20" + bytes(6)
        + bytes(6) + b"\x03\xe8\0",
        b"\x09" + G + index + koeln,
        b"\x0a" + G + index + b"\0\0\0\x03\0\0\0\x02\x02\x01" + two + b"s" * 80 + b"t" * 80,
        b"\x0b" + G + index + koeln + two + size_in_front(G) + bytes(4),
        b"\x0c" + two + size_in_front(b"loss") + koeln + two + two + b"\0\0\0\x02\0\0\0\x03"
        + bytes(4) + b"\x10" + b"\0\0\0\x01" + size_in_front(b"loss"),
    ]  # fmt: skip
    assert [message.to_bytes() for message in EXAMPLES] == expected


@each
def test_every_truncation_is_refused_by_the_messages_name_and_field(message) -> None:
    kind, data = type(message), message.to_bytes()
    fields = ["tag", *kind._SPEC]
    seen = []
    for size in range(len(data)):
        reason = refusal(kind, data[:size])
        assert reason.startswith(f"{kind.__name__}: truncated at '")
        seen.append(reason.split("'")[1])
    # From the front to the back every field in turn is the one that is missing.
    assert list(dict.fromkeys(seen)) == fields


@each
@pytest.mark.parametrize("trailing", [b"\0", b"\xff", bytes(100)])
def test_trailing_bytes_are_refused(message, trailing) -> None:
    kind = type(message)
    reason = refusal(kind, message.to_bytes() + trailing)
    assert reason == f"{kind.__name__}: {len(trailing)} trailing bytes"


@each
def test_every_other_tag_is_refused(message) -> None:
    kind, data = type(message), message.to_bytes()
    for tag in set(range(256)) - {kind.TAG}:
        reason = refusal(kind, bytes([tag]) + data[1:])
        assert reason == f"{kind.__name__}: another message came (tag {tag})"


@each
def test_every_other_message_is_refused(message) -> None:
    for other in EXAMPLES:
        if other is not message:
            assert "another message came" in refusal(type(message), other.to_bytes())


@each
def test_nothing_at_all_is_refused(message) -> None:
    kind = type(message)
    assert refusal(kind, b"") == f"{kind.__name__}: truncated at 'tag'"


# --- limits ---------------------------------------------------------------------------------------
def number(value: int) -> bytes:
    return struct.pack(">I", value)


NAMED = size_in_front(b"a")
# What comes before the length, the field, its limit, and what the limit counts.
LIMITS: list[tuple[type[wire.Message], bytes, str, int, str]] = [
    (wire.Hello, G, "name", 256, "bytes"),
    (wire.GroupRequest, G + bytes(14), "members", 65_535, "entries"),
    (wire.GroupRequest, G + bytes(14) + number(1), "members", 512, "bytes"),
    (wire.BundleKeys, G, "name", 256, "bytes"),
    (wire.BundleKeys, G + NAMED, "public_keys", 64 * 32, "bytes"),
    (wire.BundleKeys, G + NAMED + number(0), "commitments", 64 * 32, "bytes"),
    (wire.Bundle, b"", "keys", 8192, "bytes"),
    (wire.Bundle, size_in_front(KEYS.to_bytes()), "ciphertexts", 65_535, "entries"),
    (wire.Bundle, size_in_front(KEYS.to_bytes()) + number(1), "ciphertexts", 64 * 80, "bytes"),
    (wire.KeysRequest, G, "digests", 65_535, "entries"),
    (wire.KeysRequest, G + number(0), "bundles", 65_535, "entries"),
    (wire.KeysRequest, G + number(0) + number(1), "bundles", 8192, "bytes"),
    (wire.Accepted, G, "name", 256, "bytes"),
    (wire.TaskRequest, G + bytes(4), "purpose", 256, "bytes"),
    (wire.Upload, G + bytes(4), "name", 256, "bytes"),
    (wire.UnmaskRequest, G + bytes(4), "survivors", 65_535, "entries"),
    (wire.UnmaskRequest, G + bytes(4) + number(0), "ciphertexts", 65_535, "entries"),
    (wire.Shares, G + bytes(4), "name", 256, "bytes"),
    (wire.Shares, G + bytes(4) + NAMED, "shares", 65_535, "entries"),
    (wire.Shares, G + bytes(4) + NAMED + number(1), "shares", 32, "bytes"),
    (wire.SumsLayout, b"", "names", 100_000, "entries"),
    (wire.SumsLayout, number(1), "names", 1024, "bytes"),
    (wire.SumsLayout, number(0), "shapes", 100_000, "entries"),
    (wire.SumsLayout, number(0) + number(1), "shapes", 8, "entries"),
    (wire.SumsLayout, number(0) + number(0) + b"\0", "words", 100_000, "entries"),
    (wire.SumsLayout, number(0) + number(0) + b"\0" + number(1), "words", 1024, "bytes"),
]


@pytest.mark.parametrize(
    ("kind", "front", "field", "most", "unit"),
    LIMITS,
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_length_or_count_beyond_its_limit_is_refused_before_anything_is_read(
    kind, front, field, most, unit
) -> None:
    start = bytes([kind.TAG]) + front
    for size in (most + 1, 2 * most, 2**31, 2**32 - 1):
        expected = f"{kind.__name__}: '{field}' has {size} {unit}, at most {most}"
        assert refusal(kind, start + number(size)) == expected
        assert refusal(kind, start + number(size) + bytes(10_000)) == expected
    # At the limit it is only that nothing follows.
    assert refusal(kind, start + number(most)) == f"{kind.__name__}: truncated at '{field}'"


def test_the_table_of_limits_has_every_field_with_a_length() -> None:
    """A field with a length refuses 2^32 - 1; one without reads on. Each of the former is above."""
    listed = {(kind, field) for kind, _, field, _, _ in LIMITS}
    found = set()
    for message in EXAMPLES:
        kind, place = type(message), 1
        data = message.to_bytes()
        for field, spec in kind._SPEC.items():
            with_length = data[:place] + b"\xff" * 4 + bytes(100)
            try:
                kind.from_bytes(with_length)
            except ProtocolRefused as refused:
                if f"'{field}' has {2**32 - 1}" in str(refused):
                    found.add((kind, field))
            place += len(spec.write(getattr(message, field)))
        assert place == len(data)
    assert found == listed


def test_what_is_as_long_as_allowed_is_read() -> None:
    longest = "é" * 128
    messages = [
        wire.Upload(G, 1, longest),
        wire.BundleKeys(G, longest, bytes(2048), bytes(2048), G, S),
        wire.SumsLayout(("é" * 512,), (tuple(range(8)),), 64, ("é" * 512,)),
        wire.Bundle(KEYS, (bytes(64 * 80),)),
        wire.UnmaskRequest(G, 1, tuple(range(65_535)), ()),
    ]
    messages.append(wire.KeysRequest(G, (), (messages[1],)))  # fits its own limit in a list
    for message in messages:
        assert type(message).from_bytes(message.to_bytes()) == message


def test_the_longest_name_of_a_hospital_fits_into_a_group() -> None:
    """The server takes names of at most 64 characters, so 256 bytes."""
    member = wire.Hello(G, "\U0001f3e5" * 64, G, S)
    group = wire.GroupRequest(G, 0, 1, 1, 1, 1, 0, (member,))
    assert wire.GroupRequest.from_bytes(group.to_bytes()) == group


# --- text and nested messages ---------------------------------------------------------------------
NOT_UTF8 = [b"\xff", b"\xc3", b"a\x80", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"]
TEXTS = [
    (wire.Hello, G, "name", G + S),
    (wire.BundleKeys, G, "name", bytes(8) + G + S),
    (wire.Accepted, G, "name", G),
    (wire.TaskRequest, G + bytes(4), "purpose", bytes(18)),
    (wire.Upload, G + bytes(4), "name", b""),
    (wire.Shares, G + bytes(4), "name", bytes(4)),
    (wire.SumsLayout, number(1), "names", bytes(9)),
    (wire.SumsLayout, number(0) + number(0) + b"\x08" + number(1), "words", b""),
]


@pytest.mark.parametrize(("kind", "front", "field", "rest"), TEXTS)
@pytest.mark.parametrize("text", NOT_UTF8)
def test_text_that_is_not_utf_8_is_refused(kind, front, field, rest, text) -> None:
    start = bytes([kind.TAG]) + front
    kind.from_bytes(start + size_in_front(b"good") + rest)  # all else is as it should be
    reason = refusal(kind, start + size_in_front(text) + rest)
    assert reason == f"{kind.__name__}: '{field}' is not UTF-8 text"


@pytest.mark.parametrize(
    ("kind", "before", "inner"),
    [
        (wire.GroupRequest, G + bytes(14) + number(1), HELLO),
        (wire.Bundle, b"", KEYS),
        (wire.KeysRequest, G + number(0) + number(1), KEYS),
    ],
)
def test_a_nested_message_is_held_to_the_same_rules_and_refused_by_its_own_name(
    kind, before, inner
) -> None:
    start, data = bytes([kind.TAG]) + before, inner.to_bytes()
    inside = type(inner).__name__
    cut = refusal(kind, start + size_in_front(data[:-1]) + bytes(200))
    assert cut == f"{inside}: truncated at 'signature'"
    longer = refusal(kind, start + size_in_front(data + b"\0") + bytes(200))
    assert longer == f"{inside}: 1 trailing bytes"
    other = refusal(kind, start + size_in_front(b"\x63" + data[1:]) + bytes(200))
    assert other == f"{inside}: another message came (tag 99)"


# --- anything else --------------------------------------------------------------------------------
@settings(deadline=None, max_examples=200)
@given(ANY, st.data())
def test_changed_bytes_are_another_message_or_refused_never_a_crash(message, data) -> None:
    changed = bytearray(message.to_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, 3))
    received = bytes(changed[: len(changed) - cut])
    try:
        back = type(message).from_bytes(received)
    except ProtocolRefused:
        return
    assert back.to_bytes() == received  # NaN of a clip included: compared as bytes


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(CLASSES)), st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused_never_a_crash(kind, data) -> None:
    for received in (data, bytes([CLASSES[kind].TAG]) + data):
        try:
            back = CLASSES[kind].from_bytes(received)
        except ProtocolRefused:
            continue
        assert back.to_bytes() == received


# --- writing --------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 31, 33])
def test_bytes_of_another_length_are_not_written_into_a_fixed_field(size) -> None:
    with pytest.raises(ValueError, match=f"{size} bytes in a field of 32"):
        wire.HelloRequest(bytes(size), G).to_bytes()


def test_numbers_that_do_not_fit_are_not_written() -> None:
    for index in (-1, 2**32):
        with pytest.raises(struct.error):
            wire.Upload(G, index, "a").to_bytes()


@each
def test_a_repr_names_the_fields_and_shows_no_value(message) -> None:
    text = repr(message)
    assert text == f"{type(message).__name__}({', '.join(type(message)._SPEC)})"
    assert str(message) == text


@each
def test_a_message_can_not_be_changed(message) -> None:
    field = next(iter(type(message)._SPEC))
    with pytest.raises(AttributeError):
        setattr(message, field, b"")


# --- what is signed -------------------------------------------------------------------------------
def test_signatures_cover_every_field_that_comes_before_them() -> None:
    hellos = {
        wire.Hello.signed(*parts)
        for parts in [(G, "a", G), (S[32:], "a", G), (G, "b", G), (G, "a", S[32:])]
    }
    assert len(hellos) == 4
    body = (G, "a", b"p", b"c", G)
    changes = [(S[32:], "b", b"q", b"d", S[32:])[i] for i in range(5)]
    bundles = {
        wire.BundleKeys.signed(*body),
        *(wire.BundleKeys.signed(*body[:i], changes[i], *body[i + 1 :]) for i in range(5)),
    }
    assert len(bundles) == 6 and not bundles & hellos
    assert KEYS.body() == digest(
        "bundle", KEYS.group, b"K\xc3\xb6ln", KEYS.public_keys, KEYS.commitments, KEYS.ciphertexts
    )
    assert HELLO.signed(G, "a", G) == digest("hello", G, b"a", G)
    assert KEYS.digest() == digest("bundle keys", KEYS.to_bytes())


def test_the_digest_of_ciphertexts_tells_their_cuts_apart() -> None:
    cuts = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), ()]
    assert len({wire.Bundle.digest_of(cut) for cut in cuts}) == 5
