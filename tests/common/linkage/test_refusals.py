"""Parties that don't follow: what ends the run, in which words, and what they get of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest

from tests.common.linkage.ring import Ring
from tests.common.linkage.test_party import cut, keys
from wardround.common.errors import JointRefused
from wardround.common.joint.party import COORDINATOR
from wardround.common.linkage.plan import LENGTH_BYTES, ORDER_BYTES
from wardround.common.linkage.points import hidden, raised, scalar_of
from wardround.common.linkage.rows import Rows

Letters = dict[str, bytes]
OFF = (1).to_bytes(32, "big")  # 1 - 3 + b is no square: no point has this x
PRIME = (2**256 - 2**224 + 2**192 + 2**96 - 1).to_bytes(32, "big")


@dataclass
class Tampered(Ring):
    """With something done to the letters of one sender in one step."""

    at: tuple[int, str] = (0, "")
    done: Callable[[Letters], Letters] = lambda letters: letters

    def change(self, number: int, sender: str, letters: Letters) -> Letters:
        return self.done(letters) if (number, sender) == self.at else letters


ROWS = {name: keys(*range(12)) for name in ("lab", "registry", "trust")}
TWO = {name: ROWS[name] for name in ("lab", "registry")}
OPTIONS = {"smallest": 3, "padded": 4, "most_rows": 16}


def each(change: Callable[[bytes], bytes]) -> Callable[[Letters], Letters]:
    return lambda letters: {to: change(text) for to, text in letters.items()}


def only_tokens(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[bytes], bytes]:
    """Of a list of twelve, without a length before it."""
    return lambda text: b"".join(change(cut(text, len(text) // 12)))


def only_places(change: Callable[[list[int]], list[int]]) -> Callable[[bytes], bytes]:
    def changed(text: bytes) -> bytes:
        count, *numbers = (
            int.from_bytes(text[at : at + 4], "big") for at in range(0, len(text), 4)
        )
        found = change(numbers[:count])
        whole = b"".join(one.to_bytes(4, "big") for one in [len(found), *found])
        return whole.ljust(len(text), b"\0")

    return changed


POINTS = {
    "off the curve": only_tokens(lambda some: sorted([OFF, *some[1:]])),
    "not below p": only_tokens(lambda some: [*some[:-1], PRIME]),
}
LISTS = {
    "twice": (only_tokens(lambda some: [some[0], some[0], *some[2:]]), "not sorted, or has a tok"),
    "another order": (only_tokens(lambda some: some[::-1]), "not sorted, or has a token twice"),
    "one fewer": (only_tokens(lambda some: some[1:]), "lost tokens on its way, or gained some"),
    "one more": (only_tokens(lambda some: [bytes(32), *some]), "lost tokens on its way, or gained"),
    "half a token": (lambda text: text[:-5], "lost tokens on its way, or gained some"),
    "nothing": (lambda text: b"", "lost tokens on its way, or gained some"),
}


@pytest.mark.parametrize("name", POINTS)
def test_what_is_no_point_ends_the_run(name: str) -> None:
    ring = Tampered(ROWS, OPTIONS, at=(1, "lab"), done=each(POINTS[name]))
    with pytest.raises(JointRefused, match="a list has something that is no point of the curve"):
        ring.linked()


@pytest.mark.parametrize("step", [1, 3], ids=["to a party", "to the coordinator"])
@pytest.mark.parametrize("name", LISTS)
def test_lists_that_are_none_end_the_run(name: str, step: int) -> None:
    change, words = LISTS[name]
    with pytest.raises(JointRefused, match=words):
        Tampered(ROWS, OPTIONS, at=(step, "lab"), done=each(change)).linked()


@pytest.mark.parametrize(
    "length", [0, 3, 20, 2**32 - 1], ids=["none", "no multiple", "more than the plan has", "huge"]
)
@pytest.mark.parametrize("to", ["registry", "trust", COORDINATOR])
def test_lengths_that_the_plan_doesnt_have_end_the_run(length: int, to: str) -> None:
    def lie(letters: Letters) -> Letters:
        return {**letters, to: length.to_bytes(4, "big") + letters[to][4:]}

    with pytest.raises(JointRefused, match="not as long as the plan lets lists be"):
        Tampered(ROWS, OPTIONS, at=(0, "lab"), done=lie).linked()


@pytest.mark.parametrize("to", ["registry", "trust", COORDINATOR])
def test_a_length_that_isnt_the_lists_ends_the_run(to: str) -> None:
    def lie(letters: Letters) -> Letters:
        return {**letters, to: (16).to_bytes(4, "big") + letters[to][4:]}

    with pytest.raises(JointRefused, match="lost tokens on its way, or gained some"):
        Tampered(ROWS, OPTIONS, at=(0, "lab"), done=lie).linked()


@pytest.mark.parametrize(
    ("step", "more"), [*((step, True) for step in range(8)), *((step, False) for step in range(4))]
)
def test_letters_out_of_turn_end_the_run(step: int, more: bool) -> None:
    def silent(letters: Letters) -> Letters:
        return {"registry": b"x", "trust": b"x", COORDINATOR: b"x"} if more else {}

    with pytest.raises(JointRefused):
        Tampered(ROWS, OPTIONS, at=(step, "lab"), done=silent).linked()


PLACES: dict[str, tuple[Callable[[list[int]], list[int]], str]] = {
    "twice": (lambda some: [some[0], some[0], *some[2:]], "places that came are none of a list"),
    "too large": (lambda some: [12, *some[1:]], "places that came are none of a list"),
    "too few": (lambda some: some[:2], "places that came are none of a list"),
    "another number": (lambda some: some[:5], "unlike numbers of linked persons"),
}


@pytest.mark.parametrize("step", [5, 6, 7])
@pytest.mark.parametrize("name", PLACES)
def test_places_that_are_none_end_the_run(name: str, step: int) -> None:
    change, words = PLACES[name]
    ring = Tampered(ROWS, OPTIONS, at=(step, "lab"), done=each(only_places(change)))
    with pytest.raises(JointRefused, match=words):
        ring.linked()


def test_whoever_compares_cant_open_padding_or_say_a_number_too_low() -> None:
    """It names all places of each list: among them is padding, of which the owner knows."""
    rows = {"lab": keys(*range(10)), "registry": keys(*range(10))}

    def all_places(letters: Letters) -> Letters:
        return {to: text[:ORDER_BYTES] + b"\xff\xf0" for to, text in letters.items()}

    with pytest.raises(JointRefused, match="has linked what is no row of a party"):
        Tampered(rows, OPTIONS, at=(2, COORDINATOR), done=all_places).linked()

    def nothing(letters: Letters) -> Letters:
        return dict.fromkeys(letters, b"")

    with pytest.raises(JointRefused, match="places that came are none of a list"):
        Tampered(rows, OPTIONS, at=(2, COORDINATOR), done=nothing).linked()

    def two(letters: Letters) -> Letters:
        return {to: text[:ORDER_BYTES] + b"\xc0\x00" for to, text in letters.items()}

    with pytest.raises(JointRefused, match="places that came are none of a list"):
        Tampered(rows, OPTIONS, at=(2, COORDINATOR), done=two).linked()


def test_anothers_tokens_sent_back_or_passed_as_ones_own_meet_nothing() -> None:
    """Of two parties: 'registry' sends the list of 'lab' back to it, with its own secret on, as if
    it were its own of a second run, where all secrets are others."""
    first = Ring(TWO, OPTIONS)
    first.linked()
    taken = next(text for step, who, text in first.seen["registry"] if (step, who) == (0, "lab"))

    def replayed(letters: Letters) -> Letters:
        return {**letters, "lab": taken}

    with pytest.raises(JointRefused, match="fewer persons are linked"):
        second = Tampered(TWO, OPTIONS, at=(0, "registry"), done=replayed, session=b"2" * 32)
        second.linked()
    # in the same run: the list that came from the one before, sent on as another's that it isn't
    three = Ring(ROWS, OPTIONS)
    three.linked()
    own = next(text for step, who, text in three.seen["registry"] if (step, who) == (0, "lab"))

    def exchanged(letters: Letters) -> Letters:
        return {"trust": own[LENGTH_BYTES:]}  # without its own secret

    with pytest.raises(JointRefused, match="fewer persons are linked"):
        Tampered(ROWS, OPTIONS, at=(1, "registry"), done=exchanged).linked()


def test_what_a_party_and_who_compares_learn_together_in_spite_of_a_refusal() -> None:
    """The limit that ``party.py`` states. Two of ten are common, and ``smallest`` is three. By the
    rules they get the number, 2, as tokens are sorted by the other's secret; by a secret of its own
    for each row the party knows whose tokens they are."""
    rows = {"lab": keys(*range(8)), "registry": keys(6, 7, *range(100, 106))}
    ring = Ring(rows, OPTIONS)
    with pytest.raises(JointRefused, match="fewer persons are linked"):
        ring.linked()
    lists = {who: cut(text, 12) for step, who, text in ring.seen[COORDINATOR] if step == 1}
    assert len({*lists["lab"]} & {*lists["registry"]}) == 2

    digests = cut(Rows(rows["lab"], 16).digests(ring.session))
    scalars = [scalar_of(b"own", hashlib.sha256(digest).digest()) for digest in digests]

    def unlike(letters: Letters) -> Letters:
        tokens = sorted(hidden(*pair) for pair in zip(digests, scalars, strict=True))
        return {**letters, "registry": letters["registry"][:LENGTH_BYTES] + b"".join(tokens)}

    ring = Tampered(rows, OPTIONS, at=(0, "lab"), done=unlike)
    with pytest.raises(JointRefused, match="fewer persons are linked"):
        ring.linked()
    back = {*next(cut(text, 12) for _, who, text in ring.seen[COORDINATOR][::-1] if who != "lab")}
    theirs = next(text for step, _, text in ring.seen["lab"] if step == 0)[LENGTH_BYTES:]
    found = [
        row
        for row, scalar in enumerate(scalars)
        if back & {one[:12] for one in cut(raised(theirs, scalar))}
    ]
    assert found == [6, 7]


def test_helps_are_counted_before_the_work() -> None:
    """A party that is asked for another's identifiers is asked by name and padded number."""
    asked: list[tuple[bytes, int, Mapping[str, int]]] = []

    class Counting:
        def helps(self, session: bytes, step: int, of: Mapping[str, int]) -> None:
            asked.append((session, step, dict(of)))
            if step == 2:
                raise JointRefused("this hospital helps with no more")

    ring = Ring(ROWS, OPTIONS, links={"trust": Counting()})
    with pytest.raises(JointRefused, match="helps with no more"):
        ring.linked()
    assert asked == [(ring.session, 1, {"registry": 12}), (ring.session, 2, {"lab": 12})]
