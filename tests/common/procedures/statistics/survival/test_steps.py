"""Who knows the method and all that is shown, and tries every table that there can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from wardround.common.procedures.statistics.survival.steps import (
    Counts,
    Places,
    added,
    hidden,
    merged,
    moved,
    refined,
    shown,
)

Table = tuple[int, ...]


def tables(rows: int, cells: int) -> Iterator[Table]:
    """Every way to put up to so many rows into cells."""
    if not cells:
        yield ()
        return
    for first in range(rows + 1):
        for others in tables(rows - first, cells - 1):
            yield (first, *others)


def counts_of(events: Table, censored: Table) -> Counts:
    ended, lost = np.array(events, float), np.array(censored, float)
    return Counts.of_rows(ended, lost, np.zeros(len(ended)))


def told(counts: Counts, places: Places):
    """Events and censorings by step, and how many rows stay behind the last."""
    if not places:
        return None
    by_step = tuple(added(counts.events, places)), tuple(added(counts.censored, places))
    return places, *by_step, (counts.events + counts.censored)[places[-1] + 1 :].sum()


def rows_of(found) -> float:
    return sum(found[1]) + sum(found[2]) + found[3]


def pinned(told_of: dict, cells: int, least: int, largest: int) -> list:
    """Cells of few whose count an attacker knows better than to within k. Only what is told of at
    most ``largest`` rows: of it every possible table was tried."""
    found, seen = [], 0
    for what, possible in told_of.items():
        groups = [] if what is None else [one for one in what if one is not None]
        if len(groups) < (len(what) if what else 1) or sum(map(rows_of, groups)) > largest:
            continue
        seen += 1
        values = np.array(possible)
        for cell in range(cells):
            options = set(values[:, cell].tolist())
            if any(0 < one < least for one in options) and len(options) < least:
                found.append((what, cell, options))
    assert seen > 10
    return found


@pytest.mark.parametrize(("times", "least", "rows"), [(3, 2, 9), (4, 2, 7), (3, 3, 11)])
def test_no_count_of_few_can_be_told(times: int, least: int, rows: int) -> None:
    told_of = defaultdict(list)
    for table in tables(rows, 2 * times):
        counts = shown(counts_of(table[:times], table[times:]), least)
        found = counts and told(counts, merged([counts], 0, times, least))
        told_of[(found,) if found else None].append(table)
    assert pinned(told_of, 2 * times, least, rows - (least - 1)) == []


def test_nor_from_the_steps_of_groups_beside_those_they_have_in_common() -> None:
    least, rows, told_of = 2, 8, defaultdict(list)
    for table in tables(rows, 8):
        groups = [shown(counts_of(table[g : g + 2], table[g + 2 : g + 4]), 2) for g in (0, 4)]
        there = [one for one in groups if one is not None]
        common = merged(there, 0, 2, least) if len(there) > 1 else ()
        found = [one and told(one, refined(one, common, least)) for one in groups]
        both = tuple(one and (*one, common) for one in found)
        told_of[both if all(both) else None].append(table)
    assert pinned(told_of, 8, least, rows - 2 * (least - 1)) == []


def test_a_step_hides_as_many_tables_as_there_are() -> None:
    counts = counts_of((0, 3, 0, 2), (1, 0, 1, 0))
    ways = len({one for one in tables(5, 3) if sum(one) == 5})  # 5 events at 3 of the times
    assert hidden(counts, (0, 3)) == pytest.approx([0.0, np.log10(ways * 3)])


def test_moved_steps_keep_their_rows() -> None:
    counts = counts_of((0, 3, 0, 2), (1, 0, 1, 0))
    there = moved(counts, (1, 3), [True, False])
    assert there.events.tolist() == [0, 3, 0, 2] and there.censored.tolist() == [0, 1, 1, 0]


def test_persons_of_many_rows_are_few() -> None:
    """Six events of one person are no step of five persons."""
    one = np.array([6.0, 0.0, 5.0])
    persons = {"events": np.array([1.0, 0.0, 5.0]), "censored": np.zeros(3), "entered": np.zeros(3)}
    counts = Counts(one, np.zeros(3), np.zeros(3), persons, named=True)
    assert merged([counts], 0, 3, 5) == (2,)
    assert merged([Counts.of_rows(one, np.zeros(3), np.zeros(3))], 0, 3, 5) == (0, 2)
