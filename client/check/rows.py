"""Rows against the question: copies of others, patients twice, dates that can't be, what gives the
target away."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wardround.client.check.finding import Finding, State, count_of
from wardround.client.check.look import Looked
from wardround.common.tasks.data.profile import Profile, copies
from wardround.common.tasks.data.profile.words import says_patient
from wardround.common.tasks.data.snapshot import PATIENT
from wardround.common.tasks.options import TabularOptions

_EARLIEST = datetime(1900, 1, 1)
_HOW = {
    "equal": "is the target itself",
    "recoded": "is the target in other values",
    "nearly": "is the target but for few rows",
    "gaps": "is filled for one value of the target only",
    "parts": "parts the target's values without a mistake",
}


def row_findings(
    looked: Looked, table: pa.Table, found: Profile, options: TabularOptions, now: datetime
) -> Iterator[Finding]:
    """Everything that is to be said of whole rows.

    now : by the hospital's clock, without a zone
    """
    yield from _duplicates(looked, table)
    yield from _patients(looked, table, found, options)
    for name, type_ in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
            yield from _dates(looked, name, table.column(name), now)
    yield from _leaks(table, options)


def _duplicates(looked: Looked, table: pa.Table) -> Iterator[Finding]:
    names = table.column_names
    if not names or not table.num_rows:
        return
    numbered = table.append_column("", pa.array(np.arange(table.num_rows)))
    groups = numbered.group_by(names, use_threads=False).aggregate([("", "count"), ("", "max")])
    many = groups.filter(pc.greater(groups.column("_count"), 1))
    if not many.num_rows:
        return
    copied = pc.sum(many.column("_count")).as_py() - many.num_rows
    row = pc.min(many.column("_max")).as_py()
    yield Finding(
        "warning",
        looked.place(row, names[0]).partition(": column")[0],
        f"{count_of(copied)} of {table.num_rows:,} are copies of another row in every column",
        "if they are one record twice, remove them",
    )


def _patients(
    looked: Looked, table: pa.Table, found: Profile, options: TabularOptions
) -> Iterator[Finding]:
    named = PATIENT if PATIENT in table.column_names else options.columns.patient_id
    if named is None or named not in table.column_names:
        likely = next((name for name in found.columns if says_patient(name)), None)
        if likely is not None:
            yield Finding(
                "warning",
                f"column '{likely}'",
                "seems to say whose a row is, and nothing here knows it",
                f'write patient_id = "{likely}" in [data.NAME], so that a patient\'s rows stay '
                "together",
            )
        return
    column = table.column(named)
    if column.null_count:
        row = int(np.argmax(column.is_null().combine_chunks().to_numpy(zero_copy_only=False)))
        text = f"{count_of(column.null_count)} don't say whose they are"
        yield Finding("error", looked.place(row, named), text, "fill it in or drop the rows")
    patients = pc.count_distinct(column, mode="only_valid").as_py()
    rows = len(column) - column.null_count
    text = f"{patients:,} in {rows:,} rows"
    if patients == rows:
        yield Finding("ok", "patients", text)
        return
    most = pc.max(pc.value_counts(column.drop_null()).field("counts")).as_py()
    text += f", one in up to {most}" if most >= 5 else ""
    state: State = "warning" if rows and most > rows / 2 else "ok"
    yield Finding(state, "patients", f"{text}; a patient's rows stay on one side of the split")


def _dates(looked: Looked, name: str, column: pa.ChunkedArray, now: datetime) -> Iterator[Finding]:
    moments = column.cast(pa.timestamp("us"), safe=False)
    tomorrow = now + timedelta(days=1)
    for flags, when in (
        (pc.less(moments, pa.scalar(_EARLIEST, pa.timestamp("us"))), "before 1900"),
        (pc.greater(moments, pa.scalar(tomorrow, pa.timestamp("us"))), "in the future"),
    ):
        rows = np.flatnonzero(pc.fill_null(flags, False).to_numpy())
        if len(rows):
            text = f"{count_of(len(rows))} have a date {when}"
            yield Finding("warning", looked.place(int(rows[0]), name), text, "look at them")


def _leaks(table: pa.Table, options: TabularOptions) -> Iterator[Finding]:
    target = options.columns.target
    if target is None or target not in table.column_names or options.kind == "survival":
        return
    inputs = [*options.columns.numeric, *options.columns.binary, *options.columns.categorical]
    if options.columns.numeric == ["*"]:
        named = set(options.columns.named())
        inputs += [name for name in table.column_names if name not in named and name != PATIENT]
    among = [name for name in inputs if name in table.column_names]
    for name, one in copies(table, target, among).items():
        text = f"{_HOW[one.how]}: what is to be predicted would be known"
        yield Finding("warning", f"column '{name}'", text, "ask for task.columns.ignore")
