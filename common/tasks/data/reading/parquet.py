"""Parquet files as typed columns; a type that is no column's is refused by the column's name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wardround.common.errors import DataError
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.reading.content import other_kind
from wardround.common.tasks.data.reading.names import checked_names, looks_like_a_cell
from wardround.common.tasks.data.reading.types import NoType, typed

_MAGIC = b"PAR1"


def read_parquet(path: Path, hide_names: bool) -> pa.Table:
    """See ``read.read_file``. Raises DataError with all columns of a type that none can have."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
        whole = head.startswith(_MAGIC)
        found = pq.read_table(path, use_threads=True) if whole else None
    except OSError as error:
        why = f"can't be read ({error.strerror})" if error.strerror else "damaged; copy it again"
        raise DataError(f"{path}: {why}") from None
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"{path}: not readable as Parquet ({type(error).__name__}); write it again"
        ) from None
    if found is None:
        what = other_kind(head)
        other = f"it rather is {what}" if what else "begins as no such; check its ending"
        raise DataError(f"{path}: not readable as Parquet: {other if head else 'an empty file'}")
    names = checked_names(path, found.column_names, hide_names)
    problems, columns = Problems(path), []
    for name, column in zip(names, found.columns, strict=True):
        hidden = hide_names or looks_like_a_cell(name)
        try:
            columns.append(typed(column, f"{path}: column {'' if hidden else f'{name!r}'}".strip()))
        except NoType as error:
            problems.add(str(error))
    problems.check()
    if found.num_rows == 0:
        raise DataError(f"{path}: there are no rows; check that this is the right file")
    return pa.table(columns, names=names).replace_schema_metadata(found.schema.metadata)
