"""Linkage of small lists against plain set intersection, and what each party gets to see."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.common.linkage.ring import Ring
from wardround.common.errors import JointRefused
from wardround.common.joint.party import COORDINATOR
from wardround.common.linkage.plan import LENGTH_BYTES
from wardround.common.linkage.points import TOKEN_BYTES, hidden, raised, scalar_of
from wardround.common.linkage.rows import Rows
from wardround.common.linkage.tokens import TAG_BYTES

NAMES = ("clinic", "lab", "practice", "registry", "trust")


def keys(*numbers: int) -> list[bytes]:
    return [b"person %d" % number for number in numbers]


def check(ring: Ring) -> None:
    """The same persons at all, in one order, and those of plain sets; or too few of them."""
    sets = [{key for key in ring.rows[name] if key is not None} for name in ring.names]
    persons = set.intersection(*sets)
    if len(persons) < ring.options["smallest"]:
        with pytest.raises(JointRefused, match="fewer persons are linked than procedure.smallest"):
            ring.linked()
        return
    found = ring.linked()
    linked = [[ring.rows[name][row] for row in found[name]] for name in ring.names]
    assert all(one == linked[0] for one in linked)
    assert len(linked[0]) == len(persons) and set(linked[0]) == persons


@st.composite
def rings(draw: st.DrawFn) -> Ring:
    """2 to 5 unlike parties of some of eight persons, in any order, some rows without key."""
    names = NAMES[: draw(st.integers(2, 5))]
    everybody: list[bytes | None] = [*keys(*range(8)), None, None]
    usual = st.lists(st.sampled_from(range(10)), unique=True, max_size=10)
    most = st.lists(st.sampled_from(range(10)), unique=True, min_size=9, max_size=10)
    rows = {name: [everybody[one] for one in draw(st.one_of(usual, most))] for name in names}
    options = {
        "smallest": 3,
        "padded": draw(st.sampled_from([1, 3, 20])),
        "most_rows": 10,
        "compare": draw(st.sampled_from([COORDINATOR, *names])),
    }
    restarts = draw(st.frozensets(st.integers(1, 2 * len(names) + 2)))
    return Ring(rows, options, restarts)


@settings(max_examples=40, deadline=None)
@given(rings())
def test_any_parties_have_what_plain_sets_have(ring: Ring) -> None:
    """Whoever compares, however padded, and whenever all parties are killed and go on."""
    check(ring)


@pytest.mark.parametrize("compare", [COORDINATOR, "lab"])
@pytest.mark.parametrize(
    ("lab", "registry"),
    [
        (keys(*range(33)), keys(*range(60, 20, -1))),
        (keys(4), keys(*range(33))),
        ([], keys(*range(5))),
        (keys(*range(33)), keys(*range(33))),
        (keys(*range(33)), keys(*range(40, 73))),
    ],
    ids=["some", "one row", "no row", "all", "none in common"],
)
def test_unlike_parties(lab: list[bytes], registry: list[bytes], compare: str) -> None:
    options = {"smallest": 3, "padded": 10, "compare": compare}
    check(Ring({"lab": lab, "registry": registry}, options))


def test_what_is_told_is_rounded_and_the_order_is_of_the_run() -> None:
    rows = {"lab": keys(*range(12)), "registry": keys(*range(1, 30)), "trust": keys(*range(12))}
    told, orders, linked = [], [], []
    for session in (b"1" * 32, b"2" * 32):
        ring = Ring(rows, {"smallest": 4, "padded": 10}, session=session)
        last = ring.run()
        texts = {turn.told["linkage.json"] for name, turn in last.items() if name in rows}
        assert len(texts) == 1
        told.append(json.loads(texts.pop()))
        orders.append([turn.kept["order"].tobytes() for name, turn in last.items() if turn.kept])
        linked.append(last["lab"].kept["rows"].tolist())
        assert len({*orders[-1]}) == 1 and orders[-1][0].hex() == told[-1]["order"]
    assert told[0]["linked_at_least"] == 8  # of 11
    assert told[0]["padded_rows"] == {"lab": 20, "registry": 30, "trust": 20}
    assert orders[0] != orders[1] and linked[0] != linked[1]
    assert sorted(linked[0]) == sorted(linked[1]) == list(range(1, 12))


def test_letters_are_as_long_whatever_the_rows_are() -> None:
    """Of the same padded lengths, one person more or fewer shows in no length."""
    lengths = []
    for lab in (keys(*range(11)), keys(*range(3), *range(50, 57))):
        rows = {"lab": lab, "registry": keys(*range(15)), "trust": keys(*range(9))}
        ring = Ring(rows, {"smallest": 3, "padded": 20})
        ring.run()
        lengths.append(
            {name: [(*one[:2], len(one[2])) for one in seen] for name, seen in ring.seen.items()}
        )
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("compare", [COORDINATOR, "lab"])
def test_nobody_can_compare_but_who_does(count: int, compare: str) -> None:
    """Of each list that anybody gets: under whose secrets it is, worked out with all secrets. Then
    of any parties together, all but one among them, but for who compares: what they could make of
    their lists by secrets that they have is of no two lists the same, but for lists of their own,
    and never that of identifiers in plain."""
    rows = {name: keys(*range(3), 10 + number) for number, name in enumerate(NAMES[:count])}
    ring = Ring(rows, {"smallest": 3, "padded": 4, "compare": compare})
    ring.run()
    under = lists_by_tokens(ring)
    seen = {name: [*lists_of(ring, name, under)] for name in ring.here}
    for name in ring.here:
        whole = [owner for owner, secrets in seen[name] if secrets == "all"]
        sent = {ring.procedure.plan.last_sent(name)} if name in ring.names else set()
        assert set(whole) == (set(ring.names) - sent if name == compare else set())
    others = [name for name in ring.names if name != compare]
    for size in range(1, count):
        for together in combinations(others, size):
            own = {f"{letter} {name}" for name in together for letter in "rs"}
            left: dict[frozenset[str], set[str]] = {}
            for owner, secrets in {one for name in together for one in seen[name]}:
                assert not isinstance(secrets, str)
                left.setdefault(frozenset(secrets - own), set()).add(owner)
            for secrets, owners in left.items():
                honest = owners - {*together}
                assert not honest or (secrets and len(owners) == 1)


Secrets = frozenset[str] | str


def lists_by_tokens(ring: Ring) -> dict[frozenset[bytes], tuple[str, Secrets]]:
    """Owner and secrets of each list that there may be, by its tokens, or by their tags."""
    scalars = {f"s {name}": scalar_of(ring.secret(name), ring.session) for name in ring.names}
    for name in ring.names:
        other = scalar_of(ring.secret(name), ring.session, "own")
        scalars[f"r {name}"] = other if len(ring.names) > 2 else scalars[f"s {name}"]
    found: dict[frozenset[bytes], tuple[str, Secrets]] = {}
    for owner in ring.names:
        digests = Rows(ring.rows[owner], 4).digests(ring.session)
        rest = [f"s {name}" for name in ring.names if name != owner]
        for size in range(len(rest) + 1):
            for some in combinations(rest, size):
                tokens = hidden(digests, scalars[f"r {owner}"])
                for one in some:
                    tokens = raised(tokens, scalars[one])
                own = "r" if len(ring.names) > 2 else "s"
                found[frozenset(cut(tokens))] = owner, frozenset([f"{own} {owner}", *some])
        tokens = hidden(digests, scalars[f"s {owner}"])
        for one in rest:
            tokens = raised(tokens, scalars[one])
        found[frozenset(one[:TAG_BYTES] for one in cut(tokens))] = owner, "all"
    return found


def lists_of(
    ring: Ring, name: str, under: dict[frozenset[bytes], tuple[str, Secrets]]
) -> Iterator[tuple[str, Secrets]]:
    """Those that somebody was sent."""
    for step, _, text in ring.seen[name]:
        if step <= ring.procedure.plan.hops and len(text) > LENGTH_BYTES:
            size = TAG_BYTES if step == ring.procedure.plan.hops else TOKEN_BYTES
            yield under[frozenset(cut(text[0 if step else LENGTH_BYTES :], size))]


def cut(text: bytes, size: int = TOKEN_BYTES) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def test_rows_that_changed_and_rows_that_are_twice_are_refused() -> None:
    options = {"smallest": 3, "padded": 4, "most_rows": 5}
    rows = {"lab": keys(1, 2, 3), "registry": keys(1, 2, 3)}
    ring = Ring(rows, options)
    party = ring.party("lab", None)
    party.step(0, {})
    for changed in (keys(1, 2, 4), keys(2, 1, 3), [*keys(1, 2, 3), None]):
        other = Ring({**rows, "lab": changed}, options)
        with pytest.raises(JointRefused, match="others than when the linkage began"):
            other.party("lab", party.state())
    with pytest.raises(JointRefused, match="two rows with the same identifiers"):
        Ring({**rows, "lab": keys(1, 1, 3)}, options).linked()
    with pytest.raises(JointRefused, match="more rows than procedure.most_rows"):
        Ring({**rows, "lab": keys(*range(6))}, options).linked()
