"""A look at all columns of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from wardround.common.tasks.data.profile.column import LEAST, ColumnProfile, Kind, look
from wardround.common.text import normal_text


@dataclass(frozen=True)
class Profile:
    """What a table is: ``columns`` by name, in the table's order."""

    rows: int
    columns: Mapping[str, ColumnProfile]

    def __getitem__(self, name: str) -> ColumnProfile:
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def of(self, *kinds: Kind) -> Iterator[ColumnProfile]:
        """The columns of these kinds."""
        return (column for column in self.columns.values() if column.kind in kinds)


def profile(table: pa.Table, least: int = LEAST) -> Profile:
    """A look at each column of a typed table (float64, int64, string, bool, dates).

    Texts of numbers or dates count as such where nine in ten of a column's are: a reader leaves a
    column as texts for a lone '.'.

    least : fewest rows that must share a text before it may be shown
    """
    return Profile(
        table.num_rows,
        {
            name: look(name, table.column(number), least)
            for number, name in enumerate(map(normal_text, table.column_names))
        },
    )
