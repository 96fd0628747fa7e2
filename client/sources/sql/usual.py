"""A database's answer in Arrow's many types, in the few that tables here have."""

from __future__ import annotations

import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import distinct, unfit
from wardround.common.errors import DataError
from wardround.common.tasks.data.reading.types import as_usual, usual_type


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
            arrays.append(as_usual(column, field.type))
        except pa.ArrowInvalid:
            raise DataError(
                f"column '{field.name:.100}' has a value that {field.type} can't hold",
                who=address.name,
                mend="cast it in the query",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _usual(field: pa.Field, address: Address) -> pa.DataType:
    kind = usual_type(field.type)
    if kind is None:
        raise unfit(address, field.name, str(field.type))
    return kind
