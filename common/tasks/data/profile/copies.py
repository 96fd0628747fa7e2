"""Columns that give a target away: its copies, and what tells its values without a mistake.

A target of few values is compared by counts of pairs, a number by the correlation of ranks' own
values; each column is one pass. Rows where either is missing count nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.common.tasks.data.profile.column import LEAST
from wardround.common.text import code

_FEWEST_ROWS = 20
_MOST_VALUES = 50
_A_LOOK = 10_000
_MOST_WRONG = 0.05
"""Of the rows that don't have the target's most frequent value: a near copy has it wrong in no more
than these."""


@dataclass(frozen=True)
class Copy:
    """A column that says what the target is.

    how : ``equal``; ``recoded`` (other values, one for each of the target's); ``nearly`` (either,
        but for ``wrong`` rows); ``gaps`` (it is filled where the target has one value only);
        ``parts`` (a number, all of one value's rows lie above all of the other's; or categories,
        all rows of each have one value)
    """

    column: str
    how: Literal["equal", "recoded", "nearly", "gaps", "parts"]
    wrong: int = 0


def copies(table: pa.Table, target: str, among: Iterable[str] | None = None) -> dict[str, Copy]:
    """The columns (of ``among``, or all others) that give the target away, by name.

    None where too few rows could show it: fewer than 20, or fewer than 5 that differ from the most
    frequent value.
    """
    names = [name for name in (among or table.column_names) if name != target]
    goal = table.column(target)
    filled = ~_gaps(goal)
    values, _ = _codes(goal)
    distinct = int((np.bincount(values[filled]) > 0).sum())
    if filled.sum() < _FEWEST_ROWS or distinct < 2:
        return {}
    if distinct > _MOST_VALUES:
        found = (_of_number(name, table.column(name), goal) for name in names)
    else:
        sizes = np.bincount(values[filled])
        if filled.sum() - sizes.max() < LEAST:
            return {}
        found = (_of_values(name, table.column(name), goal, values, filled) for name in names)
    return {one.column: one for one in found if one is not None}


def _of_values(
    name: str,
    column: pa.ChunkedArray,
    goal: pa.ChunkedArray,
    values: NDArray[np.int64],
    filled: NDArray[np.bool_],
) -> Copy | None:
    """A target of few values."""
    there = ~_gaps(column)
    both = there & filled
    if _gives_gaps(values, filled, there):
        return Copy(name, "gaps")
    if both.sum() < _FEWEST_ROWS:
        return None
    goal_of = values[both]
    others = int(both.sum()) - np.bincount(goal_of).max()
    if others < LEAST:
        return None
    if _has_many(column):
        return _parts(name, column, goal_of, both)
    own, _ = _codes(column)
    width = int(values.max()) + 1
    cells = np.bincount(own[both] * width + goal_of, minlength=(int(own.max()) + 1) * width)
    pairs = cells.reshape(-1, width)
    pairs = pairs[pairs.any(axis=1)]
    wrong = int(both.sum() - pairs.max(axis=1).sum())
    same_count = len(pairs) == int((pairs.sum(axis=0) > 0).sum())
    if wrong == 0 and same_count:
        return Copy(name, "equal" if _same_texts(column, goal, both) else "recoded")
    if (
        same_count
        and wrong <= _MOST_WRONG * others
        and len(set(pairs.argmax(axis=1))) == len(pairs)
    ):
        return Copy(name, "nearly", wrong)
    if wrong == 0 and LEAST * len(pairs) <= both.sum():
        return Copy(name, "parts")
    return _parts(name, column, goal_of, both)


def _gives_gaps(
    values: NDArray[np.int64], filled: NDArray[np.bool_], there: NDArray[np.bool_]
) -> bool:
    """Whether a column is filled for rows of one of two values, and for no others."""
    with_it, without = values[filled & there], values[filled & ~there]
    if min(len(with_it), len(without)) < LEAST:
        return False
    one, other = (np.flatnonzero(np.bincount(some)) for some in (with_it, without))
    return len(one) == len(other) == 1 and one[0] != other[0]


def _parts(
    name: str, column: pa.ChunkedArray, goal: NDArray[np.int64], both: NDArray[np.bool_]
) -> Copy | None:
    groups = np.flatnonzero(np.bincount(goal))
    if len(groups) != 2 or not _is_number(column):
        return None
    numbers = _numbers(column)[both]
    one, other = numbers[goal == groups[0]], numbers[goal == groups[1]]
    apart = one.max() < other.min() or other.max() < one.min()
    return Copy(name, "parts") if apart else None


def _of_number(name: str, column: pa.ChunkedArray, goal: pa.ChunkedArray) -> Copy | None:
    """A target that is a number: equal, or a straight line of it (another unit)."""
    if not (_is_number(column) and _is_number(goal)):
        return None
    one, other = _numbers(column), _numbers(goal)
    both = np.isfinite(one) & np.isfinite(other)
    one, other = one[both], other[both]
    if len(one) < _FEWEST_ROWS or one.std() == 0 or other.std() == 0:
        return None
    if np.array_equal(one, other):
        return Copy(name, "equal")
    same = (np.abs(one - other) <= 1e-9 * np.abs(other)).mean()
    if same >= 0.99:
        return Copy(name, "nearly", int(round((1 - same) * len(one))))
    return Copy(name, "recoded") if abs(np.corrcoef(one, other)[0, 1]) > 0.99999 else None


# --- columns as arrays ----------------------------------------------------------------------------
def _is_number(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _gaps(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    empty = pc.is_null(column, nan_is_null=True)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        empty = pc.or_(empty, pc.equal(pc.utf8_trim_whitespace(column), "").fill_null(False))
    return np.asarray(empty.to_numpy(), dtype=np.bool_)


def _has_many(column: pa.ChunkedArray) -> bool:
    """Whether its values are too many to be a target's; the first rows say it where they do."""
    most = 4 * _MOST_VALUES
    return any(
        pc.count_distinct(part).as_py() > most for part in (column.slice(0, _A_LOOK), column)
    )


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], pa.Array]:
    """Each row's value as a number from 0 (-1: null), and the values."""
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    index = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return index, encoded.dictionary


def _same_texts(column: pa.ChunkedArray, goal: pa.ChunkedArray, both: NDArray[np.bool_]) -> bool:
    """Whether values that stand in one row are the same text, in all rows: by distinct pairs."""
    first, names = _codes(column.filter(pa.array(both)))
    second, others = _codes(goal.filter(pa.array(both)))
    pairs = np.unique(np.column_stack([first, second]), axis=0)
    return all(_text(names[int(a)]) == _text(others[int(b)]) for a, b in pairs)


def _text(value: pa.Scalar) -> str:
    found = value.as_py()
    return code(str(found).lower() if isinstance(found, bool) else str(found)).casefold()
