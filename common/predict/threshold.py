"""Which rows have a probability of at least some threshold."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from wardround.common.errors import ConfigError
from wardround.common.tasks.data.row_names import check_free
from wardround.common.tasks.schema import PROBABILITY, Schema

POSITIVE = "positive"
"""The column: whether the row is called positive."""


def with_threshold(
    tables: Iterator[pa.Table], schema: Schema, threshold: float
) -> Iterator[pa.Table]:
    """The tables with ``positive``, 1 or 0, behind. Raises ConfigError for a model of other than
    two classes."""
    if [one.name for one in schema.outputs] != [PROBABILITY]:
        raise ConfigError(
            "--threshold is for models of two classes, which predict one probability; leave it out"
        )
    return (_marked(table, threshold) for table in tables)


def _marked(table: pa.Table, threshold: float) -> pa.Table:
    check_free(POSITIVE, table.column_names)
    reached = pc.greater_equal(table.column(PROBABILITY), threshold)
    return table.append_column(POSITIVE, reached.cast(pa.int64()))
