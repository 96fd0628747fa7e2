"""Columns of two values: which texts mean 1, and which 0.

Without being told, 0/1, true/false, yes/no and their initials are read. Where a configuration names
the texts of 1, whatever else stands in the column means 0 as long as it is one text: a second one
(unknown, lost to follow-up) is no negative by default, and needs a decision. So does a column that
holds nothing but a 1, true or yes which the list lacks: another hospital's word for 1 was named,
and this one's cases would all become 0. Letters' case never tells two values apart here. No message
quotes a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.table import Coded, Table
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
        coded = self._coded(table, column)
        texts = coded.texts

        def place(text: str) -> str:
            return table.place(coded.first(text), column)

        if self.positive is None:
            ones, zeros = _YES, _NO
            mend = (
                "not 0/1, true/false or yes/no; name every hospital's texts that mean 1 in "
                f"{self.key} (1, true and yes too: the list replaces them)"
            )
        else:
            ones = frozenset(code(text).casefold() for text in self.positive)
            zeros = self._zeros(texts, [t for t in texts if t not in ones], place)
            mend = (
                f"a text that is neither in {self.key} nor in {self.negative_key}; add it to one "
                "of them, or to task.missing_values"
            )
        odd = np.array([text not in ones and text not in zeros for text in texts] + [False])
        if (rows := np.flatnonzero(odd[coded.index])).size:
            raise table.wrong(rows, column, f"{mend}{self.otherwise}")
        return np.array([*(float(text in ones) for text in texts), np.nan])[coded.index]

    def _coded(self, table: Table, column: str) -> Coded:
        """The column's texts as they are called, in small letters."""
        called = {text.casefold(): name.casefold() for text, name in self.spellings.items()}
        return table.coded(column).called(lambda x: called.get(x.casefold(), x.casefold()))

    def _zeros(
        self, texts: Sequence[str], others: Sequence[str], place: Callable[[str], str]
    ) -> frozenset[str]:
        """The texts of 0: those declared, or the only one beside the positive ones."""
        if self.negative is not None:
            return frozenset(code(text).casefold() for text in self.negative)
        found = list(others)
        if len(found) > 1:
            first, second = place(found[0]), place(found[1])
            raise DataError(
                f"{second}: not in {self.key}, and another text than in {first}; add those that "
                f"mean 1 to {self.key}, list those that mean 0 in {self.negative_key}, and the "
                "others in task.missing_values"
            )
        # no text of the column is in the list, and the only one there often means 1
        if len(others) == len(texts) and not _YES.isdisjoint(found):
            raise DataError(
                f"{place(found[0])}: the column has this text only, which isn't in {self.key} and "
                f"often means 1; add it there, or to {self.negative_key} if it means 0"
            )
        return frozenset(found)

    def present(self, table: Table, column: str) -> list[bool]:
        """Whether each of the declared positive texts stands in the column."""
        there = self._coded(table, column).texts
        return [code(text).casefold() in there for text in self.positive or ()]
