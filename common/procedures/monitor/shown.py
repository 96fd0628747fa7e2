"""What is shown of a histogram over hospitals: no count of few persons, and none to work out.

Places lie in the field's order. From the first on they are gathered until they hold k rows; these
are shown together, at the place that made k full, and every other place of them as 0. The end of
each lot is rounded to a multiple of k from the start of the field, so what is shown up to any of
these places is wrong by k / 2 at most, however many places there are.

So a place that is 0 held anything from 0 to k - 1, whatever else is known: the number of all rows
too, which is no secret of a federation. For that the last lot must be of 2k, the places after it
included, which belong to it: else it joins the one before, and a field with fewer rows than 2k
isn't shown at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shown_counts(counts: NDArray[Any], least: int) -> NDArray[np.int64]:
    """Multiples of ``least`` by place, none of fewer.

    counts : exact, whole
    least : k

    >>> shown_counts(np.array([1, 2, 9, 0, 13, 3]), 5).tolist()
    [0, 0, 10, 0, 20, 0]
    >>> shown_counts(np.array([5, 4]), 5).tolist()
    [0, 0]
    """
    upto = np.cumsum(np.asarray(counts, dtype=np.int64))
    found = np.zeros(len(upto), dtype=np.int64)
    ends, last = list[int](), 0
    for place, total in enumerate(upto.tolist()):
        if total - last >= least:
            ends.append(place)
            last = total
    while ends and upto[-1] - (upto[ends[-2]] if len(ends) > 1 else 0) < 2 * least:
        ends.pop()
    if not ends:
        return found
    edges = [int(upto[place]) for place in ends[:-1]] + [int(upto[-1])]
    rounded = [(2 * one + least) // (2 * least) * least for one in edges]
    found[ends] = np.diff([0, *rounded])
    return found
