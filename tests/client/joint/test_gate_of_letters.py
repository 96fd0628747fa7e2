"""The gate of a joint study: letters to its parties, of bounded length, and texts that it names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord

from tests.common.joint.talk import Counting
from wardround.client.site.gate import Gate
from wardround.common.errors import PolicyRefused
from wardround.common.manifest.leaves import joint_leaves
from wardround.common.protocol import names as m
from wardround.common.protocol.letters import LettersReply
from wardround.common.settings import PrivacyTable

LONGEST = Counting.letter_bytes + 16  # AES-GCM's tag


@pytest.fixture
def gate() -> Gate:
    manifest: Any = SimpleNamespace(leaves=joint_leaves(Counting(), PrivacyTable()), stage=1)
    return Gate(manifest)


def test_a_turn_of_the_plan_leaves(gate: Gate) -> None:
    for turn in (
        LettersReply(key=bytes(96)),
        LettersReply(letters={"b": bytes(LONGEST), "coordinator": b"x"}),
        LettersReply(over=True, told={"sum.json": "{}"}),
    ):
        assert gate.check(m.LETTERS, turn.to_records())


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (LettersReply(letters={"b": bytes(LONGEST + 1)}), "has 24 at most"),
        (LettersReply(letters={"c": b"x"}), "isn't in the accepted manifest"),
        (LettersReply(key=bytes(97)), "has 97 bytes, the manifest has 96"),
        (LettersReply(over=True, told={"rows.json": "{}"}), "isn't in the accepted manifest"),
        (LettersReply(over=True, told={"sum.json": "{ }"}), "longer than 1 lines of 2"),
        (LettersReply(over=True, told={"sum.json": "\n"}), "don't belong in a line"),
    ],
)
def test_anything_else_stays(turn: LettersReply, why: str, gate: Gate) -> None:
    with pytest.raises(PolicyRefused, match=why):
        gate.check(m.LETTERS, turn.to_records())


def test_no_other_record_rides_along(gate: Gate) -> None:
    content = LettersReply().to_records()
    content["rows"] = ConfigRecord({"a": b"x"})
    with pytest.raises(PolicyRefused, match="isn't in the accepted manifest"):
        gate.check(m.LETTERS, content)
