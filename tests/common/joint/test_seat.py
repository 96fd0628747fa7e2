"""A seat takes each step once, goes on where it was killed, and reads what is sealed for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.joint.talk import TURNS, Counts, Table
from wardround.common.errors import JointRefused, RequestRefused
from wardround.common.joint.party import COORDINATOR, Turn
from wardround.common.joint.sealing import Session, signed_key
from wardround.common.protocol.letters import LettersRequest
from wardround.common.trust.identity import Identity

STEPS = TURNS + 2


def test_letters_come_to_whom_they_are_for() -> None:
    table = Table()
    *_, last = table.play(STEPS)
    # who sends x + all it has got: a's first is 'a'[0] = 97, b's 98, the coordinator's 99
    sums = np.array([97, 98, 99])
    for _ in range(TURNS):
        sums = sums + (sums.sum() - sums)
    assert [int(table.kept[name].kept["sum"][0]) for name in table.names] == sums.tolist()
    assert all(turn.over and turn.told == {"sum.json": "{}"} for turn in last.values())


@given(st.integers(0, STEPS - 1), st.sampled_from(["a", "b", COORDINATOR]))
@settings(max_examples=15, deadline=None)
def test_a_party_that_is_killed_at_any_step_sends_the_same_bytes(step: int, name: str) -> None:
    plain, killed = Table(), Table()
    killed.identities, plain_turns = plain.identities, plain.play(STEPS)
    killed.seats = {name: killed.seat(name) for name in killed.names}
    assert killed.play(STEPS, {step: name}) == plain_turns


def test_a_step_is_taken_once() -> None:
    table = Table()
    turns = table.play(3)
    asked = table.requests(2, turns[1])["a"]
    assert table.seats["a"].take(asked) == turns[2]["a"]  # the same bytes
    assert table.seat("a").take(asked) == turns[2]["a"]  # of a process that was killed, too
    other = replace(asked, letters={"b": asked.letters["b"]})
    with pytest.raises(RequestRefused, match="taken already, with other letters"):
        table.seats["a"].take(other)
    for step in (0, 1, 4):
        with pytest.raises(RequestRefused, match="not this party's next one"):
            table.seats["a"].take(replace(asked, step=step))


def test_after_the_end_nothing_is_taken() -> None:
    table = Table()
    turns = table.play(STEPS)
    with pytest.raises(RequestRefused, match="not this party's next one"):
        table.seats["a"].take(LettersRequest(STEPS, {}, dict(turns[-1]["b"].letters)))
    assert not [one for one in table.records["a"] if one.startswith("joint:")]


def test_another_run_begins_with_other_keys() -> None:
    table = Table()
    table.play(3)
    table.setting = replace(table.setting, run="another")
    with pytest.raises(RequestRefused, match="not this party's next one"):
        table.seat("a").take(LettersRequest(3))


def test_a_key_that_its_party_hasnt_signed_is_refused() -> None:
    table = Table()
    (first,) = table.play(1)
    asked = table.requests(1, first)["a"]
    forged = signed_key(table.setting, "b", b"s" * 32, Identity.generate())
    replaced = signed_key(table.setting, "a", b"s" * 32, table.identities["a"])
    for keys, why in (
        ({**asked.keys, "b": forged}, "the key of 'b' is not signed by it"),
        ({**asked.keys, "b": asked.keys["a"]}, "the key of 'b' is not signed by it"),
        ({**asked.keys, "b": b"\0" * 96}, "the key of 'b' is not signed by it"),
        ({**asked.keys, "a": replaced}, "own key was replaced"),
        ({**asked.keys, "c": asked.keys["b"]}, "not those of the plan's parties"),
        ({"a": asked.keys["a"]}, "not those of the plan's parties"),
    ):
        with pytest.raises(JointRefused, match=why):
            table.seats["a"].take(replace(asked, keys=keys))


@pytest.mark.parametrize("what", ["flipped", "swapped", "older", "stranger", "none", "long"])
def test_a_letter_that_was_altered_moved_or_kept_back_ends_it(what: str) -> None:
    table = Table()
    turns = table.play(3)
    asked = table.requests(3, turns[2])["a"]
    own = dict(asked.letters)
    altered = {
        "flipped": own | {"b": own["b"][:-1] + bytes([own["b"][-1] ^ 1])},
        "swapped": own | {"b": own[COORDINATOR], COORDINATOR: own["b"]},
        "older": own | {"b": turns[1]["b"].letters["a"]},
        "stranger": own | {"c": own["b"]},
        "none": {"b": own["b"]},
        "long": own | {"b": own["b"] + bytes(1000)},
    }[what]
    with pytest.raises(JointRefused) as first:
        table.seats["a"].take(replace(asked, letters=altered))
    if what != "none":
        table.seats["a"].take(asked)  # it hasn't taken the step
        return
    for seat in (table.seats["a"], table.seat("a")):  # the party has looked at it, and said no
        with pytest.raises(JointRefused) as again:
            seat.take(asked)
        assert str(again.value) == str(first.value) == "a letter is lacking"


def test_a_party_that_failed_on_its_way_goes_on_from_the_step_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, plain = Table(), Table()
    plain.identities = table.identities
    plain.seats = {name: plain.seat(name) for name in plain.names}
    whole = plain.play(4)
    table.seats = {name: table.seat(name) for name in table.names}
    asked = table.requests(3, table.play(3)[-1])["a"]

    def fails(party: Counts, number: int, letters: object) -> Turn:
        party.total = party.total + 1
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Counts, "step", fails)
        with pytest.raises(MemoryError):
            table.seats["a"].take(asked)
    assert table.seats["a"].take(asked) == whole[3]["a"]


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (Turn({"b": bytes(9)}), "longer than the plan has it"),
        (Turn({"c": bytes(8)}), "writes to somebody who is none"),
        (Turn({"b": bytes(8)}, over=True), "is over writes letters"),
        (Turn(over=True, told={"sum.json": "{ }"}), "tells is not what the plan has"),
        (Turn(over=True, told={"sum.json": "\n"}), "tells is not what the plan has"),
        (Turn(over=True, told={"rows.json": ""}), "tells is not what the plan has"),
    ],
)
def test_what_the_plan_doesnt_have_leaves_no_party(
    monkeypatch: pytest.MonkeyPatch, turn: Turn, why: str
) -> None:
    table = Table()
    turns = table.play(2)
    asked = table.requests(2, turns[1])["a"]
    monkeypatch.setattr(Counts, "step", lambda self, number, letters: turn)
    with pytest.raises(JointRefused, match=why):
        table.seats["a"].take(asked)
    assert table.records["a"]["joint"]["step"] == 1 and not table.kept


def test_a_letter_that_its_party_sealed_too_long_is_refused() -> None:
    """The server holds lengths, too; a party that works together with it gets no further."""
    table = Table()
    turns = table.play(3)
    asked = table.requests(3, turns[2])["a"]
    keys = table.requests(1, turns[0])["a"].keys
    b = Session.of(table.setting, "b", b"bkey".ljust(32, b"."), keys, table.roster)
    long = b.sealed(2, {"a": bytes(table.procedure.letter_bytes + 1)})
    with pytest.raises(JointRefused, match="longer than the plan has it"):
        table.seats["a"].take(replace(asked, letters={**asked.letters, "b": long["a"]}))
