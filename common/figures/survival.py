"""Harrell's concordance index from pair counts that hospitals can add.

The index asks, of two patients of whom one is known to have had the event first, how often that
one had the higher predicted risk (Harrell, Lee and Mark, Statistics in Medicine 15, 1996). Pairs
are formed within a shard only: a pair across hospitals would need one hospital's rows at another.
So the sum over hospitals gives the *stratified* index, the mean of the hospitals' indices weighted
by their comparable pairs, and not the index of the pooled rows. It ignores differences of risk
between hospitals, and splitting a shard changes it.

How far chance may put it off is told by the rows' own pairs (the infinitesimal jackknife, as in R's
``survival::concordance``): of each row a_i concordant and b_i comparable pairs that it is in,
summed as a_i^2, a_i b_i, b_i^2.

Counts are exact below 2**53. As in ``sums.py``: a lone number has shape (1,), an undefined figure
is NaN, and no message carries a value of a row.

Shapes: N rows of a shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wardround.common.figures.sums import (
    Ints,
    Sums,
    checked,
    class_array,
    finite_array,
    ratio,
    refuse,
    scalar,
)


def survival_sums(risk_N: ArrayLike, time_N: ArrayLike, event_N: ArrayLike) -> Sums:
    """Count the pairs of one shard, in O(N log N) time.

    A pair is comparable if the shorter time ended in an event, or if the times are equal and
    exactly one of the two had an event; that one counts as first. (Two events at one time are not
    comparable.) This is the convention of lifelines' ``concordance_index``, which takes predicted
    times where this takes risks: pass it ``-risk``.

    Parameters
    ----------
    risk_N : any finite score, higher where the event is expected sooner
    time_N : time to event or censoring, at least 0, in any one unit
    event_N : 1 where the event was seen, 0 where the time is censored

    Returns
    -------
    All of shape (1,): ``comparable`` pairs; among them ``concordant`` ones, where the first had the
    higher risk, and ``tied`` ones, where risks are equal; ``examples``; ``events``. And of shape
    (3,) ``pair_squares``: see the module's docstring; a tied pair counts half.

    Raises
    ------
    ValueError
        Wrong shapes, lengths or ranges, or NaN.
    """
    risk_N = finite_array("risk", risk_N)
    rows = len(risk_N)
    time_N = finite_array("time", time_N, rows=rows)
    refuse("time", time_N < 0, "times of at least 0")
    event_N = class_array("event", event_N, rows, classes=2)
    # A pair is comparable iff its smaller `turn` is an event's: at one time, events come first.
    turn_N = 2 * np.unique(time_N, return_inverse=True)[1] + (1 - event_N)
    level_N = np.unique(risk_N, return_inverse=True)[1]
    seen = event_N == 1
    everyone_N = np.zeros(rows, dtype=np.int64)
    comparable_N = np.where(seen, _later_in_group(everyone_N, turn_N), 0)
    tied_N = np.where(seen, _later_in_group(level_N, turn_N), 0)

    concordant_N, others_N = _in_order(level_N, turn_N, event_N)
    in_any_N = comparable_N + _events_before(everyone_N, turn_N, event_N)
    right_N = concordant_N + others_N + (tied_N + _events_before(level_N, turn_N, event_N)) / 2.0
    squares = [np.sum(right_N**2), np.sum(right_N * in_any_N), np.sum(in_any_N.astype(float) ** 2)]
    return {
        "concordant": scalar(concordant_N.sum()),
        "tied": scalar(tied_N.sum()),
        "comparable": scalar(comparable_N.sum()),
        "pair_squares": np.array(squares, dtype=np.float64),
        "examples": scalar(rows),
        "events": scalar(event_N.sum()),
    }


def survival_figures(sums: Mapping[str, NDArray[Any]]) -> dict[str, float]:
    """Figures from (added) ``survival_sums``; other keys are ignored.

    ``c_index`` is (concordant + tied / 2) / comparable, NaN where nothing is comparable. Over
    several hospitals it is the stratified index: see the module's docstring.

    Raises ValueError for a missing entry, a shape that doesn't fit, or a value not finite.

    Of three patients (dead at 1, dead at 2, lost at 3) two of the three pairs are in order:

    >>> sums = survival_sums(risk_N=[0.9, 0.1, 0.5], time_N=[1, 2, 3], event_N=[1, 1, 0])
    >>> survival_figures(sums)["c_index"] == 2 / 3
    True
    """
    names = ("concordant", "tied", "comparable", "examples", "events")
    entries = checked(sums, dict.fromkeys(names, "1"))
    concordant, tied, comparable, examples, events = (entries[name][0] for name in names)
    with np.errstate(all="ignore"):  # absurd magnitudes from elsewhere may overflow
        c_index = ratio(concordant + tied / 2, comparable)
    return {"c_index": float(c_index), "examples": float(examples), "events": float(events)}


def _in_order(level_N: Ints, turn_N: Ints, event_N: Ints) -> tuple[Ints, Ints]:
    """For each row, the comparable pairs in the right order in which it comes first, and those in
    which it comes second."""
    rows = len(level_N)
    # Latest first, and higher risk first within a turn; then equal risks get falling ranks. So of
    # two rows that are equal in either, the one in front has the higher rank: not counted below.
    order_N = np.lexsort((-level_N, -turn_N))
    rank_N = np.empty(rows, dtype=np.int64)
    rank_N[np.lexsort((-np.arange(rows), level_N[order_N]))] = np.arange(rows)
    first_N, second_N = np.zeros_like(rank_N), np.zeros_like(rank_N)
    first_N[order_N] = _lower_in_front(rank_N, np.ones_like(rank_N))
    # from the other end: of each row, the events before it that had a higher risk
    weight_N = event_N[order_N][::-1]
    second_N[order_N] = _lower_in_front(rows - 1 - rank_N[::-1], weight_N)[::-1]
    return first_N * event_N, second_N


def _later_in_group(group_N: Ints, turn_N: Ints) -> Ints:
    """For each row, how many rows of its group have a strictly greater turn.

    Sorted by (group, turn) as one number, the rows of a group stand together: those that come later
    lie between the last of this turn and the group's end. Two binary searches for each row.
    """
    key_N = group_N * (turn_N.max(initial=0) + 1) + turn_N
    ends_N: Ints = np.searchsorted(np.sort(group_N), group_N, side="right")
    not_later_N: Ints = np.searchsorted(np.sort(key_N), key_N, side="right")
    return ends_N - not_later_N


def _events_before(group_N: Ints, turn_N: Ints, event_N: Ints) -> Ints:
    """For each row, how many events of its group have a strictly smaller turn."""
    width = turn_N.max(initial=0) + 1
    events = np.sort((group_N * width + turn_N)[event_N == 1])
    before_N = np.searchsorted(events, group_N * width + turn_N, side="left")
    return np.asarray(before_N - np.searchsorted(events, group_N * width, side="left"))


def _lower_in_front(rank_N: Ints, weight_N: Ints) -> Ints:
    """For each row, the weights of the rows in front of it with a lower rank, added.

    ``rank_N`` is a permutation of 0..N-1. Two ranks differ first in exactly one bit, so each pair
    is counted at that bit: rows are kept sorted by their higher bits (and else in the given order),
    which puts the ranks of one such group at positions start, start + 1, ...; a row with the bit
    set then counts the rows of its group in front of it without. Each step takes O(N).
    """
    place_N, row_N = np.arange(len(rank_N)), np.arange(len(rank_N))
    found_N = np.zeros(len(rank_N), dtype=np.int64)
    for bit in reversed(range(len(rank_N).bit_length())):
        start_N = (rank_N >> (bit + 1)) << (bit + 1)
        low_N = (rank_N >> bit) & 1 == 0
        low_before_N = np.cumsum(low_N) - low_N
        low_before_N -= low_before_N[start_N]
        weights_N = np.cumsum(low_N * weight_N) - low_N * weight_N
        found_N[row_N] += np.where(low_N, 0, weights_N - weights_N[start_N])
        # Stable: rows without the bit keep their order at the front of the group, others behind.
        moved_N = ((rank_N >> bit) << bit) + np.where(
            low_N, low_before_N, place_N - start_N - low_before_N
        )
        rank_N, weight_N = _moved(rank_N, moved_N), _moved(weight_N, moved_N)
        row_N = _moved(row_N, moved_N)
    return found_N


def _moved(values_N: NDArray[Any], target_N: Ints) -> NDArray[Any]:
    result_N = np.empty_like(values_N)
    result_N[target_N] = values_N
    return result_N
