"""Statistics on a console: the first table of each analysis, as far as it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from wardround.common.procedures.statistics.page import shown

_MOST_ROWS, _MOST_COLUMNS = 14, 9


def answers(found: Mapping[str, Any]) -> Iterator[Table | Text]:
    """What ``statistics.json`` holds. Names and texts are others' and shown as they are."""
    for one in found["analyses"]:
        yield Text(f"\n{one['name']}", style="bold")
        for note in one["notes"]:
            yield Text(note, style="dim")
        if one["tables"]:
            yield from _table(one["tables"][0], len(one["tables"]) - 1)


def _table(sheet: Mapping[str, Any], others: int) -> Iterator[Table | Text]:
    head, rows = sheet["head"][:_MOST_COLUMNS], sheet["rows"]
    table = Table(box=SIMPLE, pad_edge=False)
    for place, name in enumerate(head):
        words = any(isinstance(row[place], str) for row in rows)
        table.add_column(Text(str(name)), justify="left" if words else "right", overflow="fold")
    for row in rows[:_MOST_ROWS]:
        cells = row[:_MOST_COLUMNS]
        table.add_row(*(Text(one if isinstance(one, str) else shown(one)) for one in cells))
    yield table
    left = [
        (len(rows) - _MOST_ROWS, "more row"),
        (len(sheet["head"]) - _MOST_COLUMNS, "more column"),
        (others, "more table"),
    ]
    said = [f"{count} {what}{'s' * (count != 1)}" for count, what in left if count > 0]
    if said:
        yield Text(f"{', '.join(said)} in the report", style="dim")
