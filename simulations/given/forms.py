"""What ``simulate(data=...)`` takes, as tables of typed columns.

One data set is a data frame, a pyarrow table, a dict of columns, a list of records, a pair ``(X,
y)`` or a path; hospitals are a dict of such by their names. Frames are taken by the interfaces that
all libraries of such have: none needs to be installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wardround.common.errors import DataError
from wardround.common.predict.given import as_table
from wardround.common.tasks.data.given import typed_columns
from wardround.common.tasks.schema import Schema
from wardround.simulations.given.held import WHOLE, GivenData, Held

_FORMS = (
    "give a data frame, a pyarrow table, a dict of columns, a list of dicts, a pair (X, y) or a "
    "path, or a dict of such by hospital"
)
_COLUMN = re.compile(r"x([1-9][0-9]*)")
"""What a column of an array is called."""
_CLASS, _VALUE = "class", "value"
"""What the target of a pair is called: whole numbers and texts are classes."""


def given_data(data: Any, target: str | None = None) -> GivenData:
    """The data that were given, hospitals in the order of their names.

    target : what the target of a pair ``(X, y)`` is called; by default ``y``'s own name, else
        'class' where y has whole numbers, texts or truths, 'value' where it has others

    Raises DataError by the hospital and column that can't be read.
    """
    if not isinstance(data, Mapping):
        return _taken({WHOLE: data}, True, target)
    if not data:
        raise DataError(f"data: an empty dict has no hospital; {_FORMS}")
    columns = [name for name, value in data.items() if _is_column(value)]
    if len(columns) == len(data):
        return _taken({WHOLE: data}, True, target)
    if columns:
        other = next(name for name in data if name not in columns)
        raise DataError(
            f"data[{columns[0]!r}] is a column and data[{other!r}] isn't: a dict has hospitals, "
            f"or the columns of one data set; {_FORMS}"
        )
    shards = {str(name): value for name, value in data.items()}
    if len(shards) < len(data):
        raise DataError("data: two hospitals have the same name; rename one")
    return _taken({name: shards[name] for name in sorted(shards)}, False, target)


def named_rows(rows: Any, schema: Schema) -> Any:
    """Rows to predict; an array's columns get the names that an array's had in training. Raises
    DataError for one that lacks columns of the model."""
    array = _array(rows)
    numbers = [_COLUMN.fullmatch(one.name) for one in schema.inputs]
    if array is None or array.ndim != 2 or not all(numbers):
        return rows
    least = max((int(found[1]) for found in numbers if found), default=0)
    if array.shape[1] < least:
        raise DataError(
            f"rows: an array of shape {array.shape}; the model needs at least {least} columns, as "
            "it was trained on"
        )
    return as_table({f"x{place + 1}": array[:, place] for place in range(array.shape[1])})


def _taken(shards: Mapping[str, Any], one_set: bool, target: str | None) -> GivenData:
    held: dict[str, Held] = {}
    arrays: set[str] = set()
    problems: list[str] = []
    notes: list[str] = []
    about = GivenData({}, one_set)
    target = target or _one_name(shards.values())
    for title, value in shards.items():
        called = about.called(title)
        try:
            if isinstance(value, str | Path):
                held[title] = Path(value)
                continue
            table, made = _table(value, called, target)
            arrays |= made
            found, odd = typed_columns(table, called)
        except DataError as error:
            problems += [_placed(line, called) for line in str(error).splitlines()]
            continue
        if not len(found):
            problems.append(f"{called}: there are no rows; leave the hospital out")
        notes += [f"not used, {why}" for why in odd.values()]
        held[title] = found.drop_columns(list(odd))
    if problems:
        raise DataError("\n".join(problems))
    return GivenData(held, one_set, frozenset(arrays), notes)


def _placed(line: str, called: str) -> str:
    return line if line.startswith(WHOLE) or line.startswith(" ") else f"{called}: {line}"


def _table(value: Any, called: str, target: str | None) -> tuple[pa.Table, set[str]]:
    """The columns of one shard, and which of them had no names."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise DataError(f"{called}: a tuple of {len(value)}; a pair is (X, y)")
        return _pair(*value, called, target)
    array = _array(value)
    if array is not None:
        raise DataError(f"{called}: an array alone has no target; give a pair (X, y)")
    if isinstance(value, list) and not all(isinstance(one, Mapping) for one in value):
        raise DataError(f"{called}: a list of {type(value[0]).__name__}s; {_FORMS}")
    if _is_column(value):
        raise DataError(f"{called}: one column alone; {_FORMS}")
    return as_table(value), set()


def _pair(x: Any, y: Any, called: str, target: str | None) -> tuple[pa.Table, set[str]]:
    """Columns of X, then y."""
    values = _targets(y)
    if values is None or values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] != 1):
        shape = "" if values is None else f" of shape {values.shape}"
        raise DataError(f"{called}: y is {type(y).__name__}{shape}; it needs one value for a row")
    values = values.reshape(-1)
    table, made = _inputs(x, called)
    if len(table) != len(values):
        raise DataError(f"{called}: X has {len(table)} rows and y {len(values)}; give equal")
    name = target or str(getattr(y, "name", None) or _called(values))
    if name in table.column_names:
        raise DataError(f"{called}: X has a column '{name}', as y is called; say target='...'")
    return table.append_column(name, as_table({name: values}).column(name)), made


def _targets(y: Any) -> np.ndarray[Any, Any] | None:
    values = _array(y)
    if values is None and isinstance(y, list | tuple):
        values = np.asarray(y, dtype=object)
    if values is None and hasattr(y, "to_numpy"):
        values = y.to_numpy()  # a column of a data frame
    return values


def _one_name(shards: Iterable[Any]) -> str | None:
    """'value' where targets without a name are whole numbers at one hospital and others at another,
    as whole ones are where some are missing: one name for all."""
    unnamed = [
        values
        for one in shards
        if isinstance(one, tuple) and len(one) == 2 and getattr(one[1], "name", None) is None
        if (values := _targets(one[1])) is not None
    ]
    return _VALUE if len({_called(values) for values in unnamed}) > 1 else None


def _called(values: np.ndarray[Any, Any]) -> str:
    whole = values.dtype.kind in "biuUS"
    if values.dtype.kind == "O":
        whole = all(isinstance(one, str | int | None) for one in values.tolist())
    return _CLASS if whole else _VALUE


def _inputs(x: Any, called: str) -> tuple[pa.Table, set[str]]:
    array = _array(x)
    if array is None and isinstance(x, list | tuple) and not all(map(_is_record, x)):
        array = _of_lists(x, called)
    if array is None:
        return as_table(x), set()
    if array.ndim != 2 or not array.shape[1]:
        raise DataError(
            f"{called}: X has the shape {array.shape}; rows x columns are needed. For images and "
            "series write a task: simulate(task=...), docs/tasks.md"
        )
    names = [f"x{number}" for number in range(1, array.shape[1] + 1)]
    return as_table({name: array[:, place] for place, name in enumerate(names)}), set(names)


def _is_record(value: Any) -> bool:
    return isinstance(value, Mapping)


def _of_lists(x: Any, called: str) -> np.ndarray[Any, Any]:
    """Lists of numbers, one for a row. Raises DataError for others."""
    try:
        array = np.asarray(x)
    except ValueError:  # of unequal lengths
        array = np.asarray([None])
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"{called}: X is a {type(x).__name__} of what isn't numbers in rows of equal length; "
            "give an array, a data frame, or a list of dicts"
        )
    return array


def _array(value: Any) -> np.ndarray[Any, Any] | None:
    """The array of what is one: numpy's, a tensor; None of what has columns, or is a list."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        found: np.ndarray[Any, Any] = value.detach().cpu().numpy()
        return found
    return None


def _is_column(value: Any) -> bool:
    """Whether it holds one value for a row, rather than rows."""
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return True
    if (array := _array(value)) is not None:
        return array.ndim == 1
    if isinstance(value, tuple) and any(map(_has_length, value)):
        return False  # a pair, or what was meant as one
    if isinstance(value, Sequence) and not isinstance(value, str):
        return not (value and all(isinstance(one, Mapping) for one in value))
    has_columns = any(hasattr(value, name) for name in ("columns", "column_names", "schema"))
    return hasattr(value, "dtype") and not has_columns


def _has_length(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str)
