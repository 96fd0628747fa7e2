"""Excel files (.xlsx) as typed columns: the values that the file holds, never a formula's own work.

A formula counts by the value that was stored with it. One without a stored value, merged cells, a
value under no name and a second sheet with rows are named by their place: none of them can be read
without a decision.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.common.errors import DataError
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.content import other_kind
from wardround.common.tasks.data.reading.dialect import Dialect
from wardround.common.tasks.data.reading.names import A_LOOK, check_title, checked_names
from wardround.common.tasks.data.reading.types import canonical_texts

_MOST_BYTES = 2 << 30
"""Of a file, unpacked: what says that it is larger is no sheet of a million rows."""
_OLD, _ZIP = b"\xd0\xcf\x11\xe0", b"PK"
Row = Sequence[Any]


@dataclass(frozen=True)
class ExcelTable:
    """What was read; rows : the sheet's row of each row"""

    table: pa.Table
    rows: NDArray[np.int64]


def read_excel(path: Path, dialect: Dialect, hide_names: bool) -> ExcelTable:
    """See ``read.read_file``."""
    import openpyxl  # half a second, of which a run without such a file needs nothing

    special = _looked_into(path)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            sheets = {sheet.title: _rows(sheet) for sheet in book.worksheets}
        finally:
            book.close()
    except Exception as error:  # openpyxl raises many types for a damaged file, and quotes cells
        raise DataError(
            f"{path}: not readable as .xlsx ({type(error).__name__}); save it again as .xlsx or CSV"
        ) from None
    filled = {name: rows for name, rows in sheets.items() if rows}
    sheet = _chosen(path, filled, dialect, hide_names)
    rows = sheets[sheet]
    if dialect.header is None:
        check_title(path, [(n, _filled(row)) for n, row in rows[:A_LOOK]], "row")
    if special:
        _check_special(path, sheet)
    if dialect.header is None:
        head = rows.pop(0)[1]
        width = max(number for number, cell in enumerate(head, start=1) if cell is not None)
        names = checked_names(path, [_text(cell) or "" for cell in head[:width]], hide_names)
    else:
        names = list(dialect.header)
    if not rows:
        raise DataError(f"{path}: there are no rows; check that this is the right file and sheet")
    _check_width(path, rows, len(names))
    columns = [
        _column([row[position] if position < len(row) else None for _, row in rows])
        for position in range(len(names))
    ]
    return ExcelTable(pa.table(columns, names=names), np.array([number for number, _ in rows]))


def _looked_into(path: Path) -> bool:
    """Whether the file may hold formulas or merged cells. Raises DataError for another kind."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        if head.startswith(_OLD):
            raise DataError(f"{path}: an old or encrypted Excel file; save it as .xlsx or CSV")
        if not head.startswith(_ZIP):
            what = other_kind(head)
            other = f"it rather is {what}" if what else "begins as no such; check its ending"
            raise DataError(f"{path}: not readable as .xlsx: {other if head else 'an empty file'}")
        with zipfile.ZipFile(path) as packed:
            parts = packed.infolist()
            if sum(part.file_size for part in parts) > _MOST_BYTES:
                raise DataError(f"{path}: unpacks to more than 2 GiB; export it as CSV or Parquet")
            names = [p.filename for p in parts if p.filename.startswith("xl/worksheets/sheet")]
            if not names:
                raise DataError(f"{path}: a zip archive without a sheet; is it an Excel file?")
            return any(re.search(rb"<f[ >]|<mergeCell ", packed.read(name)) for name in names)
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise DataError(
            f"{path}: not readable as .xlsx ({type(error).__name__}); save it again as .xlsx or CSV"
        ) from None


def _rows(sheet: Any) -> list[tuple[int, Row]]:
    """(row of the sheet, cells) of those rows that hold anything."""
    if not hasattr(sheet, "iter_rows"):  # a sheet that is a chart
        return []
    return [
        (number, row)
        for number, row in enumerate(sheet.iter_rows(values_only=True), start=1)
        if any(cell is not None for cell in row)
    ]


def _chosen(path: Path, filled: dict[str, Any], dialect: Dialect, hide: bool) -> str:
    names = ", ".join(f"'{name}'" for name in list(filled)[:20])
    shown = f"{len(filled)} sheets" if hide else names
    if dialect.sheet is not None:
        if dialect.sheet not in filled:
            raise DataError(
                f"{path}: there is no sheet '{dialect.sheet}' with rows, but {shown or 'none'}; "
                "mend task.dialect.sheet"
            )
        return dialect.sheet
    if not filled:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    if len(filled) > 1:
        raise DataError(
            f"{path}: several sheets hold rows ({shown}); say which in task.dialect.sheet"
        )
    return next(iter(filled))


def _check_special(path: Path, sheet: str) -> None:
    """Raise DataError with all merged cells, and all formulas without a stored value."""
    import openpyxl

    found = Problems(path)
    written = openpyxl.load_workbook(path, keep_links=False)[sheet]
    stored = openpyxl.load_workbook(path, data_only=True, keep_links=False)[sheet]
    for merged in sorted(str(area) for area in written.merged_cells.ranges):
        found.add(f"{path}: merged cells {merged}; unmerge them, with the value in each row")
    for cells in written.iter_rows():
        for cell in cells:
            if cell.data_type == "f" and stored.cell(cell.row, cell.column).value is None:
                found.add(
                    f"{path}: a formula without a stored value at {cell.coordinate}; open the file "
                    "in Excel or LibreOffice and save it, or paste its values"
                )
    found.check()


def _check_width(path: Path, rows: Sequence[tuple[int, Row]], width: int) -> None:
    from openpyxl.utils import get_column_letter

    found = Problems(path)
    for number, row in rows:
        over = [n for n, cell in enumerate(row, start=1) if n > width and cell is not None]
        if over:
            at = f"{get_column_letter(over[0])}{number}"
            found.add(f"{path}: a value at {at}, under no name; name the column, or clear the cell")
    found.check()


def _filled(row: Row) -> int:
    return sum(cell is not None for cell in row)


def _column(cells: list[Any]) -> pa.ChunkedArray:
    """Cells of one type as that type; of several, as the one text of each."""
    known = {type(cell) for cell in cells if cell is not None}
    if known <= {int} and all(cell is None or abs(cell) < 2**63 for cell in cells):
        found = pa.array(cells, pa.int64() if known else pa.string())
    elif known <= {int, float}:
        found = pa.array([None if c is None else float(c) for c in cells], pa.float64())
    elif known == {bool}:
        found = pa.array(cells, pa.bool_())
    elif known <= {datetime, date}:
        found = _instants(cells)
    else:
        found = pa.array([_text(cell) for cell in cells], pa.string())
    return pa.chunked_array([found])


def _instants(cells: list[Any]) -> pa.Array:
    found = pa.array(
        [datetime(c.year, c.month, c.day) if type(c) is date else c for c in cells],
        pa.timestamp("us"),
    )
    days = found.cast(pa.date32(), safe=False)
    return days if days.cast(pa.timestamp("us")).equals(found) else found


def _text(cell: Any) -> str | None:
    """The one text of a cell."""
    if cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return str(canonical_texts(pa.array([cell], pa.float64()))[0].as_py())
    if isinstance(cell, datetime):
        return str(canonical_texts(pa.array([cell], pa.timestamp("us")))[0].as_py())
    return str(cell.isoformat()) if hasattr(cell, "isoformat") else str(cell)
