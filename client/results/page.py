"""The page of a hospital's own figures: opens offline, asks no one for anything, runs nothing.

Nothing of the server's pages is in it (``common/offline_page.py``): names, numbers and reasons that
came from outside are escaped. Made of what is installed at every hospital.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wardround.client.results.figures import OwnFigures, share
from wardround.client.results.left import Left
from wardround.client.results.svg import plot
from wardround.common.figures.curves import Groups, calibration, roc
from wardround.common.figures.figure import (
    BOUND_SENTENCE,
    MEAN,
    OVERALL,
    FigureTable,
    is_number,
    with_bound,
)
from wardround.common.offline_page import document
from wardround.common.offline_page import table as table_of
from wardround.common.protocol.names import HELD_OUT, SPLITS
from wardround.common.run.traffic import human_bytes

_PROTECTIONS = {
    "none": "in plain",
    "sizes": "numbers of rows or steps",
    "noised": "with noise of differential privacy",
    "sealed": "sealed for other hospitals of the plan: the server can't read it",
    "masked": "masked: the server learns the sum over hospitals only",
    "masked+noised": "masked, with noise of differential privacy",
    "keys": "keys, signatures, names: nothing of the data",
    "as before": "sent again as it was",
}


def page(
    found: OwnFigures,
    table: FigureTable,
    left: Left,
    purpose: str = "",
    theirs: Mapping[str, Groups] | None = None,
) -> str:
    """The page as HTML text. ``purpose``: the study's, in its researcher's words. ``theirs``: score
    groups of all hospitals, by split."""
    split = next((one for one in reversed(HELD_OUT) if one in found.figures), "test")
    parts = [
        f"<h1>{escape(found.run)} at {escape(found.hospital)}</h1>",
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f'<p class="soft">The model of round {found.round} on this hospital\'s own rows. These '
        "figures were worked out here and were never sent.</p>"
        if found.round
        else "",
        _answer(found, table, left, split),
        *(_table(found, table, one) for one in reversed(HELD_OUT) if one in found.figures),
        *(_drawn(found, theirs or {}, one) for one in reversed(HELD_OUT) if one in found.curves),
        _rows(found),
        _left(left),
        _notes(found),
    ]
    return document(f"{found.run} at {found.hospital}", parts)


def number(value: Any) -> str:
    """Three decimals; a dash where there is no finite number."""
    return f"{value:.3f}" if is_number(value) else "–"


def _answer(found: OwnFigures, table: FigureTable, left: Left, split: str) -> str:
    figure, own = table.primary, found.figures.get(split, {})
    theirs = found.federation.get(split, {}).get(figure.stands, {})
    cards = []
    if found.round:  # else no model was trained
        cards = [
            ("own", "this hospital", number(own.get(figure.name)), f"{figure.name}, {split} rows"),
            ("", "all hospitals", number(theirs.get(figure.name)), figure.name_of(figure.stands)),
        ]
    cards.append(("", "left this hospital", human_bytes(left.size_bytes), _messages(left)))
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
        cells.insert(2, _span(found.intervals.get(split, {}).get(name)))
        rows.append(cells)
    head = ("figure", "this hospital", "95 % interval", "mean of hospitals", "all rows together")
    bounded = any("±" in cell for cells in rows for cell in cells[1:])
    note = f'\n<p class="soft">{BOUND_SENTENCE}.</p>' if bounded else ""
    return f"<h2>On {split} rows</h2>\n" + table_of(head, rows) + note


def _span(ends: Sequence[float] | None) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else ""


def _drawn(found: OwnFigures, theirs: Mapping[str, Groups], split: str) -> str:
    """Curves of this hospital's rows, beside those of all hospitals."""
    try:
        own = Groups.read(found.curves[split])
        groups = [("this hospital", own)]
        if split in theirs:
            groups.append(("all hospitals", theirs[split]))
        plots = [
            plot("False positive rate", "Sensitivity", [(n, *roc(g)) for n, g in groups]),
            plot("Predicted", "Observed", [(n, *points(g)) for n, g in groups], dots=True),
        ]
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError):
        return ""
    return (
        f'<h2>Curves on {split} rows</h2>\n<p class="soft">The ROC curve, and how often what was '
        "predicted came true in up to ten parts of the rows. Dotted: chance, and perfect "
        "calibration. Of few rows a curve says little.</p>\n"
        f'<div class="plots">{"".join(plots)}</div>'
    )


def points(groups: Groups) -> tuple[list[float], list[float]]:
    """Predicted and observed of each part of the rows."""
    rows = calibration(groups)
    return [row[0] for row in rows], [row[1] for row in rows]


def _rows(found: OwnFigures) -> str:
    rows = []
    for split in SPLITS:
        part, total = share(found, split), found.all_rows.get(split)
        known = "" if math.isnan(part) else f"{part:.1%}"
        rows.append([split, str(found.rows.get(split, 0)), str(total or "–"), known or "–"])
    return "<h2>Rows</h2>\n" + table_of(("split", "here", "of all hospitals", "share"), rows)


def _left(left: Left) -> str:
    rows = [
        [_PROTECTIONS.get(name, name), human_bytes(size)]
        for name, size in sorted(left.by_protection.items())
    ]
    text = (
        f'<p class="soft">As this hospital\'s own audit log has it, up to line {left.head["seq"]}; '
        "each message stands in <code>left.json</code>.</p>"
    )
    return f"<h2>What left this hospital</h2>\n{text}\n" + table_of(("protection", "bytes"), rows)


def _notes(found: OwnFigures) -> str:
    if not found.notes:
        return ""
    return (
        "<h2>Notes</h2>\n<ul>\n"
        + "\n".join(f"<li>{escape(x)}</li>" for x in found.notes)
        + "\n</ul>"
    )
