"""The steps of published curves: times merged so that no step tells of few persons.

A step is a run of times of the grid. Only its end, and how many events, censorings and late entries
it has, is shown, and everything else that is shown follows from these. It ends at the first time at
which it is *safe*: with events of k persons or more, and with none, or of k or more, of each other
kind. What comes after the last such time is the rest: of 2 k - 1 persons or more (then k of either
kind is possible) only how many they are follows from what is shown; of fewer the last step joins
it, until there are as many.

Who knows this method, and all that is shown, can still not tell the count of a single time from
at least k neighbouring ones, unless the step is that one time and its counts are k or more: a time
before a step's last can have any count from 0 to k - 1, as the step would not have ended at it; the
last one all but up to k - 1 of the step's. ``tests/common/procedures/statistics/survival`` has an
attacker who tries every possible table.

Of several groups, times are merged to common steps first, which end where all groups are safe; each
group's own are parts of these. So a difference of two published tables is a step of one of them.

A curve's value is of every time within steps that can be of 10^16 tables by time or more
(``hidden``), rounded to what the order of k persons' events and censorings moves it by: from their
order alone it follows, not from their times. In other steps, and where the steps together hide less
than 10^32 for figures of the whole curve (four digits), too, all happens at their ends.

Shapes: M times of the grid, J steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, lgamma, log, log10

import numpy as np

from wardround.common.procedures.statistics.survival.curves import Floats, LifeTable

Places = tuple[int, ...]
"""Of the last times of steps, rising."""


@dataclass(frozen=True)
class Counts:
    """Of a group, by time: shapes (M,).

    events, censored, entered : rows; who is there from the start is not entered
    persons : of the same names, persons, each at the first of their times alone; rows where the
        study names no patients
    named : whether it does
    """

    events: Floats
    censored: Floats
    entered: Floats
    persons: Mapping[str, Floats]
    named: bool = False

    @classmethod
    def of_rows(cls, events: Floats, censored: Floats, entered: Floats) -> Counts:
        """Where each row is a person."""
        persons = {"events": events, "censored": censored, "entered": entered}
        return cls(events, censored, entered, persons)

    def safe(self, first: int, last: int, least: int) -> bool:
        """Whether a step of the times from ``first`` to ``last`` may be shown."""
        part = slice(first, last + 1)
        if self.persons["events"][part].sum() < least:
            return False
        return all(
            not getattr(self, kind)[part].any() or self.persons[kind][part].sum() >= least
            for kind in ("censored", "entered")
        )

    @property
    def each(self) -> float:
        """Events of a person who has one."""
        return float(self.events.sum() / max(1.0, float(self.persons["events"].sum())))

    def table(self, places: Places, grid: float) -> LifeTable:
        """By step."""
        events, censored, entered = (
            added(one, places) for one in (self.events, self.censored, self.entered)
        )
        start = float((self.events + self.censored - self.entered).sum())
        entered[0] += start
        return LifeTable.of(np.array(places) * grid, events, censored, entered)

    def people(self, first: int, last: int) -> float:
        """Persons who leave in the times from ``first`` to ``last``: not more than there are."""
        part = slice(first, last + 1)
        ended, lost = (float(self.persons[kind][part].sum()) for kind in ("events", "censored"))
        return max(ended, lost) if self.named else ended + lost


def shown(counts: Counts, least: int) -> Counts | None:
    """What a curve can be of; None where nothing is shown of the group, which has too few events.

    Rows that are censored don't count where they are fewer than k persons in all, as no step could
    hide them (with late entries nothing is shown then); fewer who come late count from the start.
    """
    zero = np.zeros_like(counts.events)
    censored, entered, persons = counts.censored, counts.entered, dict(counts.persons)
    if persons["entered"].sum() < least:
        entered = persons["entered"] = zero
    if persons["censored"].sum() < least:
        if entered.any() and censored.any():
            return None
        censored = persons["censored"] = zero
    if persons["events"].sum() < least:
        return None
    return Counts(counts.events, censored, entered, persons, counts.named)


def merged(counts: Sequence[Counts], first: int, end: int, least: int) -> Places:
    """Where common steps of the groups end, within the times from ``first`` up to before ``end``;
    () where there is none. See the module for the rest behind the last."""
    places = _safe_ends(counts, first, end, least)
    while places and any(_few(one, places[-1] + 1, end, least) for one in counts):
        del places[-1]
    return tuple(places)


def refined(counts: Counts, common: Places, least: int) -> Places:
    """A group's own steps: parts of the common ones, each of which ends where one of these does;
    behind the last common one its own."""
    found, start = list[int](), 0
    for end in common:
        inside = _safe_ends([counts], start, end + 1, least)
        if inside[-1] != end:
            inside[-1] = end  # whatever is left up to the common end
        while len(inside) > 1 and not counts.safe(inside[-2] + 1, end, least):
            del inside[-2]
        found += inside
        start = end + 1
    return (*found, *merged([counts], start, len(counts.events), least))


def _safe_ends(counts: Sequence[Counts], first: int, end: int, least: int) -> list[int]:
    places, start = list[int](), first
    for time in range(first, end):
        if all(one.safe(start, time, least) for one in counts):
            places.append(time)
            start = time + 1
    return places


def _few(counts: Counts, first: int, end: int, least: int) -> bool:
    """Whether so few leave later that it would tell of them; none is not few."""
    there = (counts.events + counts.censored)[first:end].any()
    return bool(there) and counts.people(first, end - 1) < 2 * least - 1


def added(values: Floats, places: Places) -> Floats:
    """A count by time, added up by step, (J,); what is behind the last is left out."""
    return np.add.reduceat(values[: places[-1] + 1], [first for first, _ in runs(places)])


def hidden(counts: Counts, places: Places) -> list[float]:
    """Of how many tables by time each step can be: as powers of ten, (J,).

    D events at m times can be distributed in (D + m - 1)! / (D! (m - 1)!) ways; so can censorings.
    """
    found = []
    for first, last in runs(places):
        times, ways = last + 1 - first, 0.0
        for kind in ("events", "censored"):  # a person's rows may stand together
            people = float(counts.persons[kind][first : last + 1].sum())
            ways += lgamma(people + times) - lgamma(people + 1) - lgamma(times)
        found.append(ways / log(10))
    return found


def grains(table: LifeTable, least: float) -> list[float]:
    """What a curve is rounded to multiples of at each step, (J,): 1, 2 or 5 in a decimal, and no
    less than what k events that are moved past a censoring change, some k / n^2.

    least : k, times the events that a person has
    """
    n = np.maximum(table.at_risk - table.censored, 1.0)
    found = []
    for change in np.clip(least / n**2, 1e-4, 0.1).tolist():
        unit = 10.0 ** floor(log10(change) + 1e-9)
        found.append(next(one * unit for one in (1, 2, 5, 10) if one * unit >= change * 0.999))
    return found


def moved(counts: Counts, places: Places, which: Sequence[bool]) -> Counts:
    """With the rows of some of the steps at the step's last time. ``which``: of the J steps."""
    kinds = {}
    for kind in ("events", "censored", "entered"):
        values = getattr(counts, kind).copy()
        for (first, last), yes in zip(runs(places), which, strict=True):
            if yes:
                values[last] = values[first : last + 1].sum()
                values[first:last] = 0.0
        kinds[kind] = values
    return Counts(**kinds, persons=counts.persons, named=counts.named)


def runs(places: Places) -> list[tuple[int, int]]:
    """First and last time of each step."""
    return list(zip([0, *(place + 1 for place in places[:-1])], places, strict=True))
