"""Rows in the forms that programs have them: data frames, Arrow tables, records, columns, paths,
texts, arrays.

A data frame is taken by the interfaces that all libraries of such have (``__arrow_c_stream__``,
``__dataframe__``), else by ``to_dict("list")``: none needs to be installed here. No message quotes
a value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.types import canonical_texts
from wardround.common.tasks.to_predict import RowsToPredict

Raw = TypeVar("Raw")
_INDEX = "__index_level_"
"""Columns that pandas makes of an index."""


@dataclass(frozen=True)
class Piece:
    """Some rows of an input. ``file``: which one of several paths; '' where there is one."""

    raw: Any
    file: str = ""


def pieces_of(
    task: RowsToPredict[Any], rows: Any, as_text: Collection[str] = ()
) -> Iterator[Piece]:
    """The rows as the task has them, in order, a part at a time where they lie in files.

    rows : a data frame, pyarrow table or record batch; a list of records (dicts), or a dict of
        columns; a path, a list of paths, or an open file of a CSV's bytes; a list of texts or of
        arrays, or one array whose first axis counts the rows
    as_text : columns of files that stay as they are written: '007' is no 7

    Raises DataError for what is none of these, or can't be read.
    """
    if isinstance(rows, str | Path) or hasattr(rows, "read"):
        source = Path(rows) if isinstance(rows, str | Path) else rows
        yield from (Piece(raw) for raw in task.row_pieces(source, as_text))
    elif isinstance(rows, Sequence) and rows and all(isinstance(one, Path) for one in rows):
        for path in rows:
            name = path.name if len(rows) > 1 else ""
            yield from (Piece(raw, name) for raw in task.row_pieces(path, as_text))
    elif isinstance(rows, np.ndarray) or _are_values(rows):
        yield Piece(task.rows_of_values(list(rows)))
    else:
        yield Piece(task.rows_of_table(as_table(rows)))


def _are_values(rows: Any) -> bool:
    """Whether it is a list of what has no columns: texts, lists of words, arrays."""
    return isinstance(rows, list | tuple) and not all(isinstance(one, Mapping) for one in rows)


def as_table(rows: Any) -> pa.Table:
    """Columns of whatever has some. Raises DataError naming the column that can't be one."""
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, Mapping):
        return _table({str(name): rows[name] for name in rows})
    if isinstance(rows, list | tuple) and all(isinstance(one, Mapping) for one in rows):
        names = dict.fromkeys(name for record in rows for name in record)
        return _table({str(n): [record.get(n) for record in rows] for n in names})
    if hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__dataframe__"):
        return _of_frame(rows)
    if hasattr(rows, "to_dict"):
        return as_table(rows.to_dict("list"))
    raise DataError(
        f"rows of type {type(rows).__name__} can't be read; give a data frame, a pyarrow table, a "
        "list of dicts, a dict of columns, or the path of a file"
    )


def _table(columns: Mapping[str, Any]) -> pa.Table:
    found = {name: _column(name, values) for name, values in columns.items()}
    lengths = {len(column) for column in found.values()}
    if len(lengths) > 1:
        raise DataError(f"the columns given have {min(lengths)} to {max(lengths)} rows; give equal")
    return pa.table(found)


def _column(name: str, values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    if hasattr(values, "to_numpy") and not isinstance(values, np.ndarray):
        values = values.to_numpy()  # a column of a data frame
    if isinstance(values, np.ndarray) and values.dtype.kind != "O":
        values = values.astype(np.str_).astype(object) if values.dtype.kind == "U" else values
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    try:
        return pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _texts(name, values)


def _texts(name: str, values: Any) -> pa.Array:
    """A column of numbers and texts beside each other: as a CSV has it."""
    if not isinstance(values, Iterable):
        raise DataError(
            f"the rows given: column {name!r} is one {type(values).__name__}; give a list of values"
        )
    try:
        known = [_text(value) for value in values]
    except TypeError:
        raise DataError(
            f"the rows given: column {name!r}: neither numbers, texts nor dates; leave it out"
        ) from None
    return pa.array(known, pa.string())


def _text(value: Any) -> str | None:
    if value is None or value != value:  # NaN
        return None
    if isinstance(value, str):
        return value
    if not isinstance(value, bool | int | float | np.generic):
        raise TypeError
    whole = value.item() if isinstance(value, np.generic) else value
    if isinstance(whole, complex):
        raise TypeError
    (text,) = canonical_texts(pa.array([whole])).to_pylist()
    return str(text)


def _of_frame(frame: Any) -> pa.Table:
    names = [str(name) for name in getattr(frame, "columns", ())]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"the rows given: column {twice!r} stands twice; rename one")
    try:
        if hasattr(frame, "__arrow_c_stream__"):
            table = pa.table(frame)
        else:
            from pyarrow.interchange import from_dataframe

            table = from_dataframe(frame)
    except (pa.ArrowException, TypeError, ValueError, NotImplementedError) as error:
        if not hasattr(frame, "columns"):
            raise DataError(
                f"the {type(frame).__name__} given can't be read as a table "
                f"({type(error).__name__}); give each column values of one kind"
            ) from None  # its text may quote a cell
        return _table({str(name): frame[name] for name in frame.columns})
    return table.select([name for name in table.column_names if not name.startswith(_INDEX)])
