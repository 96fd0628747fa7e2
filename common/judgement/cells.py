"""Groups are put together until nothing that is shown tells of fewer than k persons.

Each figure is of counts: how many rows a group has, how many of them have which outcome, how many
of these were predicted which. Shown are *blocks* of groups, at three levels:

| level       | a block's counts that are at least k     | so its figures may be shown that follow |
|-------------|------------------------------------------|-----------------------------------------|
| rows        | its rows                                 | from them                               |
| outcomes    | its rows of each outcome                 | and from outcomes                       |
| predictions | its rows of each outcome, predicted each | and from predictions; areas, errors     |

Blocks of a level are unions of blocks of the level above it. **Claim:** whoever knows all that is
shown, and the exact counts of all groups together, finds no cell that must have fewer than k rows,
be it a group's, a group's of one outcome, or a group's of one outcome and prediction, or of several
columns' groups at once; but where the counts of all groups together alone say it, or where it is
known how columns go together: of an age in years cut at 40 and one in months cut at 481 the tables
differ by one cell, which is then known. Such columns are for who approves a study to see.

Proof: let group g be in blocks A, B, C of the three levels. Give all rows of A to g. Its rows of
outcome t may be min(A, B_t), as in a table with given margins (Fréchet) one cell may be as large as
the smaller of its two margins; then likewise those predicted p min(A, B_t, C_tp). All three are at
least k. Of two columns that are judged by, both tables add up to the same counts of all groups, by
outcome and prediction, and in each of these a cell of both columns may be as large as the smaller
of the two. An area or an error is of a block's rows at the last level, whichever of its groups
they are. A hospital that subtracts its own rows is not held by this, nor is the server, which sees
the sums of every group.

``tests/common/judgement`` tries it by linear programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Block = tuple[int, ...]
Blocks = tuple[Block, ...]


@dataclass(frozen=True)
class Shown:
    """Blocks of groups by level, each of which is at least as coarse as the one before; none where
    even all groups together have too few."""

    rows: Blocks
    outcomes: Blocks
    predictions: Blocks


def shown_blocks(persons: Floats, least: int) -> Shown:
    """What may be shown of a column's groups.

    Parameters
    ----------
    persons : G x T x Q, of each group, outcome and prediction; a person counts in one cell only
    least : k
    """
    count = len(persons)
    rows = joined([(place,) for place in range(count)], persons.reshape(count, -1).sum(1), least)
    outcomes = joined(rows, persons.sum(axis=2), least)
    return Shown(rows, outcomes, joined(outcomes, persons.reshape(count, -1), least))


def joined(blocks: Sequence[Block], counts: Floats, least: int) -> Blocks:
    """Neighbouring blocks put together, from the first on, until each has ``least`` of every count;
    what is left at the end goes to the last one. () where all together have too few.

    counts : G, or G x M of M counts

    The order alone says who is put with whom: no size does but by being enough.
    """
    found: list[Block] = []
    open_: Block = ()
    for block in blocks:
        open_ += block
        if (counts[list(open_)].sum(axis=0) >= least).all():
            found.append(open_)
            open_ = ()
    if open_ and found:
        found[-1] += open_
    return tuple(found)
