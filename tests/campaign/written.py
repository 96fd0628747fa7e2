"""The same cells in other files: as hospitals' systems export them, the model must be the same."""

from __future__ import annotations

import csv
import io
import random
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.unlike import Consortium

Lines = list[list[str]]
Overrides = dict[str, Any]
GAP = "k.A."
DIALECT = {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}
_CODES = ("ward", "patient")
"""Columns whose cells are texts, whatever they look like."""


def _delimited(lines: Lines, mark: str, ending: str, quoted: bool = False) -> str:
    out = io.StringIO()
    form: type[csv.Dialect] = (
        csv.unix_dialect if quoted else csv.excel
    )  # all cells in quotes, or few
    csv.writer(out, form, delimiter=mark, lineterminator=ending).writerows(lines)
    return out.getvalue()


def _commas(lines: Lines) -> Lines:
    """Decimal commas; codes and classes such as 1.0 are no numbers, and 1,0 is another text."""
    texts = (*_CODES, "died", "stage", "event")
    codes = {place for place, name in enumerate(lines[0]) if _nfc(name) in texts}
    return [
        lines[0],
        *(
            [x if i in codes else x.replace(".", ",") for i, x in enumerate(row)]
            for row in lines[1:]
        ),
    ]


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def semicolons(path: Path, lines: Lines) -> None:
    """As a German Excel exports: semicolons, decimal commas, Windows-1252, CRLF."""
    text = _nfc(_delimited(_commas(lines), ";", "\r\n"))
    path.with_suffix(".csv").write_bytes(text.encode("cp1252"))


def tabs(path: Path, lines: Lines) -> None:
    """Tabs, a byte order mark, CRLF."""
    text = _delimited(lines, "\t", "\r\n")
    path.with_suffix(".tsv").write_bytes(text.encode("utf-8-sig"))


def quoted(path: Path, lines: Lines) -> None:
    """Every cell in quotes, blanks around names."""
    head = [[f" {name} " for name in lines[0]]]
    text = _delimited(head + lines[1:], ",", "\n", quoted=True)
    path.with_suffix(".csv").write_text(text, encoding="utf-8")


def shuffled(path: Path, lines: Lines) -> None:
    """Columns in another order, UTF-16."""
    order = list(range(len(lines[0])))
    random.Random(path.stem).shuffle(order)
    text = _delimited([[row[i] for i in order] for row in lines], ",", "\n")
    path.with_suffix(".csv").write_bytes(text.encode("utf-16"))


def gaps(path: Path, lines: Lines) -> None:
    """Cells without a value say so."""
    written = [lines[0], *([cell or GAP for cell in row] for row in lines[1:])]
    path.with_suffix(".csv").write_text(_delimited(written, ",", "\n"), encoding="utf-8")


def parquet(path: Path, lines: Lines) -> None:
    """Typed: numbers are floats, codes and patients texts."""
    columns = {}
    for place, name in enumerate(lines[0]):
        cells = [row[place] or None for row in lines[1:]]
        texts = _nfc(name) in _CODES
        columns[name] = pa.array(
            cells if texts else [None if x is None else float(x) for x in cells]
        )
    pq.write_table(pa.table(columns), path.with_suffix(".parquet"))


def excel(path: Path, lines: Lines) -> None:
    """A sheet, with numbers as numbers."""
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(lines[0])
    codes = {place for place, name in enumerate(lines[0]) if _nfc(name) in _CODES}
    for row in lines[1:]:
        sheet.append([None if not x else x if i in codes else float(x) for i, x in enumerate(row)])
    book.save(path.with_suffix(".xlsx"))


FORMS: dict[str, tuple[Callable[[Path, Lines], None], Overrides]] = {
    "semicolons": (semicolons, {}),
    "tabs": (tabs, {}),
    "quoted": (quoted, {}),
    "shuffled": (shuffled, {}),
    "gaps": (gaps, {"task.missing_values": ["", GAP]}),
    "dialect": (
        semicolons,
        {"task.dialect": {"delimiter": ";", "decimal": ",", "encoding": "cp1252"}},
    ),
    "parquet": (parquet, {}),
    "excel": (excel, {}),
}
"""How files are written, and what must be said of them."""


def written(made: Consortium, form: str, folder: Path) -> tuple[Consortium, Overrides]:
    """The consortium's CSV files in another form below ``folder`` (made once)."""
    write, overrides = FORMS[form]
    place = folder / "hospitals"
    if not place.exists():
        place.mkdir(parents=True)
        for file in sorted((made.folder / "hospitals").glob("*.csv")):
            write(place / file.name, list(csv.reader(file.read_text("utf-8").splitlines())))
    return replace(made, folder=folder), overrides
