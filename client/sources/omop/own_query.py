"""A hospital's own SQL in place of what is made of the cohort: held to the cohort's columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from wardround.client.sources.records import answered_columns
from wardround.client.sources.source import Asked
from wardround.common.errors import DataError
from wardround.common.settings.cohort import INDEX_DATE, PATIENT_ID

_FORMS = {"number": pa.float64(), "count": pa.int64(), "text": pa.string()}


def fitted(batches: Iterable[pa.RecordBatch], asked: Asked) -> Iterator[pa.RecordBatch]:
    """Batches with the cohort's columns, in their types; others are left out.

    Raises DataError for a column that is missing, or whose values aren't of its type.
    """
    cohort = asked.cohort
    kinds = {PATIENT_ID: pa.string(), INDEX_DATE: pa.date32()}
    kinds |= {name: _FORMS[one.form] for name, one in cohort.variables.items()}
    schema = pa.schema([(name, kinds[name]) for name in answered_columns(asked)])
    for batch in batches:
        if missing := [name for name in schema.names if name not in batch.schema.names]:
            raise DataError(
                f"{asked.called}: its query has no column {', '.join(map(repr, missing[:20]))}, "
                "which the study's [cohort] has; name it (AS)"
            )
        arrays = []
        for field in schema:
            try:
                arrays.append(batch.column(field.name).cast(field.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise DataError(
                    f"{asked.called}: column '{field.name}' of its query isn't of the type that "
                    f"the study's [cohort] has ({field.type}); cast it"
                ) from None
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
