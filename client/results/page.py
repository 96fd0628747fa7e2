"""The page of a hospital's own figures: opens offline, asks no one for anything, runs nothing.

It has no script and may load none (its policy says so), and nothing of the server's pages is in it:
names, numbers and reasons that came from outside are escaped. Made of what is installed at every
hospital. Equal input gives equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from wardround.client.results.figures import OwnFigures, share
from wardround.client.results.left import Left
from wardround.common.figures.figure import (
    BOUND_SENTENCE,
    MEAN,
    OVERALL,
    FigureTable,
    is_number,
    with_bound,
)
from wardround.common.protocol.names import HELD_OUT, SPLITS

_PROTECTIONS = {
    "none": "in plain",
    "sizes": "numbers of rows or steps",
    "noised": "with noise of differential privacy",
    "masked": "masked: the server learns the sum over hospitals only",
    "masked+noised": "masked, with noise of differential privacy",
    "keys": "keys, signatures, names: nothing of the data",
    "as before": "sent again as it was",
}
_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee5;
  --page: #fff; --card: #f6f8fa; --accent: #005a8c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #a5b0bd; --line: #38414c;
  --page: #14181d; --card: #1d232a; --accent: #7cc4f0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; margin: 0; line-height: 1.2; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .6rem; }
p, li { max-width: 46rem; } .soft { color: var(--soft); }
.answer { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.6rem 0; padding: 0;
  list-style: none; }
.answer li { flex: 1 1 9rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; padding: .8rem 1rem; }
.answer .own { border: 2px solid var(--accent); }
.answer b { display: block; font-size: 1.7rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); text-align: left; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; } .num { text-align: right; }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(found: OwnFigures, table: FigureTable, left: Left, purpose: str = "") -> str:
    """The page as HTML text. ``purpose``: the study's, in its researcher's words."""
    split = next((one for one in reversed(HELD_OUT) if one in found.figures), "test")
    parts = [
        f"<h1>{escape(found.run)} at {escape(found.hospital)}</h1>",
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f'<p class="soft">The model of round {found.round} on this hospital\'s own rows. These '
        "figures were worked out here and were never sent.</p>",
        _answer(found, table, left, split),
        *(_table(found, table, one) for one in reversed(HELD_OUT) if one in found.figures),
        _rows(found),
        _left(left),
        _notes(found),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(found.run)} at {escape(found.hospital)}</title>\n"
        f"<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def number(value: Any) -> str:
    """Three decimals; a dash where there is no finite number."""
    return f"{value:.3f}" if is_number(value) else "–"


def human_bytes(size: float) -> str:
    """Bytes in the unit that reads best, powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _answer(found: OwnFigures, table: FigureTable, left: Left, split: str) -> str:
    figure, own = table.primary, found.figures.get(split, {})
    theirs = found.federation.get(split, {}).get(figure.stands, {})
    cards = [
        ("own", "this hospital", number(own.get(figure.name)), f"{figure.name}, {split} rows"),
        ("", "all hospitals", number(theirs.get(figure.name)), figure.name_of(figure.stands)),
        ("", "left this hospital", human_bytes(left.size_bytes), _messages(left)),
    ]
    if left.epsilon is not None:
        spent = f"{left.epsilon:.3g}"
        cards.append(("", "privacy spent", spent, "epsilon, over all runs of its ledger"))
    items = (
        f'<li class="{kind}">{escape(title)}<b>{escape(value)}</b>'
        f'<span class="soft">{escape(what)}</span></li>'
        for kind, title, value, what in cards
    )
    inside = "\n".join(items)
    return f'<ul class="answer">\n{inside}\n</ul>'


def _messages(left: Left) -> str:
    count = len(left.messages)
    return "1 message" if count == 1 else f"{count} messages"


def _table(found: OwnFigures, table: FigureTable, split: str) -> str:
    """A figure a row, the primary one first; counts and bounds are none of their own."""
    own, theirs = found.figures[split], found.federation.get(split, {})
    hidden = table.counts() | table.bounds()
    names = [name for name in own if name not in hidden and name != table.primary.name]
    if table.primary.name in own:
        names.insert(0, table.primary.name)
    rows = []
    for name in names:
        figure, cells = table[name], [name]
        for figures in (own, theirs.get(MEAN, {}), theirs.get(OVERALL, {})):
            cells.append(with_bound(number(figures.get(name)), figure.bound_in(figures)))
        rows.append(cells)
    head = ("figure", "this hospital", "mean of hospitals", "all rows together")
    bounded = any("±" in cell for cells in rows for cell in cells[1:])
    note = f'\n<p class="soft">{BOUND_SENTENCE}.</p>' if bounded else ""
    return f"<h2>On {split} rows</h2>\n" + _html_table(head, rows) + note


def _rows(found: OwnFigures) -> str:
    rows = []
    for split in SPLITS:
        part, total = share(found, split), found.all_rows.get(split)
        known = "" if math.isnan(part) else f"{part:.1%}"
        rows.append([split, str(found.rows.get(split, 0)), str(total or "–"), known or "–"])
    return "<h2>Rows</h2>\n" + _html_table(("split", "here", "of all hospitals", "share"), rows)


def _left(left: Left) -> str:
    rows = [
        [_PROTECTIONS.get(name, name), human_bytes(size)]
        for name, size in sorted(left.by_protection.items())
    ]
    text = (
        f'<p class="soft">As this hospital\'s own audit log has it, up to line {left.head["seq"]}; '
        "each message stands in <code>left.json</code>.</p>"
    )
    return f"<h2>What left this hospital</h2>\n{text}\n" + _html_table(
        ("protection", "bytes"), rows
    )


def _notes(found: OwnFigures) -> str:
    if not found.notes:
        return ""
    return (
        "<h2>Notes</h2>\n<ul>\n"
        + "\n".join(f"<li>{escape(x)}</li>" for x in found.notes)
        + "\n</ul>"
    )


def _html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Sequence[str], cell: str) -> str:
        marks = ["" if not i else ' class="num"' for i in range(len(cells))]
        inside = "".join(
            f"<{cell}{m}>{escape(c)}</{cell}>" for c, m in zip(cells, marks, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(row(one, "td") for one in rows)
    return (
        f'<div class="scroll"><table>\n<thead>{row(head, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
