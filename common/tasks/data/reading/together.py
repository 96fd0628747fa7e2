"""Tables of several files as one, each column in the type that all of them fit into."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from wardround.common.tasks.data.reading.types import canonical_texts


def together(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all, in order; columns in the order of the first. All have the same names."""
    if len(tables) == 1:
        return tables[0]
    names = tables[0].column_names
    return pa.table(
        {name: _column([table.column(name) for table in tables]) for name in names}
    ).replace_schema_metadata(tables[0].schema.metadata)


def _column(parts: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    target = _common([part.type for part in parts if part.null_count < len(part)])
    chunks = [chunk for part in parts for chunk in _cast(part, target).chunks]
    return pa.chunked_array(chunks, type=target)


def _common(kinds: Sequence[pa.DataType]) -> pa.DataType:
    """The type of columns that hold something; numbers are float64 beside each other."""
    found = set(kinds)
    if len(found) == 1:
        return found.pop()
    if found == {pa.int64(), pa.float64()}:
        return pa.float64()
    if found == {pa.date32(), pa.timestamp("us")}:
        return pa.timestamp("us")
    return pa.string()


def _cast(part: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if part.type == target:
        return part
    if part.null_count == len(part):
        return pa.chunked_array([pa.nulls(len(part), target)])
    if target == pa.string():
        return pa.chunked_array([canonical_texts(chunk) for chunk in part.chunks], target)
    return part.cast(target, safe=False)
