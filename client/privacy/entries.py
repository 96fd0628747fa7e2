"""What the rows of a privacy ledger say, and what they add up to for one unit.

An entry names the units that it has touched by a set of pseudonyms (``pseudonyms.py``), or counts
for everybody. The sum over all entries is what any one unit can have paid at most; a unit's own sum
is of the entries for everybody and of those whose set has it.

*Sides.* Within a run a unit lies in one part of the data: it trains, or it is held out. An entry
that touches one part says so, and the run. So no unit has paid for both of a run's sides, and the
worst one is over every choice of a side in each run (parallel composition).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from wardround.client.privacy.pseudonyms import patterns
from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.accounting import UNITS, Release, unit_epsilon
from wardround.common.protocol import names as m

Kind = tuple[str, float, float]
"""Unit, noise multiplier and sampling rate of a release."""
Totals = Counter[Kind]
"""Steps by kind."""
EVERYBODY = ""
"""The name of the set that every unit is in."""
TRAINS, HELD_OUT = "train", "held-out"
_PARTS = {HELD_OUT: m.HELD_OUT}
"""Of a side: a unit that is held out is so for validation or for test."""
_MOST_CHOICES = 64
"""Of sides, each a composition; what is older counts on both sides."""


@dataclass(frozen=True)
class Limit:
    """What a hospital never passes, over all runs and federations together.

    each_patient : held for each patient by itself, where it is known who was in which study; else
        for one who was in all
    """

    epsilon: float
    delta: float
    unit: str
    each_patient: bool = False

    def __post_init__(self) -> None:
        check_unit(self.unit)


@dataclass(frozen=True)
class Entry:
    """What one training request spends.

    request : hexadecimal digest of the request
    mechanism : for people, e.g. 'dp-sgd, own noise'
    releases : all that this request releases
    simulated : the noise came from a seed
    time : UTC, in seconds; the ledger sets it where it is 0
    units : digest of the set of patients whom it touches; '' where it counts for everybody
    purpose : of ``PURPOSES``; '' of announced sizes, and of older entries
    side : ``TRAINS``, ``HELD_OUT`` or one of its parts, a blank and what names the run: which it
        touches; '' for all of them
    """

    federation: str
    run: str
    round: int
    attempt: int
    request: str
    mechanism: str
    unit: str
    clipping_norm: float
    releases: tuple[Release, ...]
    simulated: bool
    time: float = 0.0
    units: str = EVERYBODY
    purpose: str = ""
    side: str = ""

    def __post_init__(self) -> None:
        check_unit(self.unit)

    def bare(self) -> Entry:
        """Without whom it touches: what two books of the same spending have in common."""
        return replace(self, units=EVERYBODY)

    def content(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "releases": [asdict(one) for one in self.releases]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Entry:
        """The reverse. Raises ValueError, KeyError or TypeError for anything else."""
        releases = tuple(Release(**one) for one in content["releases"])
        return cls(**{**content, "releases": releases})


def check_unit(unit: str) -> None:
    """Raise ValueError for what is no unit."""
    if unit not in UNITS:
        raise ValueError(f"unit '{unit}' must be one of {', '.join(UNITS)}")


class Spent:
    """Sums of entries, by whom these touch."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._all: Totals = Counter()
        self._sides: dict[str, dict[str, Totals]] = {}
        self._by_set: dict[str, Totals] = {}
        for one in entries:
            self.add(one)

    def add(self, entry: Entry) -> None:
        """One more entry."""
        side, _, run = entry.side.partition(" ")
        sides = self._sides.setdefault(run, {}) if run else {}
        for part in _PARTS.get(side, (side,)) if run else ():
            _add(sides.setdefault(part, Counter()), entry)
        if not run:
            _add(self._all, entry)
        _add(self._by_set.setdefault(entry.units, Counter()), entry)

    def copy(self) -> Spent:
        """Another one of the same sums."""
        other = Spent()
        other._all = self._all.copy()
        other._sides = {
            run: {side: totals.copy() for side, totals in sides.items()}
            for run, sides in self._sides.items()
        }
        other._by_set = {name: totals.copy() for name, totals in self._by_set.items()}
        return other

    def epsilon(self, unit: str, delta: float) -> float:
        """Of a unit that every entry touches, but for what only touches a run's other side."""
        return max(_compose(totals, unit, delta) for totals in self._worst_sides())

    def _worst_sides(self) -> list[Totals]:
        """What a unit may have paid in all, by the sides that it was on."""
        fixed, open_ = self._all.copy(), Counter[tuple[frozenset[Any], ...]]()
        for sides in self._sides.values():
            found = {frozenset(totals.items()) for totals in sides.values()}
            if len(found) == 1:
                fixed.update(next(iter(sides.values())))
            elif found:
                open_[tuple(sorted(found, key=sorted))] += 1
        choices = [fixed]
        # equal runs are alike: what counts is how many of them were on which side
        for sides_, runs in reversed(open_.items()):
            more = len(sides_) - 1
            ways = [(runs,) * len(sides_)]  # on all of them at once: never too little
            if len(choices) * math.comb(runs + more, more) <= _MOST_CHOICES:
                ways = list(_parted(runs, len(sides_)))
            choices = [_chosen(each, sides_, counts) for each in choices for counts in ways]
        return choices

    def has_finer(self, unit: str) -> str | None:
        """A unit finer than this one, if some entry protects nothing but that."""
        found = [one for one, _, _ in self._everything() if UNITS.index(one) < UNITS.index(unit)]
        return found[0] if found else None

    def _everything(self) -> Totals:
        """All entries' sums, of whatever side."""
        every = self._all.copy()
        for sides in self._sides.values():
            for totals in sides.values():
                every.update(totals)
        return every

    def worst(
        self,
        unit: str,
        delta: float,
        members: Callable[[str], bytes | None],
        among: bytes | None = None,
    ) -> float:
        """The largest epsilon of any one patient.

        members : a set's pseudonyms; None where they are lost, and it counts for everybody
        among : only patients of this set
        """
        everybody: Totals = Counter()
        sets: dict[str, bytes] = {}
        for name, totals in self._by_set.items():
            found = members(name) if name != EVERYBODY else None
            if found is None:
                everybody.update(totals)
            else:
                sets[name] = found
        names = list(sets)
        worst = 0.0
        for pattern in patterns([sets[name] for name in names], among):
            own = everybody.copy()
            for name, inside in zip(names, pattern, strict=True):
                if inside:
                    own.update(self._by_set[name])
            worst = max(worst, _compose(own, unit, delta))
        return worst


def hold(
    spent: Spent,
    entry: Entry,
    limit: Limit,
    hospital: str,
    members: Callable[[str], bytes | None],
) -> float:
    """Epsilon for the limit's unit once this entry is spent, too. With ``each_patient`` the largest
    one of the patients whom the entry touches; how much that is tells of what else they were in, so
    a refusal doesn't say it.

    members : as in ``Spent.worst``

    Raises PrivacyRefused above the limit.
    """
    asked = spent.copy()
    asked.add(entry)
    if limit.each_patient:
        among = members(entry.units) if entry.units != EVERYBODY else None
        after = asked.worst(limit.unit, limit.delta, members, among)
    else:
        after = asked.epsilon(limit.unit, limit.delta)
    if after <= limit.epsilon:
        return after
    where = f"at delta {limit.delta:g} per {limit.unit}"
    if math.isinf(after) and (finer := asked.has_finer(limit.unit)):
        raise PrivacyRefused(
            f"{hospital} refuses: no limit {where} can hold with releases that only "
            f"protect each {finer}; set the limit and privacy.unit to the same unit"
        )
    if limit.each_patient:
        raise PrivacyRefused(
            f"{hospital} refuses: a patient's epsilon would pass its limit of {limit.epsilon:g} "
            f"{where}"
        )
    before = spent.epsilon(limit.unit, limit.delta)
    left = max(0.0, limit.epsilon - before)
    raise PrivacyRefused(
        f"{hospital} refuses: epsilon would be {after:.4g} {where}, its limit is "
        f"{limit.epsilon:g}; {before:.4g} is spent, {left:.4g} remains"
    )


def of_run(entries: Iterable[Entry], federation: str | None, run: str | None) -> Iterator[Entry]:
    """The entries of one federation, or run; None: of any."""
    for one in entries:
        if federation in (None, one.federation) and run in (None, one.run):
            yield one


def _add(totals: Totals, entry: Entry) -> None:
    for one in entry.releases:
        totals[entry.unit, one.noise_multiplier, one.sampling_rate] += one.steps


def _parted(runs: int, sides: int) -> Iterator[tuple[int, ...]]:
    """Every way to have so many runs on these sides: how many on each."""
    if sides == 1:
        yield (runs,)
        return
    for first in range(runs + 1):
        for rest in _parted(runs - first, sides - 1):
            yield (first, *rest)


def _chosen(totals: Totals, sides: Sequence[frozenset[Any]], counts: Sequence[int]) -> Totals:
    for side, count in zip(sides, counts, strict=True):
        totals = _times(totals, side, count)
    return totals


def _times(totals: Totals, more: frozenset[Any], times: int) -> Totals:
    """The totals with so many times as much of others."""
    added = totals.copy()
    for key, steps in more:
        added[key] += steps * times
    return added


def _compose(totals: Totals, unit: str, delta: float) -> float:
    return _composed(tuple(sorted(totals.items())), unit, delta)


@lru_cache(maxsize=1024)
def _composed(totals: tuple[tuple[Kind, int], ...], unit: str, delta: float) -> float:
    """Kept: a round asks before it pays, afterwards, and for the next one, of every choice."""
    releases = [(known, Release(z, q, steps)) for (known, z, q), steps in totals]
    return unit_epsilon(releases, unit, delta)
