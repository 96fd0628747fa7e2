"""The curve, and letters of places."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import JointRefused
from wardround.common.linkage import places
from wardround.common.linkage.plan import Plan
from wardround.common.linkage.points import NotOnCurve, hidden, raised, scalar_of

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
# x of 1, 2, 3 and 20 times the base point (FIPS 186-4's P-256, published test vectors)
BASE = {
    1: "6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296",
    2: "7CF27B188D034F7E8A52380304B51AC3C08969E277F21B35A60B48FC47669978",
    3: "5ECBE4D1A6330A44C8F7EF951D4BF165E6C6B721EFADA985FB41661BC6E7FD6C",
    20: "83A01A9378395BAB9BCD6A0AD03CC56D56E6B19250465A94A234DC4C6B28DA9A",
}
PLAN = Plan(("a", "b"), "coordinator", smallest=3, padded=4, most_rows=16)


def number(value: int) -> bytes:
    return value.to_bytes(32, "big")


def test_multiples_of_the_base_point_are_those_of_the_standard() -> None:
    for times, x in BASE.items():
        assert raised(bytes.fromhex(BASE[1]), number(times)).hex().upper() == x
    assert raised(bytes.fromhex(BASE[2]), number(10)).hex().upper() == BASE[20]


@settings(max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_hashes_lie_on_the_curve_and_secrets_commute(digest: bytes, secret: bytes) -> None:
    """Of a digest, times one: the first SHA-256 of domain, count and digest whose x^3 - 3x + b is
    a square, by Euler's criterion."""
    point = hidden(digest, number(1))
    for count in range(256):
        start = b"wardround linkage point P-256 1" + bytes([count])
        x = int.from_bytes(hashlib.sha256(start + digest).digest(), "big")
        if x < PRIME and pow(x**3 - 3 * x + B, (PRIME - 1) // 2, PRIME) == 1:
            break
    assert point == number(x)
    one, other = scalar_of(secret, b"1"), scalar_of(secret, b"2")
    assert one != other
    assert raised(hidden(digest, one), other) == raised(hidden(digest, other), one)


def test_what_is_no_x_of_a_point_is_refused() -> None:
    for x in (1, PRIME, PRIME + 5, 2**256 - 1):
        with pytest.raises(NotOnCurve):
            raised(bytes.fromhex(BASE[1]) + number(x), number(7))


@given(st.data())
def test_places_are_read_as_they_were_written(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 8)) * 4
    some = data.draw(st.lists(st.integers(0, length - 1), unique=True, min_size=3, max_size=length))
    there = np.array(some, np.int64)
    text = places.written(there, PLAN, length)
    assert len(text) == 4 + 4 * length
    assert places.read(text, PLAN, length, length).tolist() == some
    order, read = places.read_marks(
        places.marked(b"o" * 32, np.sort(there), length), PLAN, length, length
    )
    assert order == b"o" * 32 and read.tolist() == sorted(some)
    for wrong in (text[:-1], text + b"\0", (len(some) + length).to_bytes(4, "big") + text[4:]):
        with pytest.raises(JointRefused, match="none of a list"):
            places.read(wrong, PLAN, length, length)


@given(st.binary(max_size=60))
def test_any_bytes_are_places_or_refused(text: bytes) -> None:
    try:
        assert 3 <= len(places.read(text, PLAN, 4, 8)) <= 4
    except JointRefused:
        pass
    try:
        assert 3 <= len(places.read_marks(text, PLAN, 4, 12)[1]) <= 4
    except JointRefused:
        pass


def test_a_run_and_a_use_have_scalars_of_their_own() -> None:
    """The secret under which a list comes home is none that others' lists are under."""
    made = {
        (run, use): scalar_of(b"k" * 32, run, use) for run in (b"1", b"2") for use in ("all", "own")
    }
    assert len(set(made.values())) == 4
