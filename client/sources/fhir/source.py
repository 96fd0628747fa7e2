"""Reads an export for a cohort: patients, then index events, then what the variables ask for."""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from wardround.client.sources.fhir import resources as r
from wardround.client.sources.fhir.collect import Collected, Unusable, Versions
from wardround.client.sources.fhir.export import Export, Line
from wardround.client.sources.fhir.settings import FhirSource, Kind
from wardround.client.sources.fhir.wanted import INDEX, Wanted
from wardround.client.sources.records import (
    Rows,
    answer,
    answered_columns,
    empty_why,
    rows_of,
)
from wardround.client.sources.source import Asked
from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import OF_TABLES, Unread
from wardround.common.tasks.data.left_out import LeftOut

_MOST_LISTED = 1000
_BATCH_ROWS = 1 << 16


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
        self._collected = Collected(self._wanted, settings.units, zone, asked.called)
        self._concerned = 0
        self._unread = Unread("records", settings.left_out_share or OF_TABLES)
        self.left = self._collected.left
        self._decode = json.JSONDecoder(parse_constant=_no_number).decode

    def table(self) -> pa.Table:
        """Raises DataError."""
        collected = self._collected
        self._has_files()
        self._read_patients()
        index = self._wanted.index_kind
        if "MedicationRequest" in self._wanted.kinds:
            self._read_medications()
        self._read(index)
        events = collected.records[INDEX].columns()
        rows = rows_of(self._cohort.index, events, collected.patients, collected.told)
        collected.chosen = set(rows.patient.tolist())
        for kind in self._wanted.kinds:
            if kind != index:
                self._read(kind)
        self._judge()
        return self._answer(rows)

    def _answer(self, rows: Rows) -> pa.Table:
        collected = self._collected
        named = dict(zip(self._wanted.names, range(len(self._wanted.names)), strict=True))
        records = {name: collected.records[number] for name, number in named.items()}
        columns = answered_columns(self._asked)
        table = answer(self._cohort, rows, collected.patients, records, collected.told, columns)
        why = empty_why(collected.told)
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
        self._each("Patient", None, self._collected.add_patient)
        self._collected.settle_patients()

    def _read_medications(self) -> None:
        """Which targets each medication is for that requests refer to."""
        may = self._wanted.may_concern("MedicationRequest")
        self._each("Medication", may, self._collected.add_medication)

    def _read(self, kind: Kind) -> None:
        versions = Versions()
        more = self._collected.medications if kind == "MedicationRequest" else ()
        may = self._wanted.may_concern(kind, more)
        self._each(kind, may, lambda resource: self._collected.add(kind, resource, versions))

    # --- what can't be used -----------------------------------------------------------------------
    def _note(self, line: Line, what: str) -> None:
        shown = [f"{line.path}:{line.number}: {what}"] if len(self._unread) < _MOST_LISTED else []
        self._unread.add(*shown)

    def _judge(self) -> None:
        """Raises DataError where more can't be used than may be left out."""
        left = self._unread.left_out(self._concerned + len(self._unread))
        self.left[left.reason] = left.count


def _no_number(text: str) -> Any:
    raise ValueError("no JSON")


def look(settings: FhirSource, base: Path) -> str:
    """What there is, for ``wardround doctor``: types and files. Raises DataError."""
    export = Export((base / settings.path).resolve())
    found = [f"{kind} ({len(files)})" for kind, files in sorted(export.files.items()) if kind]
    return f"{settings.path}: files of {', '.join(found)}"
