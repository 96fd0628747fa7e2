"""Whether two sets of counts can be of the same rows by chance; limits follow from their numbers.

With no drift, rows of the window and of the reference are drawn alike, so which of all rows with a
given property lie in the window is a draw without replacement: hypergeometric, exactly, for any
numbers n of the window and R of the reference. Each field is looked at in many ways: a place alone,
everything below a cut, unknown, missing; each is one two-sided exact test of the window's count.

limit       of every test: ``ALPHA`` is shared out (half to inputs, a quarter each to scores and to
            outcomes), and each share divided by the number of its tests that could reach their
            limit at all (Tarone, Biometrics 46, 1990), so that a window without drift raises a
            false alarm with a chance of at most ``ALPHA``, all fields together (Bonferroni)
ranks       of scores one more test, by ranks, has half of their share: a few more patients who are
            ill move all scores a little, which no single cut shows as well
size        what passes its limit and is a small thing, a share that changed by less than ``LEAST``,
            is told and is no alarm: of 100,000 rows any difference is more than chance

The population stability index stands beside it for readers who know it, and decides nothing: of 50
rows its usual limit of 0.2 is passed by chance all the time, of 100,000 never.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtr, ndtri

from wardround.common.drift.counts import Counts
from wardround.common.drift.field import MISSING, ODD, Field, Role

Floats = NDArray[np.float64]
ALPHA = 0.01
"""The most that the chance of a false alarm is, for a window and all fields together."""
PARTS: dict[Role, float] = {"input": 0.5, "score": 0.25, "outcome": 0.25}
LEAST, LEAST_ODD = 0.05, 0.01
"""The least change of a share that is an alarm; the second of what is missing or unknown."""
_SMOOTH = 0.5
_BY_RANK, _LEAST_ROWS, _MOST_TIED = 0.5, 20, 0.5


@dataclass(frozen=True)
class Seen:
    """One way of looking at a field: rows with a property.

    what : the property, in words
    window, reference : how many rows have it
    """

    what: str
    window: int
    reference: int
    least: float


@dataclass(frozen=True)
class Finding:
    """What the strongest of a field's tests found.

    chance : of such a difference or a larger one without drift, two-sided
    limit : what it must be under to say more than chance, at these numbers of rows
    window, reference : rows with the property ``what``, of n and of R
    psi : the population stability index over all places
    """

    field: Field
    chance: float
    limit: float
    what: str
    window: int
    n: int
    reference: int
    total: int
    least: float
    psi: float

    @property
    def change(self) -> float:
        """By how much the share of rows with the property changed."""
        return self.window / self.n - self.reference / self.total

    @property
    def beyond_chance(self) -> bool:
        """Whether the difference is more than chance makes."""
        return self.chance <= self.limit

    @property
    def drifted(self) -> bool:
        """Whether it is an alarm: more than chance, and large enough to matter."""
        return self.beyond_chance and abs(self.change) >= self.least


def compare(reference: Counts, window: Counts, alpha: float = ALPHA) -> list[Finding]:
    """A finding per field that both have counted, in the fields' order.

    alpha : the most that the chance of a false alarm may be

    Raises ValueError for counts of different fields.
    """
    if reference.fields != window.fields:
        raise ValueError("the reference is of another model: its fields are others")
    found: dict[str, Finding] = {}
    for role, part in PARTS.items():
        fields = [
            one
            for one in window.fields
            if one.role == role
            and all(
                one.key in counts.cells and counts.cells[one.key].any()
                for counts in (reference, window)
            )
        ]
        of_ranks = part * alpha * _BY_RANK / max(1, len(fields)) if role == "score" else 0.0
        exact = part * alpha * (1 - _BY_RANK if role == "score" else 1.0)
        found |= _of_role(fields, reference, window, exact, of_ranks)
    return [found[one.key] for one in window.fields if one.key in found]


def _of_role(
    fields: Sequence[Field], reference: Counts, window: Counts, alpha: float, by_rank: float
) -> dict[str, Finding]:
    """by_rank : the limit of a test by ranks of each field; 0: there is none"""
    tests, owners = list[Seen](), list[int]()
    for number, field in enumerate(fields):
        seen = list(ways(field, reference.cells[field.key], window.cells[field.key]))
        tests += seen
        owners += [number] * len(seen)
    if not tests:
        return {}
    owner = np.array(owners)
    n = np.array([float(window.cells[one.key].sum()) for one in fields])[owner]
    total = np.array([float(reference.cells[one.key].sum()) for one in fields])[owner]
    here = np.array([float(one.window) for one in tests])
    both = here + np.array([float(one.reference) for one in tests])
    chance, limit = chances(here, n, both, n + total), alpha / reachable(n, both, n + total, alpha)
    found = {}
    for number, field in enumerate(fields):
        own = np.flatnonzero(owner == number)
        if not own.size:
            continue
        ends = own[:2][[tests[k].least == LEAST_ODD and chance[k] <= limit for k in own[:2]]]
        # what is missing or unknown makes everything else scarcer: it is told first
        first = ends if ends.size else own
        at = int(first[np.argmin(chance[first])])
        cells = reference.cells[field.key], window.cells[field.key]
        best = float(chance[at]), float(limit)
        moved = shifted(*cells, field.known) if by_rank else None
        if moved is not None and moved / by_rank < best[0] / best[1]:
            best = moved, by_rank  # shown by where the shares differ most
            at = int(own[np.argmax(np.abs(here / n - (both - here) / total)[own])])
        one = tests[at]
        numbers = one.window, int(n[at]), one.reference, int(total[at])
        found[field.key] = Finding(field, *best, one.what, *numbers, one.least, psi(*cells))
    return found


def ways(field: Field, reference: NDArray[np.int64], window: NDArray[np.int64]) -> Iterator[Seen]:
    """The ways in which a field is looked at, each set of rows once. Which these are follows from
    the places of all rows together, and not from which of them are the window's: so the tests stay
    exact."""
    together = reference + window
    everywhere = sum(1 << int(place) for place in np.flatnonzero(together))
    sets = {0, everywhere}

    def seen(what: str, start: int, stop: int, least: float) -> Iterator[Seen]:
        filled = np.flatnonzero(together[start:stop]) + start
        rows = sum(1 << int(place) for place in filled)
        if rows not in sets:
            sets.update((rows, everywhere ^ rows))
            where = slice(start, stop)
            yield Seen(what, int(window[where].sum()), int(reference[where].sum()), least)

    for place in (field.size + MISSING, field.size + ODD):
        yield from seen(field.place(place), place, place + 1, LEAST_ODD)
    for cut in range(1, field.known if field.cuts else 0):
        yield from seen(f"under {field.cuts[cut - 1]:.4g}", 0, cut, LEAST)
    for place in range(field.known):
        yield from seen(field.place(place), place, place + 1, LEAST)


# --- one test -------------------------------------------------------------------------------------
def chances(x: Floats, n: Floats, marked: Floats, total: Floats) -> Floats:
    """Two-sided: the chance of x marked rows of n, or of fewer or more, that were drawn from
    ``total`` of which ``marked`` are; never less than it is.

    A tail is bounded by the geometric series that begins with its first two terms, as the ratio of
    a term to the one before only falls: far out, where a limit lies, that is the tail to a few
    percent, and costs nothing however many rows there are.
    """
    first = np.exp(_log_term(x, n, marked, total))
    with np.errstate(divide="ignore", invalid="ignore"):
        up = (marked - x) * (n - x) / ((x + 1) * (total - marked - n + x + 1))
        down = x * (total - marked - n + x) / ((marked - x + 1) * (n - x + 1))
        tails = [np.where(q < 1, first / (1 - q), 1.0) for q in (up, down)]
    found: Floats = np.minimum(1.0, 2 * np.minimum(tails[0], tails[1]))
    return found


def shifted(reference: NDArray[np.int64], window: NDArray[np.int64], known: int) -> float | None:
    """Two-sided: the chance of so different a mean rank of the window's values (Wilcoxon), by the
    normal approximation with the ties of whole bins. None where that isn't good: of few rows, or
    where a bin holds most."""
    together = (reference + window)[:known].astype(np.float64)
    n, total = float(window[:known].sum()), float(together.sum())
    if min(n, total - n) < _LEAST_ROWS or together.max() > _MOST_TIED * total:
        return None
    ranks = np.cumsum(together) - together / 2  # the middle of each bin
    mean = total / 2
    variance = n * (total - n) / (total * (total - 1)) * (together @ (ranks - mean) ** 2)
    off = abs(float(window[:known] @ ranks) - n * mean)
    return float(2 * ndtr(-off / math.sqrt(variance)))


def reachable(n: Floats, marked: Floats, total: Floats, alpha: float) -> int:
    """By how many tests ``alpha`` is divided: the smallest m such that at most m of them could
    reach alpha / m, whatever the rows are (Tarone). At least 1."""
    ends = [np.minimum(marked, n), np.maximum(0.0, n + marked - total)]
    least = np.minimum(1.0, 2 * np.minimum(*(np.exp(_log_term(x, n, marked, total)) for x in ends)))
    ordered = np.sort(least)
    for m in range(1, len(ordered) + 1):
        if np.searchsorted(ordered, alpha / m, side="right") <= m:
            return m
    return max(1, len(ordered))


def _log_term(x: Floats, n: Floats, marked: Floats, total: Floats) -> Floats:
    """Logarithm of the hypergeometric probability of x."""

    def chosen(whole: Floats, part: Floats) -> Floats:
        found: Floats = gammaln(whole + 1) - gammaln(part + 1) - gammaln(whole - part + 1)
        return found

    return chosen(marked, x) + chosen(total - marked, n - x) - chosen(total, n)


def psi(reference: NDArray[np.int64], window: NDArray[np.int64]) -> float:
    """Population stability index: the sum of (w - r) log(w / r) over shares of places that either
    has rows in, each count with half a row more, so that an empty place is no infinity."""
    there = (reference + window) > 0
    shares = []
    for counts in (reference[there], window[there]):
        smooth = counts + _SMOOTH
        shares.append(smooth / smooth.sum())
    r, w = shares
    return float(((w - r) * np.log(w / r)).sum())


def least_visible(n: int, total: int, share: float, tests: int, alpha: float = ALPHA / 2) -> float:
    """The smallest change of a share that n rows can show beside ``total``, by the normal
    approximation; for people: what a window of this size can't see."""
    limit = -float(ndtri(alpha / max(1, tests) / 2))
    return min(1.0, limit * math.sqrt(share * (1 - share) * (1 / max(1, n) + 1 / max(1, total))))
