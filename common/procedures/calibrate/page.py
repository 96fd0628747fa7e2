"""A calibration over hospitals as a page, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wardround.common.procedures.frame import framed


def page(found: Mapping[str, Any], name: str, purpose: str = "") -> str:
    """The page of a ``calibration.json`` as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    figures = found["figures"]
    count = figures["hospitals"]
    head = (
        f"{count} hospital{'s' * (count != 1)}, {found['rows']:,} rows. Of the model "
        f"{found['model'][:16]}; {found['method']}."
    )
    numbers = [(key, *map(_shown, value)) for key, value in figures["numbers"].items()]
    compared = [
        (key, _shown(value), _shown(figures["after"][key]))
        for key, value in figures["before"].items()
    ]
    gain = [("squared error falls by", *map(_shown, figures["gain"]))]
    parts = [
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f"<p>{escape(head)}</p>",
        *(f"<p>{escape(note)}</p>" for note in found["notes"]),
        "<h2>What corrects it</h2>\n" + _table(("", "value", "from", "to"), [*numbers, *gain]),
        "<h2>Before and after</h2>\n<p>Each half of the patients corrected by the other's rows.</p>"
        + _table(("figure", "before", "after"), compared),
    ]
    return framed(f"{name}: a finished model recalibrated", parts)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = []
    for first, *others in rows:
        cells = "".join(f'<td class="num">{escape(one)}</td>' for one in others)
        lines.append(f"<tr><td>{escape(first)}</td>{cells}</tr>")
    body = "\n".join(lines)
    return f'<div class="scroll"><table><tr>{top}</tr>\n{body}\n</table></div>'


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4g}"
