"""Reads an export for a cohort: patients, then index events, then what the variables ask for."""

from __future__ import annotations

import json
import math
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from wardround.client.sources.fhir import resources as r
from wardround.client.sources.fhir.export import Export, Line
from wardround.client.sources.fhir.settings import FhirSource, Kind
from wardround.client.sources.fhir.wanted import INDEX, Wanted
from wardround.client.sources.records import (
    Patients,
    Records,
    Rows,
    Told,
    answer,
    answered_columns,
    empty_why,
    rows_of,
)
from wardround.client.sources.source import Asked
from wardround.client.sources.units import Units
from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import OF_TABLES, Unread
from wardround.common.tasks.data.left_out import LeftOut

_MOST_LISTED = 1000
_BATCH_ROWS = 1 << 16
_Place = tuple[int, int]
"""Of a record: target, and place among its records."""
_Versions = dict[str, tuple[int, tuple[_Place, ...]]]
"""By id: when the version that counts, the one that was updated last, was, and its records."""
_OLDER = "older versions of the same resource"


class Unusable(ValueError):
    """A resource that is asked for and can't be used; what and mend, nothing of it quoted."""


class FhirRows:
    """``source = "fhir"``."""

    def __init__(self, settings: FhirSource) -> None:
        self._settings = settings
        self._left: dict[str, int] = {}
        zone = settings.time_zone
        self._zone = zoneinfo.ZoneInfo(zone) if zone else None

    def batches(self, asked: Asked) -> Iterator[pa.RecordBatch]:
        reading = _Reading(self._settings, asked, self._zone)
        table = reading.table()
        self._left = reading.left
        yield from table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS)

    def left_out(self) -> tuple[LeftOut, ...]:
        return tuple(LeftOut(n, "records", why) for why, n in self._left.items() if n)


class _Reading:
    """One reading of an export."""

    def __init__(self, settings: FhirSource, asked: Asked, zone: Any) -> None:
        self._settings, self._asked, self._zone = settings, asked, zone
        self._cohort = asked.cohort
        self._wanted = Wanted(self._cohort, settings.codes, asked.called)
        self._export = Export((asked.base / settings.path).resolve())
        self._records = {INDEX: Records()}
        self._units: dict[int, Units] = {}
        for number, one in enumerate(self._wanted.variables):
            self._records[number] = Records()
            if one.is_number:
                self._units[number] = Units(one, settings.units)
        self._patients, self._places = Patients(), dict[str, int]()
        self._medications: dict[str, set[int]] = {}
        self._chosen: set[int] | None = None
        self._concerned = 0
        self._unread = Unread("records", settings.left_out_share or OF_TABLES)
        self._told, self.left = Told(), dict[str, int]()
        self._decode = json.JSONDecoder(parse_constant=_no_number).decode

    def table(self) -> pa.Table:
        """Raises DataError."""
        self._has_files()
        self._read_patients()
        index = self._wanted.index_kind
        if "MedicationRequest" in self._wanted.kinds:
            self._read_medications()
        self._read(index)
        events = self._records[INDEX].columns()
        rows = rows_of(self._cohort.index, events, self._patients, self._told)
        self._chosen = set(rows.patient.tolist())
        for kind in self._wanted.kinds:
            if kind != index:
                self._read(kind)
        self._judge()
        return self._answer(rows)

    def _answer(self, rows: Rows) -> pa.Table:
        named = dict(zip(self._wanted.names, range(len(self._wanted.names)), strict=True))
        records = {name: self._records[number] for name, number in named.items()}
        columns = answered_columns(self._asked)
        table = answer(self._cohort, rows, self._patients, records, self._told, columns)
        why = empty_why(self._told)
        if not len(table):
            raise DataError(f"{self._asked.called}: no row answers the cohort: {why}")
        self._asked.say(why)
        return table

    def _has_files(self) -> None:
        """Raises DataError where a type has no file, and nobody said that there are none."""
        needed: list[Kind] = ["Patient", *self._wanted.kinds]
        for kind in needed:
            if kind not in self._export.files and kind not in self._settings.absent:
                raise DataError(
                    f"{self._asked.called}: the export has no file of {kind} resources, which the "
                    f'study asks about; export them, or say absent = ["{kind}"] if there are none'
                )

    # --- passes -----------------------------------------------------------------------------------
    def _each(
        self, kind: Kind, may: Callable[[bytes], bool] | None, use: Callable[[r.Resource], bool]
    ) -> None:
        """Use every resource of a type; one that can't be used is noted.

        use : whether the cohort asks for this one
        """
        for line in self._export.lines(kind, may):
            try:
                resource = self._resource(line.bytes, kind)
                self._concerned += use(resource)
            except Unusable as error:
                self._note(line, str(error))
            except r.MALFORMED:
                self._note(line, f"isn't what FHIR has of type {kind}; export it again")

    def _resource(self, data: bytes, kind: Kind) -> r.Resource:
        """Raises Unusable."""
        try:
            resource = self._decode(data.decode())
        except UnicodeDecodeError:
            raise Unusable("isn't UTF-8; export it again") from None
        except (ValueError, RecursionError):
            nul = "has NUL bytes" if b"\0" in data else "is broken JSON"
            raise Unusable(f"{nul}: one resource a line; export it again") from None
        if not isinstance(resource, dict) or "resourceType" not in resource:
            raise Unusable("is no FHIR resource; export it again")
        if resource["resourceType"] != kind:
            raise Unusable(
                f"isn't of type {kind}; a file has resources of one type: move it elsewhere"
            )
        return resource

    def _read_patients(self) -> None:
        versions = dict[str, tuple[int, tuple[int, str | None, tuple[int, int]]]]()

        def use(resource: r.Resource) -> bool:
            name, when = _name(resource), r.updated(resource)
            said = (r.born(resource), r.sex(resource), r.died(resource, self._zone))
            if name in versions:
                self._leave(_OLDER)
                if versions[name][0] > when:
                    return True
            versions[name] = (when, said)
            return True

        self._each("Patient", None, use)
        for name, (_, said) in versions.items():
            self._places[name] = self._patients.add(name, *said)
        self._told.add("patients", len(versions))

    def _read_medications(self) -> None:
        """Which targets each medication is for that requests refer to."""

        def use(resource: r.Resource) -> bool:
            targets = self._wanted.targets("MedicationRequest", r.codings("Medication", resource))
            if targets:
                self._medications[_name(resource)] = targets
            return bool(targets)

        self._each("Medication", self._wanted.may_concern("MedicationRequest"), use)

    def _read(self, kind: Kind) -> None:
        versions = _Versions()
        more = self._medications if kind == "MedicationRequest" else ()
        may = self._wanted.may_concern(kind, more)
        self._each(kind, may, lambda resource: self._use(kind, resource, versions))

    # --- one resource -----------------------------------------------------------------------------
    def _use(self, kind: Kind, resource: r.Resource, versions: _Versions) -> bool:
        """Keep what the cohort asks for; whether that is anything. Raises Unusable, MALFORMED."""
        found = list(self._values(kind, resource))
        name = _name(resource)
        if not found and name not in versions:
            return False
        when = r.updated(resource)
        if name in versions:
            self._leave(_OLDER)
            before, places = versions[name]
            if before > when:
                return True
            for target, place in places:
                self._records[target].drop(place)
        versions[name] = (when, ())
        if why := r.why_not(kind, resource):
            self._leave(why)
            return True
        patient = self._places.get(r.patient_of(resource))
        if patient is None:
            self._leave("of nobody in the export's Patient files")
        elif self._chosen is not None and patient not in self._chosen:
            del versions[name]  # most are such: what isn't asked for takes no memory
        else:
            versions[name] = (when, tuple(self._kept(kind, resource, patient, found)))
        return True

    def _kept(
        self, kind: Kind, resource: r.Resource, patient: int, found: list[tuple[int, Any]]
    ) -> Iterator[_Place]:
        """Keep a record for each target."""
        made = []
        for target, holder in found:
            by_end = target == INDEX and self._cohort.index.date == "end"
            try:
                when = r.day_of(kind, resource, by_end, self._zone)
            except r.MALFORMED:
                raise Unusable("has a date that is none; mend it where it is recorded") from None
            if when is None:
                self._leave("without a date")
                continue
            value = self._value(target, holder)
            if value is not None:
                made.append((target, when, value))
        for target, when, value in made:
            yield target, self._records[target].add(patient, *when, value)

    def _values(self, kind: Kind, resource: r.Resource) -> Iterator[tuple[int, r.Resource]]:
        """Targets of a resource, each with what has its value: an observation or a component."""
        if kind == "Observation":
            for holder, codings in r.measured(resource):
                for target in self._wanted.targets(kind, codings):
                    yield target, holder
            return
        targets = self._wanted.targets(kind, r.codings(kind, resource))
        if kind == "MedicationRequest" and self._medications:
            name = r.id_of(r.medication_reference(resource), "Medication")
            targets |= self._medications.get(name, set())
        for target in targets:
            yield target, resource

    def _value(self, target: int, holder: r.Resource) -> float | None:
        """Of a record; None where it has none that counts. Raises Unusable."""
        one = self._wanted.variables[target] if target != INDEX else None
        of = one.of if one is not None else self._cohort.index.event
        if of not in ("measurement", "observation"):
            return 0.0
        if one is not None and one.categories:
            place = self._wanted.category(target, r.value_codings(holder))
            if place is None:
                self._leave("without one of the categories asked for")
            return place
        try:
            quantity = r.quantity(holder)
        except ValueError:
            raise Unusable("has a value that is no number; mend it where it is recorded") from None
        if one is None or not one.is_number:
            there = quantity is not None or r.value_codings(holder) or of == "observation"
            return 0.0 if there and not r.is_absent(holder) else None
        if quantity is None:
            self._leave("without a number")
            return None
        value = self._units[target].value(*quantity)
        if value is None or not math.isfinite(value):
            raise Unusable(
                f"has a unit that nothing turns into {one.unit} of cohort.variables."
                f"{self._wanted.names[target]}; name it under units of {self._asked.called}, or "
                "ask that the study does"
            )
        return value

    # --- what can't be used -----------------------------------------------------------------------
    def _leave(self, why: str) -> None:
        self.left[why] = self.left.get(why, 0) + 1

    def _note(self, line: Line, what: str) -> None:
        shown = [f"{line.path}:{line.number}: {what}"] if len(self._unread) < _MOST_LISTED else []
        self._unread.add(*shown)

    def _judge(self) -> None:
        """Raises DataError where more can't be used than may be left out."""
        left = self._unread.left_out(self._concerned + len(self._unread))
        self.left[left.reason] = left.count


def _name(resource: r.Resource) -> str:
    """Its id. Raises Unusable."""
    name = resource.get("id")
    if not isinstance(name, str) or not name:
        raise Unusable("has no id; export it again")
    return name


def _no_number(text: str) -> Any:
    raise ValueError("no JSON")


def look(settings: FhirSource, base: Path) -> str:
    """What there is, for ``wardround doctor``: types and files. Raises DataError."""
    export = Export((base / settings.path).resolve())
    found = [f"{kind} ({len(files)})" for kind, files in sorted(export.files.items()) if kind]
    return f"{settings.path}: files of {', '.join(found)}"
