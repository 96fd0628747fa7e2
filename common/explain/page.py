"""The page of explained rows: for people where the rows are, and for nobody else."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from wardround.common.explain.explain import Explained, Part
from wardround.common.offline_page import document, table

_SHOWN = 20


def page(title: str, rows: Sequence[Explained], tokens: bool) -> str:
    """The page as HTML text; equal input gives equal bytes.

    tokens : whether parts are of a text's tokens, in their order
    """
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">Made where the rows are, from these rows; it may show who a patient is. '
        "Keep it here. Parts say what moved this model's output for this row. They don't say what "
        "causes a disease, nor what would happen if an input were changed.</p>",
    ]
    for one in rows:
        parts.append(f"<h2>Row {one.row}</h2>")
        parts.append(
            f"<p>{escape(one.of)}: <b>{one.value:.4g}</b>"
            + ("" if one.picture else f", counted from {one.base:.4g}")
            + "</p>"
        )
        if one.picture:
            data = base64.b64encode(one.picture).decode()
            parts.append(f'<img alt="row {one.row}" src="data:image/png;base64,{data}">')
        elif tokens:
            parts.append(_text(one.parts))
        if one.parts:
            parts.append(_table(one))
    return document(title, parts, pictures=True)


def _table(one: Explained) -> str:
    ranked = sorted(one.parts, key=lambda part: (-abs(part.value), part.of))
    rows = [
        (part.of, f"{part.value:+.4g}", f"± {part.error:.2g}" if part.error else "")
        for part in ranked[:_SHOWN]
    ]
    if len(ranked) > _SHOWN:
        rest = sum(part.value for part in ranked[_SHOWN:])
        rows.append((f"{len(ranked) - _SHOWN} others", f"{rest:+.4g}", ""))
    if abs(one.missed) > 1e-3 * max(1.0, abs(one.value - one.base)):
        rows.append(("not accounted for", f"{one.missed:+.4g}", ""))
    return table(("of", "moves it by", ""), rows)


def _text(parts: Sequence[Part]) -> str:
    """The text, each token on a ground that is the darker the more it moves the output."""
    most = max((abs(part.value) for part in parts), default=0.0) or 1.0
    marks = []
    for part in parts:
        colour = "179,38,30" if part.value > 0 else "0,90,140"
        shade = f"rgba({colour},{0.6 * abs(part.value) / most:.2f})"
        marks.append(f'<span style="background:{shade}">{escape(part.of)}</span>')
    return f'<p>{" ".join(marks)}</p>\n<p class="soft">red: for it; blue: against it</p>'
