"""Statistics on a console: the first table of each analysis, as far as it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from wardround.common.procedures.statistics.page import shown

_MOST_ROWS, _WIDEST = 20, 20


def answers(found: Mapping[str, Any], width: int = 100) -> Iterator[Table | Text]:
    """What ``statistics.json`` holds. Names and texts are others' and shown as they are.

    width : of the console, in characters
    """
    for one in found["analyses"]:
        yield Text(f"\n{one['name']}", style="bold")
        for note in one["notes"]:
            yield Text(note, style="dim")
        if one["tables"]:
            yield from _table(one["tables"][0], len(one["tables"]) - 1, width)


def _table(sheet: Mapping[str, Any], others: int, width: int) -> Iterator[Table | Text]:
    """As many columns as have room: numbers stand whole."""
    rows = [[_cell(one) for one in row] for row in sheet["rows"][:_MOST_ROWS]]
    table, taken, shown_ = Table(box=SIMPLE, pad_edge=False), 0, 0
    for place, name in enumerate(sheet["head"]):
        words = any(isinstance(row[place], str) for row in sheet["rows"])
        room = max((len(row[place]) for row in rows), default=0)
        heading = max(map(len, str(name).split()), default=0)
        room = min(max(room, heading), _WIDEST if words else width) + 3
        if taken + room > width and place:
            break
        taken, shown_ = taken + room, place + 1
        table.add_column(
            Text(str(name)),
            justify="left" if words else "right",
            overflow="fold",
            min_width=room - 3,
            max_width=room - 3,
        )
    for row in rows:
        table.add_row(*(Text(one) for one in row[:shown_]))
    yield table
    left = [
        (len(sheet["rows"]) - _MOST_ROWS, "more row"),
        (len(sheet["head"]) - shown_, "more column"),
        (others, "more table"),
    ]
    said = [f"{count} {what}{'s' * (count != 1)}" for count, what in left if count > 0]
    if said:
        yield Text(f"{', '.join(said)} in the report", style="dim")


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)
