"""Columns of Arrow's many types as the few that tables here have.

Decimals and float32 become the float64 that is nearest to their text, as an export to a file gives.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import distinct, unfit
from wardround.common.errors import DataError

STAMP = pa.timestamp("us")


def usual_schema(schema: pa.Schema, address: Address) -> pa.Schema:
    """Raises DataError for a column that can't be one of them."""
    names = distinct(schema.names, address)
    types = [_usual(field, address) for field in schema]
    return pa.schema(list(zip(names, types, strict=True)))


def usual_batch(batch: pa.RecordBatch, schema: pa.Schema, address: Address) -> pa.RecordBatch:
    """A batch in the types of ``usual_schema``. Raises DataError, by the column."""
    arrays = []
    for field, column in zip(schema, batch.columns, strict=True):
        try:
            arrays.append(_cast(column, field.type))
        except pa.ArrowInvalid:
            raise DataError(
                f"column '{field.name:.100}' has a value that {field.type} can't hold",
                who=address.name,
                mend="cast it in the query",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _usual(field: pa.Field, address: Address) -> pa.DataType:
    kind = field.type
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    if kinds.is_boolean(kind) or kinds.is_null(kind):
        return pa.bool_() if kinds.is_boolean(kind) else pa.string()
    if kinds.is_integer(kind):
        return pa.int64()
    if kinds.is_floating(kind) or kinds.is_decimal(kind):
        return pa.float64()
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return pa.string()
    if kinds.is_date(kind):
        return pa.date32()
    if kinds.is_timestamp(kind):
        return STAMP
    raise unfit(address, field.name, str(field.type))


def _cast(column: pa.Array, to: pa.DataType) -> pa.Array:
    kind = column.type
    if kind == to:
        return column
    if kinds.is_decimal(kind) or kinds.is_float32(kind):
        return pc.cast(pc.cast(column, pa.string()), to)
    if kinds.is_timestamp(kind):
        zone = pa.timestamp("us", kind.tz)  # what is finer than microseconds is cut, not refused
        return pc.cast(pc.cast(column, zone, safe=kind.unit != "ns"), to)
    return pc.cast(column, to)
