"""A hospital's rows as analyses read them: a column is what an analysis uses it as.

Shapes: N rows of a hospital, of every split; K levels of a column.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wardround.common.procedures.describe.columns import TWO, Column, Rows
from wardround.common.tasks.tabular import TabularTask

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
MISSING, OTHER = -1, -2


class Frame(Rows):
    """Rows of one hospital, none of its tables empty; what is read once is kept."""

    def values(self, column: str) -> Floats:
        """N numbers; NaN where missing. Raises DataError at a cell that is none, by its place."""
        return self.numbers(Column(column))

    def truths(self, column: str) -> Floats:
        """N times 1, 0 or NaN, by ``task.columns.positive`` or what is usual (1, true, yes).
        Raises DataError at another text, by its place."""
        found = self.codes(Column(column, TWO, two=True), TWO).astype(np.float64)
        found[found > 1] = np.nan
        return found

    def levels(self, column: str, texts: Sequence[str]) -> Ints:
        """N places in ``texts``; ``MISSING`` or ``OTHER`` where it is none of them."""
        found = self.codes(category(column, self._task), texts)
        found[found == len(texts)] = OTHER
        found[found == len(texts) + 1] = MISSING
        return found

    @property
    def whose(self) -> Ints | None:
        """N numbers of persons, from 0; None where the study names no patients."""
        return self._persons

    def people(self, mask: Mask) -> int:
        """How many persons have a row in the mask; rows where the study names no patients."""
        if self._persons is None:
            return int(mask.sum())
        return len(np.unique(self._persons[mask]))

    def counted_people(self, codes: Ints, size: int) -> Floats:
        """How many persons are in each of ``size`` places, each in every place that one of their
        rows is in; a negative place counts nowhere."""
        counted = self.counted("", codes, size)
        return counted.get("/persons", counted["/rows"])


def category(column: str, task: TabularTask) -> Column:
    """A column as one of categories: declared texts, 0 and 1, or agreed from counts (None)."""
    columns = task.options.columns
    if column in columns.binary:
        return Column(column, TWO, two=True)
    return Column(column, tuple(columns.categories.get(column, ())) or None)
