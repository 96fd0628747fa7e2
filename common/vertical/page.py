"""What a vertical model's coefficients say, as a table for a terminal, a CSV file and a page.

Intervals are Wald's: coefficient +- 1.96 standard errors; p is of the normal distribution. With a
ridge both are of a coefficient that is drawn to 0, and are left out.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wardround.common.offline_page import document, table

TABLE, PAGE = "coefficients.csv", "vertical.html"
_RATIOS = {"logistic": "odds ratio", "poisson": "rate ratio", "cox": "hazard ratio"}
_Z = 1.959963984540054


def files(found: Mapping[str, Any]) -> dict[str, str]:
    """Table and page, by name, of what ``vertical.json`` holds."""
    return {TABLE: _csv(found), PAGE: _page(found)}


def text(found: Mapping[str, Any]) -> str:
    """A table of ``vertical.json`` for a terminal."""
    head, rows = _head(found), [_words(row) for row in _rows(found)]
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        words = zip(cells[:2], widths[:2], strict=True)
        numbers = zip(cells[2:], widths[2:], strict=True)
        return "  ".join(
            [cell.ljust(width) for cell, width in words]
            + [cell.rjust(width) for cell, width in numbers]
        ).rstrip()

    return "\n".join([_title(found), line(head), *map(line, rows), *_notes(found)])


def _title(found: Mapping[str, Any]) -> str:
    who, outcome = ", ".join(found["parties"]), found["outcome"]
    return (
        f"{found['model']} model of {outcome['column']} ({outcome['party']}), of columns at {who}"
    )


def _head(found: Mapping[str, Any]) -> list[str]:
    ratio = [_RATIOS[found["model"]]] if found["model"] in _RATIOS else []
    return ["column", "at", "coefficient", "std. error", *ratio, "95 % from", "to", "p"]


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str, list[float | None]]]:
    """Of each input: column, party, numbers as in ``_head``."""
    exponentials, shrunk = found["model"] in _RATIOS, found["ridge"] > 0
    rows: list[tuple[str, str, list[float | None]]] = []
    for one in found["coefficients"]:
        value, error = float(one["coefficient"]), float(one["standard_error"])
        scale = _exp if exponentials else float
        known = error > 0 and not shrunk
        low, high = (
            (scale(value - _Z * error), scale(value + _Z * error)) if known else (None, None)
        )
        p = math.erfc(abs(value / error) / math.sqrt(2)) if known else None
        ratio = [scale(value)] if exponentials else []
        rows.append((one["column"], one["party"], [value, error, *ratio, low, high, p]))
    if "intercept" in found:
        lacking = len(_head(found)) - 3
        rows.append(("(intercept)", "", [float(found["intercept"]), *[None] * lacking]))
    return rows


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _words(row: tuple[str, str, list[float | None]]) -> list[str]:
    column, party, numbers = row
    *values, p = numbers
    told = ["" if value is None else f"{value:.4g}" for value in values]
    return [column, party, *told, "" if p is None else "< .001" if p < 0.001 else f"{p:.3f}"]


def _notes(found: Mapping[str, Any]) -> list[str]:
    figures = ", ".join(f"{name.replace('_', ' ')} {x:g}" for name, x in found["figures"].items())
    lines = [figures] if figures else []
    lines.append(f"at most {found['persons_at_most']:,} linked persons; {found['dealer']} dealt")
    if found["ridge"] > 0:
        lines.append(f"ridge {found['ridge']:g}: coefficients are drawn to 0, without intervals")
    lines += [
        f"left out: {one['column']} ({one['party']}): {one['why']}" for one in found["left_out"]
    ]
    return lines


def _csv(found: Mapping[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_head(found))
    for column, party, numbers in _rows(found):
        names = [
            f"'{name}" if name.startswith(("=", "+", "-", "@")) else name
            for name in (column, party)
        ]
        writer.writerow([*names, *("" if value is None else f"{value:.6g}" for value in numbers)])
    return out.getvalue()


def _page(found: Mapping[str, Any]) -> str:
    title = _title(found)
    rows = [_words(row) for row in _rows(found)]
    notes = "\n".join(f"<li>{escape(line)}</li>" for line in _notes(found))
    parts = [
        f"<h1>{escape(title)}</h1>",
        table(_head(found), rows, texts=2),
        f"<ul>\n{notes}\n</ul>",
        "<p>No party's values of a person have left it: sums over all linked persons were opened, "
        "and the coefficients, which every party knows.</p>",
    ]
    return document(title, parts)
