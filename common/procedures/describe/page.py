"""The description as a page: opens offline, asks no one for anything, runs nothing.

Names and texts came from files of others and are escaped. Equal input gives equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from wardround.common.procedures.describe.figures import MISSING
from wardround.common.procedures.frame import framed

Values = Mapping[str, Any]


def page(found: Values, name: str, purpose: str = "") -> str:
    """The page of a ``description.json`` as HTML text.

    name : of the run
    purpose : of the study, in its researcher's words; '' where there are none
    """
    columns = found["columns"]
    numbers = [one for one in columns if one["kind"] == "number"]
    categories = [one for one in columns if one["kind"] == "category"]
    parts = [
        f"<p>{escape(purpose)}</p>" if purpose else "",
        f"<p>{escape(_head(found))}</p>",
        "<h2>Numbers</h2>\n" + _numbers(numbers, found) if numbers else "",
        "<h2>Categories</h2>\n" + _categories(categories, found) if categories else "",
        "<h2>How to read it</h2>\n<ul>\n"
        + "\n".join(f"<li>{escape(line)}</li>" for line in _notes(found))
        + "\n</ul>",
    ]
    return framed(f"{name}: what the data hold", parts)


def _head(found: Values) -> str:
    hospitals = found["hospitals"]
    who = f"{hospitals} hospital{'s' * (hospitals != 1)}"
    if "noise" in found:
        return f"{found['rows']:,} ± {found['interval']:,} rows of {who}, with noise."
    least = found["smallest_cell"]
    if found["rows"] is None:
        return f"Fewer than {least} persons at {who}."
    persons = f" of {found['persons']:,} persons" if found["persons"] is not None else ""
    return f"{found['rows']:,} rows{persons} at {who}, to the nearest {least}."


def _notes(found: Values) -> list[str]:
    if "noise" in found:
        privacy = found["privacy"]
        return [
            f"Each count carries noise of a standard deviation of {found['noise']:.4g}, which "
            f"protects one {privacy['unit']} with epsilon {privacy['epsilon']:.4g} at delta "
            f"{privacy['delta']:g}. ± is where 95 % of it lies.",
            "Means, deviations and quantiles are of noised bins: of their middles.",
        ]
    least = found["smallest_cell"]
    return [
        f"A count of fewer than {least} persons is not shown, be it none; others are rounded to "
        f"multiples of {least}.",
        "“not shown”: with it a smaller count beside it could be worked out.",
        f"Means and deviations are rounded to what {least} persons would typically move them by, "
        "and left out where one person may be most of them, or few have one of a handful of "
        "values; ± is what a quantile may be off by at most.",
        f"A quantile that fewer than {least} persons lie beyond is left out.",
    ]


def _numbers(columns: Iterable[Values], found: Values) -> str:
    shares: list[str] = []
    for column in columns:
        for one in column.get("quantiles", []):
            if (name := f"{100 * one['p']:g} %") not in shares:
                shares.append(name)
    shares.sort(key=lambda name: float(name.split()[0]))
    rows = []
    for column in columns:
        quantiles = {f"{100 * one['p']:g} %": one for one in column.get("quantiles", [])}
        row = [
            _name(column),
            _missing(column, found),
            _value(column, "mean"),
            _value(column, "std"),
        ]
        for name in shares:
            one = quantiles.get(name)
            row.append("–" if one is None else f"{one['value']:.6g} ± {one['error']:.3g}")
        rows.append(row)
    return _table(["column", "missing", "mean", "deviation", *shares], rows)


def _value(column: Values, key: str) -> str:
    return f"{column[key]:g}" if key in column else "–"


def _missing(column: Values, found: Values) -> str:
    cells = {cell["name"]: cell for cell in column.get("cells", [])}
    return _count(cells[MISSING], found) if MISSING in cells else "–"


def _count(cell: Values, found: Values) -> str:
    if cell["state"] == "few":
        return f"fewer than {found['smallest_cell']}"
    if cell["state"] == "kept back":
        return "not shown"
    text = f"{cell['rows']:,}"
    if "interval" in cell:
        text += f" ± {cell['interval']:,}"
    return text + (f" ({cell['persons']:,} persons)" if "persons" in cell else "")


def _categories(columns: Iterable[Values], found: Values) -> str:
    lines = []
    for column in columns:
        for number, cell in enumerate(column["cells"]):
            share = ""
            if "rows" in cell and found["rows"]:
                part = min(1.0, max(0.0, cell["rows"] / found["rows"]))
                share = f'<span class="share" style="width: {5 * part:.2f}rem"></span>{part:.1%}'
            name = escape(_name(column)) if number == 0 else ""
            lines.append(
                f"<tr><td>{name}</td><td>{escape(cell['name'])}</td>"
                f'<td class="num">{escape(_count(cell, found))}</td><td>{share}</td></tr>'
            )
    head = "<tr><th>column</th><th>category</th><th>rows</th><th>share</th></tr>"
    body = "\n".join(lines)
    return (
        f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>"
    )


def _name(column: Values) -> str:
    return f"{column['name']} (target)" if column.get("target") else str(column["name"])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Sequence[str], cell: str) -> str:
        marks = ["" if not place else ' class="num"' for place in range(len(cells))]
        inside = "".join(
            f"<{cell}{mark}>{escape(text)}</{cell}>"
            for text, mark in zip(cells, marks, strict=True)
        )
        return f"<tr>{inside}</tr>"

    body = "\n".join(row(one, "td") for one in rows)
    return (
        f'<div class="scroll"><table>\n<thead>{row(head, "th")}</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )
