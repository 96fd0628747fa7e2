"""One table in each kind of file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

Columns = Mapping[str, Sequence[object]]
KINDS = ("csv", "parquet", "xlsx")


def write(folder: Path, kind: str, columns: Columns, stem: str = "x") -> Path:
    """The table as texts in a CSV, as typed columns in Parquet, as Excel's cells in a sheet."""
    path = folder / f"{stem}.{kind}"
    rows = list(zip(*columns.values(), strict=True))
    if kind == "csv":
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([["" if c is None else c for c in row] for row in rows])
    elif kind == "parquet":
        arrays = [as_column(values) for values in columns.values()]
        pq.write_table(pa.table(arrays, names=list(columns)), path)
    else:
        book = openpyxl.Workbook()
        for line in [tuple(columns), *rows]:
            book.active.append(list(line))
        book.save(path)
    return path


def as_column(values: Sequence[object]) -> pa.Array:
    """Values of one type as that type, else as texts."""
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if value is None else str(value) for value in values])
