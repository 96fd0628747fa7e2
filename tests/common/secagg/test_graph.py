"""Graphs of masks and thresholds: symmetric, the same for everyone, and as safe as they claim."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.graph import (
    COMPLETE,
    Thresholds,
    neighbours,
    ring_order,
    thresholds,
)

modest = settings(deadline=None, max_examples=60)


# --- who masks with whom --------------------------------------------------------------------------
@st.composite
def graphs(draw: st.DrawFn) -> tuple[tuple[str, ...], int, bytes]:
    """Distinct names, an even degree or n - 1, and a seed."""
    names = draw(st.lists(st.text(max_size=5), min_size=2, max_size=40, unique=True))
    degrees = [*range(2, len(names) - 1, 2), len(names) - 1]
    return tuple(names), draw(st.sampled_from(degrees)), draw(st.binary(max_size=8))


def reached(graph: dict[int, list[int]]) -> set[int]:
    """Everyone that can be reached from the first."""
    seen, waiting = {0}, [0]
    while waiting:
        new = set(graph[waiting.pop()]) - seen
        seen |= new
        waiting.extend(new)
    return seen


@modest
@given(graphs())
def test_neighbours_are_mutual_as_many_as_said_and_nobody_is_cut_off(case) -> None:
    names, degree, seed = case
    graph = neighbours(names, degree, seed)
    everyone = set(range(len(names)))
    assert set(graph) == everyone == reached(graph)
    for client, near in graph.items():
        assert len(near) == degree and client not in near
        assert near == sorted(set(near)) and set(near) <= everyone
        assert all(client in graph[other] for other in near)


@modest
@given(graphs())
def test_the_graph_is_that_of_places_on_the_ring(case) -> None:
    """Two are neighbours if and only if at most k / 2 steps lie between them."""
    names, degree, seed = case
    order = ring_order(names, seed)
    assert sorted(order) == list(range(len(names)))
    place = {client: i for i, client in enumerate(order)}
    graph = neighbours(names, degree, seed)
    for a, b in itertools.combinations(range(len(names)), 2):
        apart = abs(place[a] - place[b])
        near = min(apart, len(names) - apart) <= degree // 2 or degree == len(names) - 1
        assert (b in graph[a]) == near


@modest
@given(graphs(), st.randoms(use_true_random=False))
def test_the_graph_depends_on_names_not_on_their_order(case, random) -> None:
    names, degree, seed = case
    mixed = list(names)
    random.shuffle(mixed)
    graph, other = neighbours(names, degree, seed), neighbours(tuple(mixed), degree, seed)
    for i, name in enumerate(mixed):
        by_name = {mixed[j] for j in other[i]}
        assert by_name == {names[j] for j in graph[names.index(name)]}


def test_the_ring_is_ordered_by_a_hash_of_seed_and_name() -> None:
    names, seed = tuple(f"hospital {i}" for i in range(30)), b"group"

    def rank(i: int) -> bytes:
        parts = (seed, names[i].encode())
        return hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()

    assert list(ring_order(names, seed)) == sorted(range(30), key=rank)
    assert ring_order(names, seed) != ring_order(names, b"other group")
    assert ring_order(names, seed) != tuple(range(30))


def test_up_to_64_clients_everyone_is_everyones_neighbour() -> None:
    for n in (2, 3, 10, COMPLETE):
        names = tuple(map(str, range(n)))
        graph = neighbours(names, thresholds(n).degree, b"seed")
        assert graph == {i: [j for j in range(n) if j != i] for i in range(n)}
    assert COMPLETE == 64 and thresholds(COMPLETE + 1).degree < COMPLETE


# --- thresholds of a complete graph ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("n", "t"), [(2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (10, 7), (30, 21), (64, 43)]
)
def test_the_default_threshold_is_two_thirds_of_the_clients_and_one(n, t) -> None:
    """floor(2n / 3) + 1, as in docs: 10 hospitals need 7."""
    assert thresholds(n) == Thresholds(n, n - 1, t, t)


@pytest.mark.parametrize("n", range(2, COMPLETE + 1))
def test_the_default_threshold_is_safe_and_the_smallest_above_two_thirds(n) -> None:
    found = thresholds(n)
    t = found.threshold
    assert Fraction(t, n) > Fraction(2, 3) >= Fraction(t - 1, n) and found.survivors == t
    for colluding in range(2 * t - n):
        found.check(colluding, 1)
    with pytest.raises(ProtocolRefused, match="different survivor sets"):
        found.check(2 * t - n, 1)


@pytest.mark.parametrize("n", range(1, 9))
def test_a_threshold_is_accepted_if_and_only_if_no_two_survivor_sets_can_be_opened(n) -> None:
    """For all n up to 8, all t and c. With c who answer twice and n - c who answer once there are
    n + c answers, and a split view needs 2t of them: safe if and only if 2t > n + c."""
    outcomes = Counter()
    for t, c in itertools.product(range(-1, n + 3), range(n + 1)):
        safe = (
            n >= 2
            and t <= n
            and not any(
                # Honest answers a to one view and b to the other, colluders to both.
                a + c >= t and b + c >= t
                for a in range(n - c + 1)
                for b in range(n - c - a + 1)
            )
        )
        outcomes[safe] += 1
        if safe:
            Thresholds(n, n - 1, t, max(t, 1)).check(c, 1)
        else:
            with pytest.raises(ProtocolRefused):
                Thresholds(n, n - 1, t, max(t, 1)).check(c, 1)
        assert safe == (n >= 2 and t <= n and 2 * t > n + c)
    assert outcomes[False] and (outcomes[True] or n == 1)


@pytest.mark.parametrize("n", range(2, 9))
def test_a_sum_of_fewer_than_the_threshold_or_more_than_all_is_not_allowed(n) -> None:
    for survivors in range(n + 2):
        parameters = Thresholds(n, n - 1, n, survivors)
        if survivors == n:
            parameters.check(0, 1)
        else:
            with pytest.raises(ProtocolRefused, match=f"a sum of {survivors} of {n} hospitals"):
                parameters.check(0, 1)


@pytest.mark.parametrize(("n", "t", "survivors"), [(8, 5, 5), (8, 5, 8), (8, 6, 7)])
def test_survivors_may_be_anything_from_the_threshold_to_all(n, t, survivors) -> None:
    Thresholds(n, n - 1, t, survivors).check(0, 1)
    with pytest.raises(ProtocolRefused, match=f"a sum of {t - 1} of {n}"):
        Thresholds(n, n - 1, t, t - 1).check(0, 1)


def test_the_refusal_of_a_threshold_says_what_could_happen() -> None:
    with pytest.raises(ProtocolRefused) as refusal:
        Thresholds(10, 9, 7, 7).check(4, 3)
    assert str(refusal.value) == (
        "threshold 7 of 10 is not above (10 + 4) / 2: a server that shows hospitals different "
        "survivor sets could open one hospital's update"
    )


@pytest.mark.parametrize(
    ("n", "degree"), [(0, 0), (1, 0), (2, 0), (2, 2), (10, 8), (10, 10), (64, 62), (-3, -4)]
)
def test_what_is_no_graph_is_refused(n, degree) -> None:
    with pytest.raises(ProtocolRefused, match="is no graph"):
        Thresholds(n, degree, n, n).check(0, 1)


# --- the k-regular graph --------------------------------------------------------------------------
def test_degrees_grow_like_the_logarithm() -> None:
    """The point of the k-regular graph: ten times the clients cost a few more neighbours."""
    degrees = [thresholds(n).degree for n in (100, 1000, 5000)]
    assert degrees == sorted(degrees) and degrees[-1] < 80


@pytest.mark.parametrize("n", [65, 100, 1000])
def test_weaker_parameters_of_many_clients_are_refused(n) -> None:
    found = thresholds(n)
    found.check(0, 3)
    wider = {"degree": found.degree + 2, "threshold": found.threshold + 1}
    replace(found, **wider, window=found.window + 1).check(0, 3)
    low, high = (found.degree + 1) // 2, found.degree + 2
    for change, why in (
        ({"window": found.window - 1}, "open a part of the sum"),
        ({"threshold": found.threshold - 1}, "open a part of the sum"),
        ({"degree": 4, "threshold": 4, "window": 1}, "are too few"),
        ({"threshold": low}, "is not above"),
        ({"threshold": high}, "is not above"),
        ({"survivors": n // 2}, f"a sum of {n // 2} of {n}"),
        ({"survivors": n + 1}, f"a sum of {n + 1} of {n}"),
        ({"window": found.degree // 2 + 1}, "is no graph"),
        ({"degree": found.degree + 1}, "is no graph"),  # each has as many before it as behind it
    ):
        with pytest.raises(ProtocolRefused, match=why):
            replace(found, **change).check(0, 3)


@pytest.mark.parametrize("n", [65, 70, 200, 1000])
def test_above_64_hospitals_those_that_collude_are_counted(n) -> None:
    """The graph for c that collude withstands c, and not c + 5; that for 5 is larger."""
    degrees = []
    for colluding in (0, 5):
        found = thresholds(n, colluding=colluding)
        found.check(colluding, 1)
        with pytest.raises(ProtocolRefused):
            found.check(colluding + 5, 3)
        degrees.append(found.degree)
    assert degrees[0] < degrees[1]


def test_where_no_ring_withstands_who_may_collude_there_is_a_sentence_with_keys() -> None:
    """More than two thirds of a complete graph, which end at a third."""
    thresholds(70, colluding=33).check(33, 3)
    reason = "70 hospitals withstands 34 that collude: draw at most 64 with federation.clients_per"
    with pytest.raises(ProtocolRefused, match=f"{reason}.* secure_aggregation.colluding"):
        thresholds(70, colluding=34)


def test_a_complete_graph_of_many_clients_is_allowed() -> None:
    Thresholds(100, 99, 67, 67).check(33, 2)
    with pytest.raises(ProtocolRefused, match="different survivor sets"):
        Thresholds(100, 99, 67, 67).check(34, 2)


def test_so_many_survive_that_no_lie_leaves_fewer_than_a_hospital_insists_on() -> None:
    """By hand: 20 hospitals, t = 14, sums of 15: 20 * 5 / 14 = 7 may be called gone and 13 are
    left; of 16 it is 5. Five hospitals with t = 3: test_safety."""
    assert thresholds(20, min_cohort=15).survivors == 16
    with pytest.raises(ProtocolRefused, match="could open a sum of 13, not 15"):
        Thresholds(20, 19, 14, 15).check(0, 15)
    assert [thresholds(5, 0.5, min_cohort=m).survivors for m in (2, 3, 5)] == [3, 4, 5]
    with pytest.raises(ProtocolRefused, match="could open a sum of 2, not 3"):
        Thresholds(5, 4, 3, 3).check(0, 3)
