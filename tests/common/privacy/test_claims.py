"""Claims: only the hospital's own, whole and sane."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ReplyRefused
from wardround.common.privacy.claims import Claim
from wardround.common.trust.identity import Identity, digest

ME, OTHER = Identity.generate(), Identity.generate()
ROSTER = {"a": ME.public, "b": OTHER.public}
GOOD = Claim("f", "run", 3, "a", "patient", "local", 1.5, 1e-5, math.inf, True, False)


def test_a_claim_is_read_as_it_was_signed() -> None:
    assert Claim.read(GOOD.signed(ME), "a", ROSTER) == GOOD
    assert GOOD.row() == {"epsilon": 1.5, "limit": None, "delta": 1e-5}


@pytest.mark.parametrize("name", ["b", "stranger"])
def test_another_hospitals_claim_is_refused(name: str) -> None:
    with pytest.raises(ReplyRefused, match="signed"):
        Claim.read(GOOD.signed(ME), name, ROSTER)
    with pytest.raises(ReplyRefused, match="another hospital"):
        Claim.read(GOOD.signed(OTHER), "b", ROSTER)


@given(place=st.integers(0, 10_000), change=st.integers(1, 255))
def test_a_changed_byte_is_noticed(place: int, change: int) -> None:
    data = bytearray(GOOD.signed(ME))
    data[place % len(data)] ^= change
    with pytest.raises(ReplyRefused):
        Claim.read(bytes(data), "a", ROSTER)


@given(st.binary(max_size=3000))
def test_garbage_is_refused_in_a_sentence(data: bytes) -> None:
    with pytest.raises(ReplyRefused):
        Claim.read(data, "a", ROSTER)


@pytest.mark.parametrize(
    "change",
    [
        {"epsilon": -1.0},
        {"epsilon": math.nan},
        {"epsilon": "1"},
        {"delta": 0},
        {"limit": 0},
        {"round": "1"},
        {"more": 1},
        {"unit": "x" * 300},
        {"extra": 1},
    ],
)
def test_a_well_signed_claim_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    body = json.dumps(vars(GOOD) | change).encode()
    with pytest.raises(ReplyRefused):
        Claim.read(ME.sign(digest("privacy claim", body)) + body, "a", ROSTER)
    with pytest.raises(ReplyRefused, match="size"):
        Claim.read(None, "a", ROSTER)
