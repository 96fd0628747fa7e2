"""What a lying server can open: the proof's conditions against every strategy there is, for small
rings; its arithmetic against other ways of counting; and honest rounds with dropouts."""

from __future__ import annotations

import itertools
from collections import Counter
from functools import cache
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.graph import COMPLETE, Thresholds, check_spread, thresholds
from wardround.common.secagg.safety import (
    CORRUPT_SHARE,
    DROPPED_SHARE,
    LIVE,
    PRIVATE,
    gap_chance,
    hides,
    honest_in_sum,
    opens_one_sum,
    smallest_graph,
    tail,
)

modest = settings(deadline=None, max_examples=60)


# --- every strategy of a server, on small rings ---------------------------------------------------
class Attack:
    """A server and its friends on a ring of n places, k = 2 w neighbours each.

    An honest holder h can be told any set of its neighbours as gone, if of every w places in a row
    at most ``gone`` are in it, of every k + 1 at most k + 1 - t, and no more than n - survivors.
    """

    def __init__(self, n: int, w: int, t: int, gone: int, survivors: int, friends: set[int]):
        self.n, self.w, self.t = n, w, t
        self.honest = [x for x in range(n) if x not in friends]
        self.friends = friends
        rows = [(w, gone), (2 * w + 1, 2 * w + 1 - t)]
        self.limits = [
            ({(start + i) % n for i in range(places)}, most)
            for places, most in rows
            for start in range(n)
        ]
        self.limits.append((set(range(n)), n - survivors))

    def near(self, x: int) -> set[int]:
        return {(x + s) % self.n for s in range(-self.w, self.w + 1)} - {x}

    def opens(self, part: set[int]) -> bool:
        """Whether the sum over this part of the honest ones can be learnt: all their honest
        neighbours must be said gone by enough holders. An integer program: who tells what."""
        out = {y for x in part for y in self.near(x)} - part - self.friends
        pairs = [(h, x) for h in self.honest for x in out & self.near(h)]
        if not pairs:
            return not out
        rows, low, high = [], [], []
        for x in out:  # t holders say gone; those who collude do
            rows.append([float(pair[1] == x) for pair in pairs])
            low.append(self.t - len(self.near(x) & self.friends))
            high.append(len(pairs))
        for h in self.honest:
            for places, most in self.limits:
                rows.append([float(pair[0] == h and pair[1] in places) for pair in pairs])
                low.append(0)
                high.append(most)
        # who survives needs t holders who say so; h may be told that one of the part is gone, but
        # it helps nobody
        found = milp(
            np.zeros(len(pairs)),
            integrality=np.ones(len(pairs)),
            bounds=Bounds(0, 1),
            constraints=LinearConstraint(np.array(rows), low, high),
        )
        return bool(found.success)

    def is_one_sum(self, part: set[int]) -> bool:
        """Whether every honest one is in the part or gone for good."""
        return part | {y for x in part for y in self.near(x)} >= set(self.honest)

    def parts(self) -> list[set[int]]:
        """Every connected set of honest ones."""
        found = []
        for size in range(1, len(self.honest) + 1):
            for part in map(set, itertools.combinations(self.honest, size)):
                seen = {min(part)}
                while more := {y for x in seen for y in self.near(x)} & part - seen:
                    seen |= more
                if seen == part:
                    found.append(part)
        return found


def canonical(parts: list[set[int]], n: int, friends: set[int]) -> list[set[int]]:
    """One of those that differ by turning the ring, where nobody colludes."""
    if friends:
        return parts
    turned = {min(tuple(sorted((x + s) % n for x in part)) for s in range(n)) for part in parts}
    return [set(part) for part in sorted(turned)]


RINGS = [  # n, w, t, gone, friends
    (8, 2, 4, 1, 0),
    (9, 2, 4, 1, 0),
    (9, 3, 4, 1, 0),
    (9, 2, 5, 1, 1),
    (9, 3, 5, 1, 1),
    (10, 3, 6, 2, 0),
    (8, 2, 3, 2, 0),  # and now those that the conditions don't allow
    (8, 2, 3, 1, 0),
    (9, 3, 4, 3, 0),
    (9, 2, 4, 1, 1),
    (9, 3, 4, 2, 1),
]


@cache
def opened_parts(n: int, w: int, t: int, gone: int, count: int) -> list[tuple[int, bool]]:
    """Of every part that can be opened, wherever the first of those who collude stands: how many
    are in it, and whether all honest ones are in it or gone."""
    found = []
    for friends in itertools.combinations(range(n), count):
        if friends and friends[0]:
            break  # turning the ring gives those
        attack = Attack(n, w, t, gone, n // 2 + 1, set(friends))
        for part in canonical(attack.parts(), n, set(friends)):
            if attack.opens(part):
                found.append((len(part), attack.is_one_sum(part)))
    return found


@pytest.mark.parametrize("ring", RINGS)
def test_on_small_rings_the_conditions_hold_only_where_no_strategy_opens_a_part(ring) -> None:
    n, w, t, gone, count = ring
    found = opened_parts(*ring)
    assert (n - count, True) in found, "the honest sum is opened"
    if opens_one_sum(n, 2 * w, t, gone, count):
        assert all(one for _, one in found)
        least = honest_in_sum(n, 2 * w, t, gone, n // 2 + 1, count)
        assert min(size for size, _ in found) >= least > 0


def test_where_the_conditions_do_not_hold_a_hospital_can_be_opened_alone() -> None:
    """So that the test above can fail: one that only counts survivors is open at once."""
    safe = Counter(opens_one_sum(n, 2 * w, t, gone, c) for n, w, t, gone, c in RINGS)
    assert safe == {True: 6, False: 5}
    for ring in ((8, 2, 3, 2, 0), (9, 3, 4, 3, 0)):
        assert (1, False) in opened_parts(*ring)


# --- the arithmetic, counted otherwise ------------------------------------------------------------
def said_gone(n: int, w: int, most: int) -> int:
    """R by its definition: over all places, of the window 0..w-1 what lies within w steps."""
    return sum(
        min(most, sum(min((h - x) % n, (x - h) % n) <= w for x in range(w))) for h in range(n)
    )


@modest
@given(st.integers(2, 12), st.data())
def test_the_condition_is_that_of_the_proof(w, data) -> None:
    n = data.draw(st.integers(2 * w + 2, 4 * w + 5))
    t, c = data.draw(st.integers(1, 2 * w + 1)), data.draw(st.integers(0, 4))
    gone = data.draw(st.integers(0, w))
    expected = 2 * t > 2 * w + 1 + c and (2 * w - c) * (t - c) > 2 * said_gone(
        n, w, min(gone, 2 * w + 1 - t)
    )
    assert opens_one_sum(n, 2 * w, t, gone, c) == expected


def test_the_sum_of_a_large_ring_done_by_hand() -> None:
    """w = 3, one gone: nine places hold some of a window, and each says so of one: R = 9; 6 t > 18
    from t = 4 on. Two gone: 3 * 2 + 2 (2 + 2 + 1) = 16, and 6 t > 32 from t = 6 on."""
    assert [opens_one_sum(20, 6, t, 1, 0) for t in (3, 4)] == [False, True]
    assert [opens_one_sum(20, 6, t, 2, 0) for t in (5, 6)] == [False, True]


@pytest.mark.parametrize("n", range(2, 10))
def test_in_a_complete_graph_no_split_of_answers_leaves_fewer_honest_ones(n) -> None:
    """All t, survivors and c: of s that are called gone each needs t - c of n - c holders, who call
    at most n - survivors gone each, and nobody calls itself gone."""
    for t, c in itertools.product(range(1, n + 1), range(n)):
        for survivors in range(t, n + 1):
            if 2 * t <= n + c:
                continue
            most = 0
            for s in range(n - c):
                # who is called gone calls the s - 1 others so, all others all s
                said = s * min(s - 1, n - survivors) + (n - c - s) * min(s, n - survivors)
                if s * (t - c) <= said and n - c - s + max(0, s - 1) >= t - c:
                    most = s
            assert honest_in_sum(n, n - 1, t, 0, survivors, c) <= n - c - most


def test_five_hospitals_of_which_a_lie_leaves_two_in_the_sum() -> None:
    """t = 3 of 5 and sums of 3: three are called gone by three each. With sums of 4, one is."""
    assert honest_in_sum(5, 4, 3, 0, 3, 0) == 2
    assert honest_in_sum(5, 4, 3, 0, 4, 0) == 4


# --- chosen parameters ----------------------------------------------------------------------------
@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 1200), st.integers(0, 40), st.integers(2, 80), st.sampled_from([0.5, 0.667, 0.9])
)
def test_chosen_parameters_pass_the_check_of_both_sides_or_there_is_a_sentence(
    n, colluding, min_cohort, share
) -> None:
    try:
        found = thresholds(n, share, colluding, min_cohort)
        found.check(colluding, min(min_cohort, n))
    except ProtocolRefused as error:
        assert n <= COMPLETE or "federation.clients_per_round" in str(error) or "/ 2" in str(error)
        assert colluding > 0
        return
    least = min(min_cohort, n, found.survivors - colluding)
    assert found.honest(colluding) >= least
    found.check(colluding // 2, 2)
    assert found.complete or n > COMPLETE


@pytest.mark.parametrize(
    ("n", "colluding", "degree"),
    [(65, 0, 22), (100, 0, 32), (100, 5, 44), (257, 0, 48), (1000, 0, 64), (1000, 10, 98)],
)
def test_the_degrees_of_the_documents_and_none_smaller_will_do(n, colluding, degree) -> None:
    found = smallest_graph(n, colluding)
    assert found is not None and found[0] == degree
    for smaller in range(4, degree, 2):
        for gone in range(1, smaller // 2 + 1):
            if gap_chance(n, smaller // 2, gone) >= LIVE:
                continue
            for t in range(smaller + 1, (smaller + 1 + colluding) // 2, -1):
                if not opens_one_sum(n, smaller, t, gone, colluding):
                    break
                stuck = gap_chance(n, smaller + 1, smaller + 1 - t)
                assert stuck + gap_chance(n, smaller // 2, gone) >= LIVE


@pytest.mark.parametrize("n", [65, 100, 257, 1000])
def test_an_honest_server_with_friends_anywhere_sees_nothing_but_for_a_small_chance(n) -> None:
    degree, t, _ = smallest_graph(n, 0) or (0, 0, 0)
    corrupt, others = n * 5 // 100, n - 1
    opened = sum(
        comb(corrupt, x) * comb(others - corrupt, degree - x) for x in range(t, corrupt + 1)
    )
    assert n * opened * 2**40 < comb(others, degree)
    assert hides(n, degree, t) and not hides(n, 4, 3)


def test_the_tail_is_a_probability_done_by_hand() -> None:
    """2 of 5 marked, 2 drawn: both 1/10, at least one 7/10."""
    assert [tail(least, 5, 2, 2) * 10 for least in range(4)] == [10, 7, 1, 0]
    assert (float(CORRUPT_SHARE), float(DROPPED_SHARE)) == (0.05, 0.1)
    assert (PRIVATE, LIVE) == (2.0**-40, 2.0**-20)


# --- honest rounds --------------------------------------------------------------------------------
def fraction_opened(n: int, share: float, rounds: int) -> float:
    rng, limits = np.random.default_rng([n, int(share * 100)]), thresholds(n)
    ring, opened = np.arange(n), 0
    for _ in range(rounds):
        survivors = rng.permutation(n)[int(share * n) :]
        opened += not check_spread(survivors.tolist(), ring, limits)
    return opened / rounds


@pytest.mark.parametrize("n", [65, 100, 300, 1000])
def test_with_a_tenth_gone_at_random_every_round_is_opened_and_with_many_gone_not(n) -> None:
    assert fraction_opened(n, 0.1, 300) == 1
    assert fraction_opened(n, 0.45, 50) < 1


@modest
@given(st.integers(66, 90), st.data())
def test_the_check_of_gaps_counts_on_the_ring(n, data) -> None:
    limits = Thresholds(n, 22, 14, n // 2 + 1, 5)
    gone = data.draw(st.sets(st.integers(0, n - 1), max_size=25))
    ring = data.draw(st.permutations(range(n)))
    present = [place not in gone for place in ring]

    def fewest(places: int) -> int:
        return min(sum(present[(i + j) % n] for j in range(places)) for i in range(n))

    right = fewest(11) >= 5 and fewest(23) >= 14
    survivors = [x for x in range(n) if x not in gone]
    assert (check_spread(survivors, ring, limits) == "") == right
