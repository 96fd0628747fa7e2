"""Curves of every time within a step, rounded: they don't say how many had an event when."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from tests.common.procedures.statistics.unlike import hospitals
from wardround.common.procedures.statistics.survival.curves import Floats, LifeTable, curve
from wardround.common.procedures.statistics.survival.shown import to_grain
from wardround.common.procedures.statistics.survival.steps import (
    Counts,
    grains,
    hidden,
    merged,
    runs,
)

LEAST = 5
SHOWN = ("survival", "lower", "upper", "hazard", "hazard_lower", "hazard_upper")


def figures(events: Floats, censored: Floats, end: int, grain: float) -> list[float]:
    """What is shown at a step's end, to multiples of a grain."""
    times = np.arange(len(events), dtype=float)
    start = np.zeros(len(events))
    start[0] = (events + censored).sum()
    found = curve(LifeTable.of(times, events, censored, start))
    return [to_grain(float(getattr(found, name)[end]), grain) for name in SHOWN]


def packed(order: str, days: int) -> list[str] | None:
    """Exits put on so many days in their order, where on a day events come first; None where they
    don't fit."""
    found, here = list[str](), ""
    for one in order:
        if one == "E" and here.endswith("C"):
            found.append(here)
            here = ""
        here += one
    found += [here] if here else []
    return None if len(found) > days else found + [""] * (days - len(found))


def others(order: str, day: int, days: int, few: int) -> Iterator[list[str]]:
    """Tables that have this many events on a day, and events nearly as late in the order."""
    ranks = [at for at, one in enumerate(order) if one == "E"]
    for taken in {tuple(ranks[at : at + few]) for at in range(len(ranks) - few + 1)}:
        rest = [one for at, one in enumerate(order) if at not in taken]
        for at in range(len(rest) + 1):
            later = sum(taken) - sum(range(at, at + few))
            sides = evened(rest[:at], rest[at:], later - crossed(rest, at, taken))
            before, after = (
                packed("".join(sides[0]), day),
                packed("".join(sides[1]), days - day - 1),
            )
            if before is not None and after is not None:
                yield [*before, "E" * few, *after]


def crossed(rest: list[str], at: int, taken: tuple[int, ...]) -> int:
    """How much later the other events are now that the taken ones stand together."""
    places = [place for place in range(len(rest) + len(taken)) if place not in taken]
    now = [place if place < at else place + len(taken) for place in range(len(rest))]
    pairs = zip(rest, now, places, strict=True)
    return sum(new - old for one, new, old in pairs if one == "E")


def evened(before: list[str], after: list[str], later: int) -> tuple[list[str], list[str]]:
    """With other events moved by so many places in all, later ones or (negative) sooner."""
    pattern, step = (["E", "C"], 1) if later > 0 else (["C", "E"], -1)
    sides = before[:], after[:]
    for side in sides[::-1]:
        place = 0
        while later and place + 1 < len(side):
            if side[place : place + 2] == pattern:
                side[place : place + 2] = pattern[::-1]
                later -= step
                place = max(0, place - 1)
            else:
                place += 1
    return sides


@pytest.mark.parametrize("stage", ["A", "B"])
def test_every_count_of_few_on_a_day_stays_possible(stage: str) -> None:
    """The attacker has more than is shown: the exact counts of all days outside the step, and all
    of its events and censorings. Of each of its days but the outer tenths there is a table for
    every count below k that has the same figures."""
    pooled = pd.concat(hospitals())
    pooled = pooled[pooled.stage == stage]
    size = int(pooled.time.max()) + 1
    days, died = pooled.time.astype(int), pooled.event.to_numpy(float)
    events = np.bincount(days, died, size).astype(float)
    censored = np.bincount(days, 1 - died, size).astype(float)
    counts = Counts.of_rows(events, censored, np.zeros(size))
    places = merged([counts], 0, size, LEAST)
    attacked, shown = 0, grains(counts.table(places, 1.0), LEAST)
    steps = zip(runs(places), hidden(counts, places), shown, strict=True)
    for (first, last), power, grain in steps:
        if power < 16:
            continue
        attacked += 1
        order = "".join(
            "E" * int(events[day]) + "C" * int(censored[day]) for day in range(first, last + 1)
        )
        true, length = figures(events, censored, last, grain), last + 1 - first
        for day in np.linspace(length // 10 + 1, length - length // 10 - 2, 3).astype(int):
            for few in range(min(LEAST, order.count("E") + 1)):
                assert any(
                    figures(*changed(events, censored, first, table), last, grain) == true
                    for table in others(order, int(day), length, few)
                ), (first, day, few)
    assert attacked > 3


def changed(
    events: Floats, censored: Floats, first: int, table: list[str]
) -> tuple[Floats, Floats]:
    """The counts with another step from ``first`` on."""
    part = slice(first, first + len(table))
    found = events.copy(), censored.copy()
    for values, kind in zip(found, "EC", strict=True):
        values[part] = [one.count(kind) for one in table]
    return found
