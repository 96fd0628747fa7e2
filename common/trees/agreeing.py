"""Where columns of numbers are cut, agreed from counts of rows over hospitals alone.

A float32 number has a *key*: its bits, as a whole number that orders as the number does. A column's
cells are ranges of keys; hospitals count their rows in each, and cells with many rows are divided
for the next count. So neither scale nor outliers matter, nobody's smallest or largest value is
asked for, and only counts are added, which travel in narrow words:

    count 0   2048 cells, the same for every column: sign, exponent, two bits of the fraction
    count 1   heavy cells divided, each into as many as its share of FINE allows
    count 2   the same again, of what is still heavy

*Error.* Cuts lie between cells. A cell is heavy that holds more than 1 / (4 B) of the rows, for B
bins; so a bin holds at most 1/B + 1/(4 B) of the rows, but for a cell that is heavy after count 2
too: one value that many rows have, or values that differ by less than a 4,000th part of what the
cell of count 1 spans. Nothing is divided that holds fewer rows than two bins must, and
into no more pieces than the bins that its rows could fill: the server sees counts of ranges, and
few of a few rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import TaskError
from wardround.common.trees.features import Floats32

Keys = NDArray[np.uint32]
Counts = NDArray[np.int64]
STEPS = 3
FINE = 4096
_FIRST_BITS = 11
_SIGN = np.uint32(1 << 31)
_FIRST_OF_ALL = 0x007FFFFF  # the key of the smallest finite float32
_LAST_OF_ALL = 0xFF7FFFFF  # and of the largest


def keys_of(values: Floats32) -> Keys:
    """The key of each: 0 and -0 have one key. Of numbers that are finite."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN).astype(np.uint32)


def values_of(keys: Keys) -> Floats32:
    """The numbers that have these keys."""
    bits = np.where(keys & _SIGN, keys & ~_SIGN, ~keys).astype(np.uint32)
    return bits.view(np.float32)


@dataclass(frozen=True)
class Cells:
    """One column's: cell i holds keys in [edges[i], edges[i + 1]), the last one all above.

    edges : uint32, rising; the first lies below every number
    """

    edges: Keys

    @classmethod
    def first(cls) -> Cells:
        """Of count 0."""
        return cls(np.arange(1 << _FIRST_BITS, dtype=np.uint32) << np.uint32(32 - _FIRST_BITS))

    def __len__(self) -> int:
        return len(self.edges)

    def counted(self, values: Floats32) -> Counts:
        """How many of the values lie in each cell; NaN in none."""
        keys = keys_of(values[np.isfinite(values)])
        places = np.searchsorted(self.edges, keys, side="right") - 1
        return np.bincount(places, minlength=len(self)).astype(np.int64)

    def divided(self, counts: Counts, most_bins: int, fewest_rows: int = 1) -> Cells | None:
        """The cells of the next count; None where no cell that holds much can be divided.

        most_bins, fewest_rows : as ``cuts_of`` takes them
        """
        total = int(counts.sum())
        ends = np.append(self.edges[1:].astype(np.int64), 1 << 32)
        widths = ends - self.edges
        heavy = (counts * 4 * most_bins > total) & (widths > 1)
        heavy &= counts >= 2 * fewest_rows
        if not heavy.any():
            return None
        wanted = np.ceil(counts * (FINE / max(1, total))).astype(np.int64)
        wanted = np.maximum(2, np.minimum(wanted, counts // fewest_rows))
        pieces = np.where(heavy, np.minimum(wanted, widths), 1)
        kept = heavy | (counts > 0) | np.append(True, counts[:-1] > 0)
        edges = [
            start + np.arange(number) * width // number
            for start, width, number in zip(
                self.edges[kept].astype(np.int64), widths[kept], pieces[kept], strict=True
            )
        ]
        return Cells(np.concatenate(edges).astype(np.uint32))


def cells_at(counts: Sequence[Counts], most_bins: int, fewest_rows: int = 1) -> Cells | None:
    """One column's cells of the next count, by the counts so far; None where enough is known.

    most_bins, fewest_rows : as ``cuts_of`` takes them

    Raises TaskError for counts that no hospitals could have given.
    """
    cells = Cells.first()
    for one in counts:
        _check(one, cells)
        following = cells.divided(one, most_bins, fewest_rows)
        if following is None:
            return None
        cells = following
    return cells if len(counts) < STEPS else None


def cuts_of(counts: Sequence[Counts], most_bins: int, fewest_rows: int = 1) -> Floats32:
    """One column's cuts, float32, rising; a value below a cut lies left of it.

    Parameters
    ----------
    counts : the totals of each count that was asked
    most_bins : B, the most bins of numbers; there are at most B - 1 cuts
    fewest_rows : that a bin holds, where the column has so many: a cut must not tell where one
        person's value lies
    """
    cells = Cells.first()
    for one in counts[:-1]:
        cells = cells.divided(one, most_bins, fewest_rows) or cells
    last = counts[-1]
    _check(last, cells)
    filled = np.flatnonzero(last)
    if len(filled) < 2:
        return np.empty(0, np.float32)
    # values that hospitals don't have lie between cells: the cut is set in the middle of such a gap
    starts = cells.edges[filled].astype(np.int64)
    ends = np.append(cells.edges[1:].astype(np.int64), 1 << 32)[filled]
    bounds = _between(ends[:-1] - 1, starts[1:])
    chosen = _closed(last[filled], most_bins, fewest_rows)
    return np.unique(bounds[chosen])


def _between(last: NDArray[np.int64], following: NDArray[np.int64]) -> Floats32:
    """A cut above the first key and not above the second: the middle of their values, so that
    values that hospitals don't have yet fall to the nearer side."""
    low = values_of(np.clip(last, _FIRST_OF_ALL, _LAST_OF_ALL).astype(np.uint32))
    high = values_of(np.clip(following, _FIRST_OF_ALL, _LAST_OF_ALL).astype(np.uint32))
    middle = ((low.astype(np.float64) + high) / 2).astype(np.float32)
    return np.where(middle > low, middle, high)


def _closed(counts: Counts, most_bins: int, fewest_rows: int) -> NDArray[np.int64]:
    """After which of the filled cells a bin ends.

    Bins are filled up to an equal share of the rows that are left; a cell of more than such a share
    is a bin of its own, as one value that many rows have is.
    """
    total = left = int(counts.sum())
    if len(counts) <= most_bins and fewest_rows <= 1:
        return np.arange(len(counts) - 1)
    found, held, bins = list[int](), 0, most_bins
    for place, count in enumerate(counts[:-1].tolist()):
        share = left / bins
        held += count
        following = int(counts[place + 1])
        alone = following > share and following >= fewest_rows
        few = len(counts) - 1 - place < bins  # every cell that is left may have a bin
        if held >= fewest_rows and (held >= share or alone or few) and bins > 1:
            if left - held < min(fewest_rows, total):
                break
            found.append(place)
            left, held, bins = left - held, 0, bins - 1
    return np.array(found, np.int64)


def _check(counts: Counts, cells: Cells) -> None:
    if counts.shape != (len(cells),) or (counts < 0).any():
        raise TaskError("totals of cells aren't counts of rows")
