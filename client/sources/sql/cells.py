"""Python's values of rows as typed columns, for databases that give nothing better.

What a column is follows from all its values, found in a first pass over the same answer, so that
every batch has one schema: a column of whole numbers with one fraction is float64 from its first
row on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from wardround.client.sources.sql.address import Address
from wardround.client.sources.sql.database import unfit
from wardround.common.errors import DataError

STAMP = pa.timestamp("us")
_MOST = 2**63


class Kinds:
    """Which types of values each column has had."""

    def __init__(self, columns: int) -> None:
        self._types: list[set[type]] = [set() for _ in range(columns)]

    def see(self, rows: Iterable[Sequence[Any]]) -> None:
        """Some rows."""
        for types, values in zip(self._types, zip(*rows, strict=True), strict=False):
            types.update(map(type, values))

    def schema(self, names: Sequence[str], address: Address) -> pa.Schema:
        """Raises DataError for a column of values that no table here has."""
        pairs = zip(names, self._types, strict=True)
        return pa.schema([(name, self._one(name, types, address)) for name, types in pairs])

    @staticmethod
    def _one(name: str, types: set[type], address: Address) -> pa.DataType:
        types = types - {type(None)}
        for one in types:
            if not issubclass(one, bool | int | float | Decimal | str | date):
                raise unfit(address, name, one.__name__)
        if not types or any(issubclass(one, str) for one in types):
            return pa.string()
        if types == {bool}:
            return pa.bool_()
        if all(issubclass(one, int) for one in types):
            return pa.int64()
        if all(issubclass(one, int | float | Decimal) for one in types):
            return pa.float64()
        if types == {date}:
            return pa.date32()
        if all(issubclass(one, date) for one in types):
            return STAMP
        raise unfit(address, name, "now a number, now a date")


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema, address: Address) -> pa.RecordBatch:
    """Rows as columns. Raises DataError, by the column, for a value that its type can't hold."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        try:
            arrays.append(_array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError, TypeError):
            raise DataError(
                f"column '{field.name:.100}' has a value that isn't of its type ({field.type}), or "
                "is too large for it",
                who=address.name,
                mend="cast it in the query",
            ) from None
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    convert: Callable[[Any], Any] | None = None
    if pa.types.is_string(kind):
        convert = None if all(v is None or type(v) is str for v in values) else text_of
    elif pa.types.is_floating(kind):
        convert = _number
    elif kind == STAMP:
        convert = moment
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, kind)


def _number(value: Any) -> float:
    """float64. Raises OverflowError for a whole number that none is."""
    number = float(value)
    if isinstance(value, int) and number != value:
        raise OverflowError
    return number


def text_of(value: Any) -> str:
    """A value's canonical text.

    >>> text_of(12.0), text_of(0.5), text_of(True), text_of("a")
    ('12', '0.5', 'true', 'a')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float | Decimal):
        value = float(value)
        return str(int(value)) if value.is_integer() and abs(value) < _MOST else repr(value)
    return moment(value).isoformat(" ") if isinstance(value, datetime) else str(value)


def moment(value: date) -> datetime:
    """A date or time as a time without a zone: in UTC where it had one."""
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
