"""Graphs of masks and thresholds: symmetric, the same for everyone, and as safe as they claim."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.errors import ProtocolRefused, StrategyError
from wardround.common.secagg.graph import (
    COMPLETE,
    CORRUPT_SHARE,
    DROPPED_SHARE,
    Thresholds,
    k_regular,
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
    names, seed = [f"hospital {i}" for i in range(30)], b"group"

    def rank(i: int) -> bytes:
        parts = (seed, names[i].encode())
        return hashlib.sha256(b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()

    assert ring_order(names, seed) == sorted(range(30), key=rank)
    assert ring_order(names, seed) != ring_order(names, b"other group")
    assert ring_order(names, seed) != list(range(30))


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
        found.check(colluding)
    with pytest.raises(ProtocolRefused, match="different survivor sets"):
        found.check(2 * t - n)


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
            Thresholds(n, n - 1, t, max(t, 1)).check(c)
        else:
            with pytest.raises(ProtocolRefused):
                Thresholds(n, n - 1, t, max(t, 1)).check(c)
        assert safe == (n >= 2 and t <= n and 2 * t > n + c)
    assert outcomes[False] and (outcomes[True] or n == 1)


@pytest.mark.parametrize("n", range(2, 9))
def test_a_sum_of_fewer_than_the_threshold_or_more_than_all_is_not_allowed(n) -> None:
    for survivors in range(n + 2):
        parameters = Thresholds(n, n - 1, n, survivors)
        if survivors == n:
            parameters.check(0)
        else:
            with pytest.raises(ProtocolRefused, match=f"a sum of {survivors} of {n} hospitals"):
                parameters.check(0)


@pytest.mark.parametrize(("n", "t", "survivors"), [(8, 5, 5), (8, 5, 8), (8, 6, 7)])
def test_survivors_may_be_anything_from_the_threshold_to_all(n, t, survivors) -> None:
    Thresholds(n, n - 1, t, survivors).check(0)
    with pytest.raises(ProtocolRefused, match=f"a sum of {t - 1} of {n}"):
        Thresholds(n, n - 1, t, t - 1).check(0)


def test_the_refusal_of_a_threshold_says_what_could_happen() -> None:
    with pytest.raises(ProtocolRefused) as refusal:
        Thresholds(10, 9, 7, 7).check(4)
    assert str(refusal.value) == (
        "threshold 7 of 10 is not above (10 + 4) / 2: a server that shows hospitals different "
        "survivor sets could open one hospital's update"
    )


@pytest.mark.parametrize(
    ("n", "degree"), [(0, 0), (1, 0), (2, 0), (2, 2), (10, 8), (10, 10), (64, 62), (-3, -4)]
)
def test_what_is_no_graph_is_refused(n, degree) -> None:
    with pytest.raises(ProtocolRefused, match="is no graph"):
        Thresholds(n, degree, n, n).check(0)


# --- the k-regular graph --------------------------------------------------------------------------
def tail(least: int, population: int, marked: int, drawn: int) -> Fraction:
    """P[at least so many marked among the drawn], exactly: a hypergeometric tail."""
    ways = sum(
        comb(marked, hits) * comb(population - marked, drawn - hits)
        for hits in range(max(0, least), min(marked, drawn) + 1)
    )
    return Fraction(ways, comb(population, drawn))


def safe(n: int, degree: int, t: int) -> bool:
    """The three bounds of the module's docstring, each by a union over n clients."""
    corrupt, dropped = n * 5 // 100, n // 10
    opened = n * tail(t, n - 1, corrupt, degree)
    alone = n * tail(degree, n - 1, corrupt + dropped, degree)
    stuck = n * (1 - tail(t, n - 1, n - 1 - dropped, degree))
    return opened < Fraction(1, 2**40) and alone < Fraction(1, 2**40) and stuck < Fraction(1, 2**20)


def test_the_tail_is_a_probability_done_by_hand() -> None:
    """2 of 5 marked, 2 drawn: both 1/10, at least one 7/10."""
    assert tail(2, 5, 2, 2) == Fraction(1, 10) and tail(1, 5, 2, 2) == Fraction(7, 10)
    assert tail(0, 5, 2, 2) == 1 and tail(3, 5, 2, 2) == 0


@pytest.mark.parametrize("n", [65, 100, 257, 1000])
def test_the_k_regular_graph_keeps_its_bounds_and_nothing_smaller_does(n) -> None:
    degree, t = k_regular(n)
    holders = degree + 1
    assert degree % 2 == 0 and 2 * t > holders and t <= degree
    assert safe(n, degree, t)
    # The smallest t of this degree, and no t above half of the holders for any smaller one.
    assert not any(safe(n, degree, less) for less in range(holders // 2 + 1, t))
    for smaller in range(4, degree, 2):
        assert not any(safe(n, smaller, x) for x in range((smaller + 1) // 2 + 1, smaller + 1))


def test_the_shares_that_a_graph_is_sized_for_are_those_of_the_test() -> None:
    assert (CORRUPT_SHARE, DROPPED_SHARE) == (0.05, 0.1)
    assert all(int(0.05 * n) == n * 5 // 100 and int(0.1 * n) == n // 10 for n in range(65, 5000))


def test_degrees_grow_like_the_logarithm() -> None:
    """The point of the k-regular graph: ten times the clients cost a few more neighbours."""
    degrees = [k_regular(n)[0] for n in (100, 1000, 5000)]
    assert degrees == sorted(degrees) and degrees[-1] < 50


@pytest.mark.parametrize("n", [65, 100, 1000])
def test_the_default_parameters_of_many_clients_pass_their_own_check(n) -> None:
    found = thresholds(n)
    assert found == Thresholds(n, *k_regular(n), n // 2 + 1)
    found.check(0)


@pytest.mark.parametrize("n", [100, 1000])
def test_weaker_parameters_of_many_clients_are_refused(n) -> None:
    degree, t = k_regular(n)
    most = n // 2 + 1
    with pytest.raises(ProtocolRefused, match=f"it takes {degree} and {t}"):
        Thresholds(n, degree - 2, t, most).check(0)
    if 2 * (t - 1) > degree + 1:
        with pytest.raises(ProtocolRefused, match=f"it takes {degree} and {t}"):
            Thresholds(n, degree, t - 1, most).check(0)
    with pytest.raises(ProtocolRefused, match="is not above"):
        Thresholds(n, degree, (degree + 1) // 2, most).check(0)
    with pytest.raises(ProtocolRefused, match="is not above"):
        Thresholds(n, degree, degree + 2, most).check(0)
    for survivors in (n // 2, n + 1):
        with pytest.raises(ProtocolRefused, match=f"a sum of {survivors} of {n}"):
            Thresholds(n, degree, t, survivors).check(0)


@pytest.mark.parametrize("clients", [65, 70, 200, 1000])
def test_above_64_hospitals_those_that_collude_are_counted(clients) -> None:
    """The default graph has a majority of holders by one: one that colludes is one too many."""
    thresholds(clients).check(0)
    for colluding in (1, 20):
        with pytest.raises(
            ProtocolRefused, match=f"{colluding} of {clients} hospitals may collude"
        ):
            thresholds(clients).check(colluding)


@settings(max_examples=60, deadline=None)
@given(st.integers(66, 200), st.integers(20, 40), st.data())
def test_colluding_neighbours_are_allowed_by_the_tail_done_by_hand(clients, half, data) -> None:
    """n P(c_v >= 2t - k - 1) < 2^-40 for c_v hypergeometric: a sum of binomials."""
    degree = min(2 * half, 2 * ((clients - 2) // 2))
    t = data.draw(st.integers(degree // 2 + 1, degree))
    colluding = data.draw(st.integers(1, clients - 1))
    tail = sum(
        comb(colluding, x) * comb(clients - 1 - colluding, degree - x)
        for x in range(2 * t - degree - 1, min(colluding, degree) + 1)
    )
    chance = Fraction(clients * tail, comb(clients - 1, degree))
    limits = Thresholds(clients, degree, t, clients // 2 + 1)
    try:
        limits.check(colluding)
        allowed = True
    except ProtocolRefused as error:
        if "too few" in str(error):
            return
        allowed = False
    assert allowed == (chance < Fraction(1, 2**40))


def test_an_odd_degree_that_no_ring_has_is_refused() -> None:
    """On a ring each has as many neighbours before it as behind it."""
    degree, t = k_regular(100)
    for odd in (degree + 1, degree - 1, 97):
        with pytest.raises(ProtocolRefused, match=f"100 hospitals with {odd} neighbours each"):
            Thresholds(100, odd, t + 1, 51).check(0)
    Thresholds(100, degree + 2, t + 1, 51).check(0)  # larger than needed is as good


def test_a_complete_graph_of_many_clients_is_allowed() -> None:
    Thresholds(100, 99, 67, 67).check(33)
    with pytest.raises(ProtocolRefused, match="different survivor sets"):
        Thresholds(100, 99, 67, 67).check(34)


def test_a_number_of_clients_that_no_graph_fits_is_refused() -> None:
    """With 5 clients no even degree from 4 on is below n - 1."""
    with pytest.raises(StrategyError, match="draw at most 64 with federation.clients_per_round"):
        k_regular(5)
