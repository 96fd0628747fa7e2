"""A model's inputs of FHIR resources: the records of a patient as the study's cohort has them.

What an export's lines become in training becomes of a request's resources here, by the same code
(``client/sources/fhir/collect.py``). The index day is the day of asking; or, where a visit is the
study's index event and the request brings the one it is about, that visit's. What lies after the
day of asking isn't known yet, so a window that goes on counts what there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from wardround.client.serving.fhir_map import FhirMap
from wardround.client.serving.refused import unfit
from wardround.client.sources.fhir import resources as r
from wardround.client.sources.fhir.collect import Collected, Unusable, Versions
from wardround.client.sources.fhir.settings import KINDS, Kind
from wardround.client.sources.fhir.wanted import KIND_OF, Wanted
from wardround.client.sources.records import Rows, answer
from wardround.common.settings.cohort import PATIENT_ID, CohortTable
from wardround.common.settings.concepts import SYSTEMS, Concept
from wardround.common.tasks.schema import Schema

CALLED = "--fhir-map"
_MOST_COUNT, _MOST_CODES = 1000, 1500
_PATIENT = "{{context.patientId}}"
_KEYS: Mapping[Kind, str] = {
    "Encounter": "encounters",
    "Condition": "conditions",
    "Observation": "observations",
    "MedicationRequest": "medications",
    "Procedure": "procedures",
}
_BY_DATE = {"Encounter": "date", "Condition": "recorded-date", "MedicationRequest": "authoredon"}


@dataclass(frozen=True)
class PatientRow:
    """One patient.

    values : by input; None where nothing is known
    """

    id: str
    values: Mapping[str, Any]

    @property
    def unknown(self) -> list[str]:
        """Inputs of which nothing is known."""
        return [name for name, value in self.values.items() if value is None]


class Patients:
    """Makes rows of resources.

    cohort : of ``cohort_for``
    """

    def __init__(self, cohort: CohortTable, schema: Schema, own: FhirMap) -> None:
        self._cohort, self._own = cohort, own
        self._inputs = [one.name for one in schema.inputs]
        self._wanted = Wanted(cohort, own.codes, CALLED)
        self._uses_visits = any(one.of == "visit" for one in cohort.variables.values())

    @property
    def kinds(self) -> list[Kind]:
        """Types of resources that are looked at, besides Patient."""
        used = self._wanted.kinds
        by_visit = self._cohort.index.event == "visit"
        return [one for one in used if one != "Encounter" or self._uses_visits or by_visit]

    def rows(
        self, resources: Sequence[r.Resource], encounter: str = "", today: date | None = None
    ) -> list[PatientRow]:
        """A row for each patient among the resources that the model is for, in the order of their
        ids.

        encounter : the id of the visit that is asked about
        today : the day of asking; defaults to the hospital's clock

        Raises Unanswered for a resource that is asked for and can't be used.
        """
        zone = self._own.zone
        day = (today or datetime.now(zone or UTC).date()).toordinal()
        collected = Collected(self._wanted, self._own.units, zone, CALLED)
        self._collect(collected, resources)
        places = sorted(collected.places.values(), key=lambda one: collected.patients.ids[one])
        if encounter and (start := self._start(resources, encounter)) is not None:
            day = start
        fit = [one for one in places if self._is_of_age(collected, one, day)]
        if not fit:
            return []
        count = len(fit)
        rows = Rows(np.array(fit, dtype=np.int64), np.full(count, day, dtype=np.int64))
        names = [PATIENT_ID, *self._inputs]
        numbers = {name: place for place, name in enumerate(self._wanted.names)}
        records = {name: collected.records[place] for name, place in numbers.items()}
        found = answer(self._cohort, rows, collected.patients, records, collected.told, names)
        return [
            PatientRow(str(row.pop(PATIENT_ID)), {name: row[name] for name in self._inputs})
            for row in found.to_pylist()
        ]

    def prefetch(self) -> dict[str, str]:
        """Templates of what a client of CDS Hooks must bring, by key."""
        found = {"patient": f"Patient/{_PATIENT}"}
        if self._cohort.index.event == "visit":
            found["encounter"] = "Encounter/{{context.encounterId}}"
        for kind in self._wanted.kinds:
            if kind == "Encounter" and not self._uses_visits:
                continue
            query = f"{kind}?patient={_PATIENT}{self._code_query(kind)}"
            order = _BY_DATE.get(kind, "date")
            found[_KEYS[kind]] = f"{query}&_sort=-{order}&_count={_MOST_COUNT}"
        return found

    def _code_query(self, kind: Kind) -> str:
        """The codes of a search; '' where all are asked for: those that begin with one, or are a
        medication's own, no search finds."""
        concepts: list[Concept] = []
        for one in self._cohort.variables.values():
            if KIND_OF.get(one.of) == kind:
                concepts += one.wanted
                if not one.wanted or any(x.prefix for x in one.wanted):
                    return ""
        if kind == "MedicationRequest":
            return "&_include=MedicationRequest:medication"
        if kind == "Encounter" or self._own.codes:
            return ""
        texts = [f"{url}|{one.code}" for one in concepts for url in SYSTEMS[one.system].fhir]
        text = ",".join(dict.fromkeys(texts))
        return f"&code={text}" if text and len(text) <= _MOST_CODES else ""

    def _collect(self, collected: Collected, resources: Sequence[r.Resource]) -> None:
        wanted: tuple[Kind, ...] = ("Patient", "Medication", *self.kinds)
        for kind in wanted:
            versions = Versions()
            for place, resource in enumerate(resources):
                if resource.get("resourceType") == kind:
                    try:
                        if kind == "Patient":
                            collected.add_patient(resource)
                        elif kind == "Medication":
                            self._add_medication(collected, resource)
                        else:
                            collected.add(kind, resource, versions)
                    except Unusable as error:
                        raise unfit(f"resource {place}", f"it {error}") from None
                    except r.MALFORMED:
                        what = f"it isn't what FHIR has of type {kind}"
                        raise unfit(f"resource {place}", what) from None
            if kind == "Patient":
                collected.settle_patients()

    def _add_medication(self, collected: Collected, resource: r.Resource) -> None:
        if "MedicationRequest" in self.kinds:
            collected.add_medication(resource)

    def _start(self, resources: Sequence[r.Resource], encounter: str) -> int | None:
        """The index day of a visit, where visits are index events."""
        if self._cohort.index.event != "visit":
            return None
        by_end = self._cohort.index.date == "end"
        for resource in resources:
            if resource.get("resourceType") == "Encounter" and resource.get("id") == encounter:
                try:
                    found = r.day_of("Encounter", resource, by_end, self._own.zone)
                except r.MALFORMED:
                    raise unfit("encounter", "it has a date that is none") from None
                return found.first if found is not None and found.first == found.last else None
        return None

    def _is_of_age(self, collected: Collected, patient: int, day: int) -> bool:
        limits = self._cohort.index.age_years
        if limits is None:
            return True
        age = collected.patients.age(patient, day)
        return age is not None and limits[0] <= age <= limits[1]


def resources_of(bundle: Any, place: str) -> list[r.Resource]:
    """The resources of a Bundle, those without an id under the one that others refer to them by.

    Raises Unanswered for what is none, or is a page of several.
    """
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise unfit(place, "a Bundle is wanted")
    entries = bundle.get("entry", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise unfit(place, "entry must be a list of entries")
    links = bundle.get("link", [])
    if isinstance(links, list) and any(
        isinstance(one, dict) and one.get("relation") == "next" for one in links
    ):
        raise unfit(place, "further pages of it aren't here; bring all records")
    found = []
    for number, entry in enumerate(entries):
        resource = entry.get("resource")
        if not isinstance(resource, dict) or resource.get("resourceType") not in KINDS:
            continue
        if not resource.get("id"):
            url = entry.get("fullUrl")
            named = r.id_of(url, str(resource["resourceType"])) if isinstance(url, str) else ""
            resource = {**resource, "id": named or f"entry-{number}"}
        found.append(resource)
    return found
