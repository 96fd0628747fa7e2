"""The page of a check, for people at the hospital: it stays there."""

from __future__ import annotations

from html import escape

from wardround.client.check.finding import Checked
from wardround.common.offline_page import document, table

_SAYS = {
    "error": "would end or spoil the study here",
    "warning": "for a person to judge",
    "ok": "as it should be",
}


def page(found: Checked) -> str:
    """The page as HTML text. Equal input gives equal bytes."""
    title = f"{found.data} for {found.asked}"
    counts = {state: sum(one.state == state for one in found.findings) for state in _SAYS}
    cards = [("usable rows", "–" if found.rows is None else f"{found.rows:,}", "")]
    cards += [
        (f"{state}s" if state != "ok" else state, str(counts[state]), what)
        for state, what in _SAYS.items()
    ]
    items = "\n".join(
        f'<li>{escape(name)}<b>{escape(value)}</b><span class="soft">{escape(what)}</span></li>'
        for name, value, what in cards
    )
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="soft">Made at this hospital by <code>wardround data check</code>, from its own '
        "rows; nothing of it was sent. No value is shown that fewer than five rows share, and this "
        "page is still not for others.</p>",
        f'<ul class="answer">\n{items}\n</ul>',
        _findings(found),
        _columns(found),
        _counts("Parts", ("part", "rows"), found.parts),
        _counts("Labels", ("label", "rows"), found.labels),
    ]
    return document(title, parts)


def _findings(found: Checked) -> str:
    if not found.findings:
        return ""
    rows = "\n".join(
        f'<tr><td class="{one.state}">{one.state}</td><td>{escape(one.what)}</td>'
        f"<td>{escape(one.text)}</td><td>{escape(one.mend)}</td></tr>"
        for one in found.findings
    )
    head = "".join(f"<th>{one}</th>" for one in ("", "where", "what is so", "what to do"))
    return (
        '<h2>What was found</h2>\n<div class="scroll"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _columns(found: Checked) -> str:
    if not found.columns:
        return ""
    head = ("column", "for the study", "kind", "values", "filled")
    rows = [(one.name, one.role, one.kind, one.values, one.filled) for one in found.columns]
    return "<h2>Columns</h2>\n" + table(head, rows, texts=4)


def _counts(title: str, head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return f"<h2>{title}</h2>\n" + table(head, rows) if rows else ""
