"""Counts by group and time: what hospitals add up for survival curves.

Shapes: N rows of a hospital, G groups, M times of the grid.
"""

from __future__ import annotations

import numpy as np

from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.survival.steps import Counts
from wardround.common.procedures.statistics.survival.times import (
    Floats,
    Ints,
    entry_numbers,
    numbers,
    observed,
)
from wardround.common.settings.analyses.survival import KaplanMeierOptions

_PERSONS = "/persons"


def kinds(options: KaplanMeierOptions) -> tuple[str, ...]:
    """Of counts: what can happen to a row at a time."""
    return ("events", "censored", *(("entered",) if options.entry is not None else ()))


def shapes(options: KaplanMeierOptions, groups: int, size: int, named: bool) -> Shapes:
    """Of the sums. ``named``: persons are counted beside rows."""
    found: Shapes = {kind: (groups, size) for kind in kinds(options)}
    return found | ({kind + _PERSONS: (groups, size) for kind in found} if named else {})


def sums(
    frame: Frame, options: KaplanMeierOptions, texts: tuple[str, ...], size: int, named: bool
) -> Sums:
    """A hospital's: how many rows have an event, are censored, come under observation.

    texts : of the groups; rows of none don't count. () where there is one group of all rows
    size : M; a row beyond counts nowhere, as the grid was agreed on to hold all
    """
    seen = observed(frame, options)
    group = frame.levels(options.by, texts) if options.by else np.zeros(len(frame), np.int64)
    late = options.entry is not None
    places = numbers(seen.time, options.grid)
    entries = entry_numbers(seen.start, options.grid, late)
    used = seen.usable & (group >= 0) & (places < size)
    wide = max(1, len(texts)) if options.by else 1
    found: Sums = {}
    for kind, which, at in (
        ("events", used & (seen.event == 1), places),
        ("censored", used & (seen.event == 0), places),
        ("entered", used, entries),
    ):
        if kind not in kinds(options):
            continue
        found[kind] = _rows(group[which], at[which], wide, size)
        if named and frame.whose is not None:
            if kind == "entered":
                which = which & (at > 0)
            found[kind + _PERSONS] = _persons(
                frame.whose[which], group[which], at[which], wide, size
            )
    return found


def _rows(group: Ints, places: Ints, wide: int, size: int) -> Floats:
    counted = np.bincount(group * size + places, minlength=wide * size)
    return counted.reshape(wide, size).astype(np.float64)


def _persons(whose: Ints, group: Ints, places: Ints, wide: int, size: int) -> Floats:
    """Each person at the first time that a row of theirs in a group is at."""
    order = np.lexsort((places, group, whose))
    whose, group, places = whose[order], group[order], places[order]
    first = np.ones(len(whose), np.bool_)
    first[1:] = (whose[1:] != whose[:-1]) | (group[1:] != group[:-1])
    return _rows(group[first], places[first], wide, size)


def read(totals: Sums, place: int) -> Counts:
    """A group's counts."""
    events, censored = totals["events"][place], totals["censored"][place]
    entered = totals["entered"][place].copy() if "entered" in totals else np.zeros_like(events)
    entered[0] = 0.0
    rows = {"events": events, "censored": censored, "entered": entered}
    persons = {kind: totals[kind + _PERSONS][place] for kind in rows if kind + _PERSONS in totals}
    return Counts(events, censored, entered, rows | persons, bool(persons))
