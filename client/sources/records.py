"""Records of patients as rows of a cohort, however they were read: OMOP's and FHIR's alike.

A source hands in the days, moments and values of the records that a cohort asks for; what a row is
and which record counts is worked out here, as ``common/settings/cohort.py`` says it. Records stand
in columns of 8 bytes each, never as an object each. Days are proleptic ordinals
(``date.toordinal``), moments microseconds since 1970 in UTC, of whichever clock the source keeps.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from wardround.client.sources.source import Asked
from wardround.common.settings.cohort import (
    INDEX_DATE,
    PATIENT_ID,
    CohortIndex,
    CohortTable,
    CohortVariable,
    age_on,
)

Ints = NDArray[np.int64]
Numbers = NDArray[np.float64]

UNKNOWN = -1
"""Of a day: nobody knows it."""
PAIRS_AT_ONCE = 1 << 20
"""Pairs of a record and a window that are looked at together."""
_EPOCH = date(1970, 1, 1).toordinal()


class Records:
    """Of one variable, or of the index event: a column for each of what is known of a record.

    ``value`` is a number in the variable's unit, or the place of its category among those that are
    named; 0 where it has none.
    """

    def __init__(self) -> None:
        self._patient, self._first = array("q"), array("q")
        self._last, self._moment = array("q"), array("q")
        self._value = array("d")

    def __len__(self) -> int:
        return len(self._patient)

    def add(self, patient: int, first: int, last: int, moment: int, value: float = 0.0) -> int:
        """Give a record's place. ``first``, ``last``: the days that it may be of, mostly one."""
        self._patient.append(patient)
        self._first.append(first)
        self._last.append(last)
        self._moment.append(moment)
        self._value.append(value)
        return len(self._patient) - 1

    def drop(self, place: int) -> None:
        """Take a record back."""
        self._patient[place] = UNKNOWN

    def columns(self) -> Columns:
        """All that weren't taken back."""
        whole = (self._patient, self._first, self._last, self._moment)
        patient, first, last, moment = (np.array(one, np.int64) for one in whole)
        found = Columns(patient, first, last, moment, np.array(self._value, np.float64))
        return found.where(found.patient >= 0)


@dataclass(frozen=True)
class Columns:
    """Records as arrays of one length."""

    patient: Ints
    first: Ints
    last: Ints
    moment: Ints
    value: Numbers

    def where(self, chosen: NDArray[np.bool_] | Ints) -> Columns:
        """Some of them, or all in another order."""
        return Columns(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass
class Patients:
    """Who there is, by their place in ``ids``.

    born : day, UNKNOWN where nobody knows
    sex : as ``SEXES`` has it; None where nobody knows
    died_first, died_last : the days that the death may be of; both UNKNOWN of who lives. One who
        died on nobody knows which day has 1 and the largest day
    """

    ids: list[str] = field(default_factory=list)
    born: list[int] = field(default_factory=list)
    sex: list[str | None] = field(default_factory=list)
    died_first: list[int] = field(default_factory=list)
    died_last: list[int] = field(default_factory=list)

    def add(self, name: str, born: int, sex: str | None, died: tuple[int, int]) -> int:
        """Give the patient's place."""
        self.ids.append(name)
        self.born.append(born)
        self.sex.append(sex)
        self.died_first.append(died[0])
        self.died_last.append(died[1])
        return len(self.ids) - 1

    def age(self, patient: int, day: int) -> int | None:
        """Whole years; None before birth, and where nobody knows."""
        born = self.born[patient]
        return None if born == UNKNOWN else age_on(date.fromordinal(day), date.fromordinal(born))


@dataclass
class Told:
    """What became of records and rows, by reason: for the hospital's own log."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, count: int = 1) -> None:
        """Count. A reason with 0 is told, too."""
        self.counts[reason] = self.counts.get(reason, 0) + count


@dataclass(frozen=True)
class Rows:
    """Whose rows, and of which day: ordered by patient's id, then day."""

    patient: Ints
    day: Ints

    def __len__(self) -> int:
        return len(self.patient)


def rows_of(index: CohortIndex, events: Columns, patients: Patients, told: Told) -> Rows:
    """The rows that the index events make."""
    whole = events.where(events.first == events.last)
    told.add("index events", len(events.patient))
    told.add("of these without a day", len(events.patient) - len(whole.patient))
    pairs = np.unique(np.stack([whole.patient, whole.first], axis=1), axis=0)
    low = date.fromisoformat(index.earliest).toordinal() if index.earliest else 0
    high = date.fromisoformat(index.latest).toordinal() if index.latest else 1 << 40
    dated = pairs[(pairs[:, 1] >= low) & (pairs[:, 1] <= high)]
    told.add("days outside the study's dates", len(pairs) - len(dated))
    if (limits := index.age_years) is not None:
        ages = [patients.age(int(patient), int(day)) for patient, day in dated]
        fit = [age is not None and limits[0] <= age <= limits[1] for age in ages]
        told.add("days at another age", len(fit) - sum(fit))
        dated = dated[np.array(fit, np.bool_)]
    if index.take != "each" and len(dated):
        new = np.flatnonzero(np.diff(dated[:, 0]))  # they are ordered by patient and day
        ends = np.append(new, len(dated) - 1)
        dated = dated[np.concatenate([[0], new + 1]) if index.take == "first" else ends]
    # code points are ordered as their bytes in UTF-8
    named = sorted(set(dated[:, 0].tolist()), key=lambda patient: patients.ids[patient])
    rank = dict(zip(named, range(len(named)), strict=True))
    order = np.lexsort((dated[:, 1], np.array([rank[one] for one in dated[:, 0].tolist()], int)))
    return Rows(dated[order, 0], dated[order, 1])


def answer(
    cohort: CohortTable,
    rows: Rows,
    patients: Patients,
    records: Mapping[str, Records],
    told: Told,
    columns: Sequence[str],
) -> pa.Table:
    """The table that a cohort asks for.

    Parameters
    ----------
    records : by variable, of those that have records
    columns : which of ``cohort.columns``, in this order; all decide which rows stay
    """
    cells: dict[str, pa.Array] = {
        PATIENT_ID: pa.array([patients.ids[one] for one in rows.patient], pa.string()),
        INDEX_DATE: pa.array(rows.day - _EPOCH, pa.int32()).cast(pa.date32()),
    }
    stay = np.ones(len(rows), np.bool_)
    for name, variable in cohort.variables.items():
        if name not in columns and variable.rows == "all":
            continue
        found = _cells(variable, rows, patients, records.get(name), told)
        if variable.rows != "all":
            kept = np.array([variable.keeps(cell) for cell in found.to_pylist()], np.bool_)
            stay &= kept
            told.add(f"rows that '{name}' left out", int((~kept).sum()))
        cells[name] = found
    table = pa.table({name: cells[name] for name in columns})
    told.add("rows", int(stay.sum()))
    return table.filter(pa.array(stay))


def _cells(
    variable: CohortVariable, rows: Rows, patients: Patients, records: Records | None, told: Told
) -> pa.Array:
    if variable.of == "sex":
        return pa.array([patients.sex[one] for one in rows.patient], pa.string())
    if variable.of == "age":
        pairs = zip(rows.patient.tolist(), rows.day.tolist(), strict=True)
        return pa.array([patients.age(patient, day) for patient, day in pairs], pa.int64())
    if variable.of == "death":
        return _deaths(variable, rows, patients)
    assert records is not None
    return _taken(variable, rows, records.columns(), told)


def _deaths(variable: CohortVariable, rows: Rows, patients: Patients) -> pa.Array:
    """1 where all days that it may be of lie in the window, 0 where none does."""
    low, high = (rows.day + days for days in variable.window)
    first = np.array(patients.died_first, np.int64)[rows.patient]
    last = np.array(patients.died_last, np.int64)[rows.patient]
    dead = first != UNKNOWN
    inside = dead & (first >= low) & (last <= high)
    outside = ~dead | (first > high) | (last < low)
    return pa.array(inside.astype(np.int64), mask=~(inside | outside))


def _taken(variable: CohortVariable, rows: Rows, records: Columns, told: Told) -> pa.Array:
    """A cell for each row, of the records in its window."""
    take = variable.takes
    # of several at one moment the larger value counts, or the category that is named first
    rank = -records.value if variable.categories else records.value
    records = records.where(
        np.lexsort((-rank if take == "first" else rank, records.moment, records.patient))
    )
    counts = np.zeros(len(rows), np.int64)
    values = np.zeros(len(rows), np.float64)
    low, high = variable.window
    for row, at in _pairs(rows, records.patient):
        day = rows.day[row]
        first, last = records.first[at], records.last[at]
        inside = (first >= day + low) & (last <= day + high)
        partly = (last >= day + low) & (first <= day + high) & ~inside
        if partly.any():
            told.add("records whose month or year is only partly in a window", int(partly.sum()))
        row, at = row[inside], at[inside]
        if not len(row):
            continue
        starts = np.append(0, np.flatnonzero(np.diff(row)) + 1)
        ends = np.append(starts[1:], len(row))
        counts[row[starts]] = ends - starts
        values[row[starts]] = _folded(take, records.value[at], starts, ends)
    if take == "count":
        return pa.array(counts)
    if take == "any":
        return pa.array((counts > 0).astype(np.int64))
    if variable.categories:
        texts = list(variable.categories)
        there = zip(values.tolist(), counts.tolist(), strict=True)
        return pa.array([texts[int(one)] if count else None for one, count in there], pa.string())
    return pa.array(values, mask=counts == 0)


def _pairs(rows: Rows, patient: Ints) -> Iterator[tuple[Ints, Ints]]:
    """Each row with every record of its patient, as places of both, in chunks of whole rows.

    patient : of each record, ascending
    """
    low = np.searchsorted(patient, rows.patient, "left")
    many = np.searchsorted(patient, rows.patient, "right") - low
    ends = np.cumsum(many)
    begin = 0
    while begin < len(rows):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + PAIRS_AT_ONCE, "right")))
        some = many[begin:end]
        row = np.repeat(np.arange(begin, end), some)
        within = np.arange(len(row)) - np.repeat(np.cumsum(some) - some, some)
        yield row, within + np.repeat(low[begin:end], some)
        begin = end


def _folded(take: str, values: Numbers, starts: Ints, ends: Ints) -> Numbers:
    """One value of each run of values."""
    if take == "min":
        return np.minimum.reduceat(values, starts)
    if take == "max":
        return np.maximum.reduceat(values, starts)
    if take == "mean":
        runs = zip(starts.tolist(), ends.tolist(), strict=True)
        listed = values.tolist()
        return np.array([math.fsum(listed[a:b]) / (b - a) for a, b in runs])
    return values[starts if take == "first" else ends - 1]


def empty_why(told: Told) -> str:
    """Why a cohort has no row, in counts: for the hospital's own log."""
    return ", ".join(f"{count:,} {reason}" for reason, count in told.counts.items())


def answered_columns(asked: Asked) -> list[str]:
    """Which columns a source of records gives: those of the cohort, ``index_date`` only where the
    study's task names it, as else every unnamed column is an input."""
    named = f'"{INDEX_DATE}"' in json.dumps(asked.config.task.options)
    return [name for name in asked.cohort.columns if named or name != INDEX_DATE]
