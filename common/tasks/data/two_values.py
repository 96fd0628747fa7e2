"""Columns of two values: which texts mean 1, and which 0.

Without being told, 0/1, true/false, yes/no and their initials are read. Where a configuration names
the texts of 1, whatever else stands in the column means 0 as long as it is one text: a second one
(unknown, lost to follow-up) is no negative by default, and needs a decision. So does a column that
holds nothing but a 1, true or yes which the list lacks: another hospital's word for 1 was named,
and this one's cases would all become 0. Letters' case never tells two values apart here. No message
quotes a cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.table import Table
from wardround.common.text import code

_YES = frozenset(["1", "true", "t", "yes", "y"])
_NO = frozenset(["0", "false", "f", "no", "n"])


@dataclass(frozen=True)
class TwoValues:
    """What the texts of one column mean.

    positive, negative : in any case of letters; None where the configuration names none
    key : of the list of positive texts, for messages ('task.positive')
    otherwise : what else could help where a text isn't read, for messages
    spellings : what a text is called, by how it is written; others are called as they are
    """

    positive: Sequence[str] | None = None
    negative: Sequence[str] | None = None
    key: str = "task.positive"
    otherwise: str = ""
    spellings: Mapping[str, str] = field(default_factory=dict)

    @property
    def negative_key(self) -> str:
        """Of the list of negative texts."""
        return self.key.replace("positive", "negative")

    def read(self, table: Table, column: str) -> NDArray[np.float64]:
        """The column as 0.0 and 1.0, NaN where missing. Raises DataError for a text that is
        neither, by its place."""
        texts = self._texts(table, column)
        if self.positive is None:
            ones, zeros = _YES, _NO
            mend = (
                "not 0/1, true/false or yes/no; name every hospital's texts that mean 1 in "
                f"{self.key} (1, true and yes too: the list replaces them)"
            )
        else:
            ones = frozenset(code(text).casefold() for text in self.positive)
            zeros = self._zeros(table, column, texts, [t for t in texts if t not in ones])
            mend = (
                f"a text that is neither in {self.key} nor in {self.negative_key}; add it to one "
                "of them, or to task.missing_values"
            )
        values = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            if text in ones or text in zeros:
                values[row] = float(text in ones)
            elif text is not None:
                raise DataError(f"{table.place(row, column)}: {mend}{self.otherwise}")
        return values

    def _texts(self, table: Table, column: str) -> list[str | None]:
        """The column's cells as they are called, in small letters."""
        cells = table.cells(column)
        called = {text.casefold(): name.casefold() for text, name in self.spellings.items()}
        found = (None if cell is None else code(cell).casefold() for cell in cells)
        return [None if text is None else called.get(text, text) for text in found]

    def _zeros(
        self, table: Table, column: str, texts: Sequence[str | None], others: Sequence[str | None]
    ) -> frozenset[str]:
        """The texts of 0: those declared, or the only one beside the positive ones."""
        if self.negative is not None:
            return frozenset(code(text).casefold() for text in self.negative)
        found = list(dict.fromkeys(text for text in others if text is not None))
        if len(found) > 1:
            first, second = (table.place(texts.index(text), column) for text in found[:2])
            raise DataError(
                f"{second}: not in {self.key}, and another text than in {first}; add those that "
                f"mean 1 to {self.key}, list those that mean 0 in {self.negative_key}, and the "
                "others in task.missing_values"
            )
        # no text of the column is in the list, and the only one there often means 1
        if len(set(others)) == len(set(texts)) and not _YES.isdisjoint(found):
            place = table.place(texts.index(found[0]), column)
            raise DataError(
                f"{place}: the column has this text only, which isn't in {self.key} and often "
                f"means 1; add it there, or to {self.negative_key} if it means 0"
            )
        return frozenset(found)

    def present(self, table: Table, column: str) -> list[bool]:
        """Whether each of the declared positive texts stands in the column."""
        there = set(self._texts(table, column))
        return [code(text).casefold() in there for text in self.positive or ()]
