"""``statistics.json`` as a page: tables and plots of every analysis, to read, print and copy from.

It opens offline, asks no one for anything, runs nothing. Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wardround.common.procedures.frame import framed
from wardround.common.procedures.statistics.plots import drawn
from wardround.common.procedures.statistics.result import file_name

Values = Mapping[str, Any]
_LONG = 40
"""A table of more rows is folded away; its file has it."""


def page(found: Values, name: str, purpose: str = "") -> str:
    """The page as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    parts = [f"<p>{escape(purpose)}</p>" if purpose else "", f"<p>{escape(_head(found))}</p>"]
    for one in found["analyses"]:
        parts.append(f"<h2>{escape(one['name'])}</h2>")
        parts += [f"<p>{escape(note)}</p>" for note in one["notes"]]
        tables = [_table(sheet, one["name"]) for sheet in one["tables"]]
        plots = [f'<div class="scroll">{svg}</div>' for svg in map(drawn, one["plots"]) if svg]
        parts += [*tables[:1], *plots, *tables[1:]]
    parts.append("<h2>How to read it</h2>\n<ul>\n" + "\n".join(_notes(found)) + "\n</ul>")
    return framed(f"{name}: statistics", parts)


def _head(found: Values) -> str:
    hospitals, least = found["hospitals"], found["smallest_cell"]
    who = f"{hospitals} hospital{'s' * (hospitals != 1)}"
    if found["rows"] is None:
        return f"Fewer than {least} persons at {who}."
    persons = f" of {found['persons']:,} persons" if found["persons"] is not None else ""
    return f"{found['rows']:,} rows{persons} at {who}, to the nearest {least}."


def _notes(found: Values) -> list[str]:
    lines = [
        f"Nothing is shown from which a count of fewer than {found['smallest_cell']} persons could "
        f"be worked out; “few” stands for such a count, be it none.",
        "This protects whoever is in the tables from readers. The coordinator's server has the "
        "exact sums over all hospitals, as far as no noise is on them.",
    ]
    if "noise" in found:
        privacy = found["privacy"]
        lines.append(
            f"Each sum carries noise of a standard deviation of {found['noise']:.4g}, which "
            f"protects one {privacy['unit']} with epsilon {privacy['epsilon']:.4g} at delta "
            f"{privacy['delta']:g}."
        )
    return [f"<li>{escape(line)}</li>" for line in lines]


def _table(sheet: Values, analysis: str) -> str:
    title = f"<h3>{escape(sheet['title'])}</h3>\n" if sheet["title"] else ""
    top = "".join(f"<th>{escape(str(one))}</th>" for one in sheet["head"])
    words = [_of_words(column) for column in zip(*sheet["rows"], strict=True)]
    lines = [
        "<tr>" + "".join(map(_cell, row, words)) + "</tr>"  # a row has as many cells as the head
        for row in sheet["rows"]
    ]
    file = escape(file_name(analysis, sheet["name"]))
    table = f"<table>\n<tr>{top}</tr>\n" + "\n".join(lines) + "\n</table>"
    if len(lines) > _LONG:
        table = f"<details>\n<summary>{len(lines)} rows</summary>\n{table}\n</details>"
    return f'{title}<div class="scroll">{table}</div>\n<p class="soft">{file}</p>'


def _of_words(column: Sequence[Any]) -> bool:
    """Whether most cells are texts: then numbers among them stand where these do."""
    there = [isinstance(one, str) for one in column if one is not None]
    return 2 * sum(there) > len(there)


def _cell(value: Any, words: bool) -> str:
    text = escape(value if isinstance(value, str) else shown(value))
    return f"<td>{text}</td>" if words or isinstance(value, str) else f'<td class="num">{text}</td>'


def shown(value: Any) -> str:
    """A number as a table shows it: counts whole, others with four digits.

    >>> [shown(one) for one in (1234, 1234.0, 1234.56, 0.123456, 2e-7, None)]
    ['1,234', '1,234', '1,234.6', '0.1235', '2.000e-07', '']
    """
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if value != 0 and not 1e-4 <= abs(value) < 1e7:
        return f"{value:.3e}"
    if value == round(value):
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.1f}"
