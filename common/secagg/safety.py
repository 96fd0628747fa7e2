"""What a server that lies can open in a graph of masks: the arithmetic of its one sum.

n hospitals, k neighbours each, w = k / 2 on either side of a ring; a hospital's k + 1 holders (its
neighbours and itself) have shares of its two secrets, t open one. c hospitals collude, on any
places of the ring, for whoever asks for the group can choose its order. The server keeps every
vector and shows each honest holder a survivor set of its own; a holder answers one set in each
aggregation, and only one that leaves no gap: of every w places in a row at most d are gone, of
every k + 1 at most e = k + 1 - t.

*One secret of each.* Both secrets of a hospital need t answers each; honest holders answer once,
so 2t <= k + 1 + c. With 2t > k + 1 + c an honest hospital's outcome is b (its self mask is open),
s (its round key is) or none.

*Whole components.* A vector without outcome b is random. Of those with it, the mask of two
neighbours of outcome b is known to nobody and stands in their two vectors only; one with a
neighbour of outcome none stands in the one vector, too. So what can be learnt are sums over whole
connected components A of the graph of honest hospitals with outcome b, all of whose honest
neighbours outside A have outcome s.

*One component.* Let z be honest, not in A and no neighbour of A. On the way from z to A, on either
side, the last w places before A are neighbours of A: of these two windows, disjoint, for z lies
between them, all but those that collude have outcome s. So at least k - c hospitals have t - c
honest holders each who say that they are gone. But an honest holder says so of at most d in each
window, of at most e, and only of those that it holds. If (k - c)(t - c) > 2 R, R the sum over the
ring of min(held in a window, d, e), there is no such z: every honest hospital is in A or has
outcome s. One sum can be opened, that of all honest hospitals but those.

*It is large.* Each honest holder says of at most m = min(e, 2d, n - survivors) that they are gone,
and one that colludes helps with k hospitals at most, so at most (n - c) m / (t - c) have outcome s,
and at most ((n - c) m + c k) / t.

A complete graph has no windows; everyone is everyone's neighbour, so A is all that have outcome b,
and the last step holds with m = n - survivors, as e = n - t is no less.

Nothing here rests on chance. What does: whether an honest round of few dropouts is opened at all,
and what an honest-but-curious server sees whose friends lie anywhere on the ring. These tails are
computed exactly, so that both sides find the same graph.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from fractions import Fraction
from math import comb

CORRUPT_SHARE, DROPPED_SHARE = Fraction(1, 20), Fraction(1, 10)
"""What a k-regular graph is sized for: shares of all hospitals."""
PRIVATE, LIVE = Fraction(1, 2**40), Fraction(1, 2**20)
"""Chances that stay below: of being seen by friends of an honest server; of a round that fails."""


def tail(least: int, population: int, marked: int, drawn: int) -> Fraction:
    """P[at least so many marked among the drawn]: a hypergeometric tail, exactly."""
    hits = range(max(0, least), min(marked, drawn) + 1)
    ways = sum(comb(marked, x) * comb(population - marked, drawn - x) for x in hits)
    return Fraction(ways, comb(population, drawn))


def opens_one_sum(clients: int, degree: int, threshold: int, gone: int, colluding: int) -> bool:
    """Whether the two steps of the proof hold that make a lying server's sum the only one.

    gone : d, most that may be gone of degree / 2 places in a row; not used in a complete graph
    """
    if 2 * threshold <= degree + 1 + colluding:
        return False
    if degree == clients - 1:
        return True
    most = min(gone, degree + 1 - threshold)
    said = 2 * _said_gone(clients, degree // 2, most)
    return (degree - colluding) * (threshold - colluding) > said


def honest_in_sum(
    clients: int, degree: int, threshold: int, gone: int, survivors: int, colluding: int
) -> int:
    """The fewest honest hospitals in the one sum that a lying server can open."""
    honest = clients - colluding
    if threshold <= colluding:
        return 0
    most = min(degree + 1 - threshold, clients - survivors)
    if degree < clients - 1:
        most = min(most, 2 * gone)
    without = honest * most // (threshold - colluding)
    without = min(without, (honest * most + colluding * degree) // threshold)
    return honest - without


def _said_gone(clients: int, width: int, most: int) -> int:
    """R: the sum over the ring of min(how many of one window a place holds, most).

    Places in the window hold all of it; the j-th beyond its end holds what lies within ``width``
    steps, and on a small ring of both ends.
    """
    others = min(clients, 3 * width) - width  # further ones hold nothing
    outside = (
        max(0, width + 1 - j) + max(0, width + 1 - (others + 1 - j)) for j in range(1, others + 1)
    )
    return width * min(width, most) + sum(min(held, most) for held in outside)


def hides(clients: int, degree: int, threshold: int) -> bool:
    """Against an honest-but-curious server with ``CORRUPT_SHARE`` of all hospitals as friends: but
    for a chance of 2^-40 each, no hospital has t of them for neighbours, and none has only them and
    ``DROPPED_SHARE`` that dropped out, so nobody to hide behind."""
    others = clients - 1
    corrupt, dropped = int(CORRUPT_SHARE * clients), int(DROPPED_SHARE * clients)
    opened = clients * tail(threshold, others, corrupt, degree)
    alone = clients * tail(degree, others, corrupt + dropped, degree)
    return opened < PRIVATE and alone < PRIVATE


@functools.lru_cache(maxsize=4096)
def gap_chance(clients: int, places: int, gone: int) -> Fraction:
    """A bound on the chance that of some ``places`` in a row more than ``gone`` are among
    ``DROPPED_SHARE`` of all hospitals that dropped out."""
    dropped = int(DROPPED_SHARE * clients)
    return clients * tail(gone + 1, clients, dropped, places)


@functools.lru_cache(maxsize=64)
def smallest_graph(clients: int, colluding: int) -> tuple[int, int, int] | None:
    """The smallest even degree k with a threshold t and a number d gone of k / 2 places in a row
    that open one sum, hide, and fail with ``DROPPED_SHARE`` gone with a chance below 2^-20: (k, t,
    d), of those with this k what fails least. Above 128 in steps of about 1 / 64. None if there is
    none below n - 1."""
    degree = max(4, colluding + colluding % 2)
    while degree < clients - 1:
        found = _surest(clients, degree, colluding)
        if found is not None and hides(clients, degree, found[0]):
            return degree, *found
        degree += 2 * max(1, degree // 128)
    return None


def _surest(clients: int, degree: int, colluding: int) -> tuple[int, int] | None:
    """Threshold and gap of this degree with which an honest round fails least, if with a chance
    below 2^-20: a wider gap needs a larger threshold, so one fails less, the other more."""
    width = degree // 2
    gone = bisect_left(range(width), True, key=lambda d: gap_chance(clients, width, d) < LIVE)
    least, pair = LIVE, None
    for wider in range(max(1, gone), width + 1):
        threshold = _least_threshold(clients, degree, wider, colluding)
        if threshold is None:
            break
        stuck = gap_chance(clients, degree + 1, degree + 1 - threshold)
        if stuck >= least:
            break
        chance = stuck + gap_chance(clients, width, wider)
        if chance < least:
            least, pair = chance, (threshold, wider)
    return pair


def _least_threshold(clients: int, degree: int, gone: int, colluding: int) -> int | None:
    """The smallest threshold that opens one sum; the larger, the safer."""
    least, most = (degree + 1 + colluding) // 2 + 1, degree + 1
    if least > most or not opens_one_sum(clients, degree, most, gone, colluding):
        return None
    while least < most:
        middle = (least + most) // 2
        if opens_one_sum(clients, degree, middle, gone, colluding):
            most = middle
        else:
            least = middle + 1
    return most
