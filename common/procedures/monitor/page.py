"""A watch over hospitals as a page, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wardround.common.procedures.frame import framed

_HOME = (
    "What is sudden at one hospital is a small share of a sum, and two opposite shifts cancel in "
    "it: each hospital's own watch (wardround client monitor) is where alarms live."
)


def page(found: Mapping[str, Any], name: str, purpose: str = "") -> str:
    """The page of a ``monitoring.json`` as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    count, least = found["hospitals"], found["smallest_cell"]
    which = "held-out rows" if found["rows"] == "held_out" else "all rows"
    head = (
        f"{count} hospital{'s' * (count != 1)}, {which}. Of the model {found['model'][:16]}. "
        f"Places with fewer than {least} are counted with the next ones, and all counts are "
        f"multiples of {least}."
    )
    parts = [
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f"<p>{escape(head)}</p>",
        f"<p>{escape(_HOME)}</p>",
        _compared(found["compared"]) if found.get("compared") else "",
        "<h2>Counts</h2>",
        *(
            f"<h3>{escape(one['role'])} '{escape(one['name'])}'</h3>\n"
            + _table(("place", "count"), [(place, f"{n:,}") for place, n in one["places"]])
            for one in found["fields"]
        ),
    ]
    return framed(f"{name}: what a finished model meets", parts)


def _compared(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"{one['role']} '{one['name']}'",
            "drifted" if one["drifted"] else "",
            one["what"],
            f"{one['before']:.1%}",
            f"{one['now']:.1%}",
            f"{one['psi']:.2f}",
        )
        for one in found
    ]
    head = ("", "", "differs most", "before", "now", "PSI")
    return "<h2>Beside the reference</h2>\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>\n{body}\n</table></div>'
