"""The answers of the statements as records: people, days, values in the study's units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.client.sources.records import UNKNOWN, Columns, Ints, Numbers, Patients, Records
from wardround.client.sources.sql.database import Database
from wardround.client.sources.sql.query import Query
from wardround.common.errors import DataError
from wardround.common.settings.cohort import birth_date

_SEXES = {8507: "male", 8532: "female", 8521: "other", 8570: "other"}
"""By ``gender_concept_id``."""
NO_DATE = UNKNOWN - 1
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?\s*", re.ASCII)
_SOME_DAY = (1, 1 << 40)
"""Of who died nobody knows when."""
_EPOCH = date(1970, 1, 1).toordinal()
_DAY_US = 86_400_000_000


def whole(database: Database, query: Query) -> pa.Table:
    """The answer of a statement in one."""
    return pa.Table.from_batches(list(database.rows(query)))


def days_of(column: pa.ChunkedArray) -> Ints:
    """Days as ordinals, UNKNOWN for none, NO_DATE for a text that is no date."""
    if not pa.types.is_date(column.type) and not pa.types.is_timestamp(column.type):
        column = pa.chunked_array([[_day(text) for text in column.to_pylist()]], pa.int64())
        found: Ints = pc.fill_null(column, UNKNOWN).to_numpy()
        return found
    numbers = column.cast(pa.date32()).cast(pa.int32())
    dates: Ints = pc.fill_null(numbers, UNKNOWN - _EPOCH).to_numpy().astype(np.int64)
    return dates + _EPOCH


@lru_cache(maxsize=1 << 16)
def _day(text: Any) -> int | None:
    """Of one text, as SQLite has dates."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text).toordinal() if _DATE.fullmatch(text) else NO_DATE
    except (TypeError, ValueError):  # a number, the 31st of February
        return NO_DATE


def numbers_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """float64; not finite for a text that is no number."""
    if not pa.types.is_string(column.type):
        return column.cast(pa.float64(), safe=False)
    return pa.chunked_array([[_number(text) for text in column.to_pylist()]], pa.float64())


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def moments_of(column: pa.ChunkedArray, days: Ints) -> Ints:
    """Microseconds since 1970; midnight of the day where there is none, or another day's."""
    midnight = (days - _EPOCH) * _DAY_US
    numbers = column.cast(pa.timestamp("us")).cast(pa.int64())
    found = pc.fill_null(numbers, np.iinfo(np.int64).min).to_numpy()
    return np.where((found >= midnight) & (found < midnight + _DAY_US), found, midnight)


class AsRead(Records):
    """Records that are in columns already."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self._columns = columns

    def columns(self) -> Columns:
        return self._columns


class People:
    """Who there is, with the place of each ``person_id``.

    by : which column is the patient's id
    """

    def __init__(self, persons: pa.Table, deaths: pa.Table | None, by: str, who: Database) -> None:
        self.patients = Patients()
        ids = persons["person_id"].to_numpy()
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        if persons[by].null_count:
            raise DataError(
                f"a row of person has no {by}",
                who=who.address.name,
                mend='patients_by = "person_id"',
            )
        died = self._deaths(deaths)
        for row in persons.take(pa.array(order)).to_pylist():
            person = row["person_id"]
            sex = _SEXES.get(row["gender_concept_id"])
            self.patients.add(str(row[by]), _born(row), sex, died.get(person, (UNKNOWN, UNKNOWN)))

    @staticmethod
    def _deaths(deaths: pa.Table | None) -> dict[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}
        if deaths is None:
            return found
        days = days_of(deaths["day"]).tolist()
        for person, day in zip(deaths["person_id"].to_pylist(), days, strict=True):
            said = (day, day) if day >= 0 else _SOME_DAY
            before = found.get(person)
            found[person] = said if before in (None, _SOME_DAY) else min(before, said)
        return found

    def places(self, persons: pa.ChunkedArray) -> Ints:
        """Of ``person_id``s; -1 for who isn't a person there."""
        ids = persons.to_numpy()
        if not len(self._ids):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[at] == ids, at, -1).astype(np.int64)


def _born(row: Mapping[str, int | None]) -> int:
    year, month, day = (row[f"{part}_of_birth"] for part in ("year", "month", "day"))
    if year is None:
        return UNKNOWN
    try:
        return birth_date(int(year), month and int(month), day and int(day)).toordinal()
    except ValueError:
        return UNKNOWN


def by_variable(found: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """The records of each variable."""
    numbers = found["variable"].to_numpy()
    for number in np.unique(numbers).tolist():
        yield number, found.filter(pa.array(numbers == number))


def columns_of(
    found: pa.Table, values: Numbers, keep: NDArray[np.bool_], people: People
) -> Columns:
    """Some of the records, as ``records.py`` has them."""
    days = days_of(found["day"])
    moments = moments_of(found["moment"], days)
    patients = people.places(found["person_id"])
    keep = keep & (patients >= 0)
    return Columns(patients, days, days, moments, values).where(keep)
