"""Resources as a cohort's records: what each adds, whichever way it was read.

An export's lines and a request's resources come through here alike, so that a model is asked with
the columns that it was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from wardround.client.sources.fhir import resources as r
from wardround.client.sources.fhir.settings import Kind
from wardround.client.sources.fhir.wanted import INDEX, Wanted
from wardround.client.sources.records import Patients, Records, Told
from wardround.client.sources.units import Units

Place = tuple[int, int]
"""Of a record: target, and place among its records."""
Versions = dict[str, tuple[int, tuple[Place, ...]]]
"""By id: when the version that counts, the one that was updated last, was, and its records."""
_OLDER = "older versions of the same resource"


class Unusable(ValueError):
    """A resource that is asked for and can't be used; what and mend, nothing of it quoted."""


class Collected:
    """What a cohort asks for, of all resources that were added.

    Patients come first, medications before the requests that refer to them.

    Parameters
    ----------
    units : how records write units, and the UCUM code of each
    zone : the clock by which a moment has a day; None: the day that is written
    called : how messages name where ``units`` stand

    records : by target: the index event, or a variable by its place
    chosen : places of patients; a record of another one is passed over; None: of nobody
    left : how many records were left out, by reason
    """

    def __init__(
        self, wanted: Wanted, units: Mapping[str, str], zone: tzinfo | None, called: str
    ) -> None:
        self._wanted, self._zone, self._called = wanted, zone, called
        self.records = {INDEX: Records()}
        self._units: dict[int, Units] = {}
        for number, one in enumerate(wanted.variables):
            self.records[number] = Records()
            if one.is_number:
                self._units[number] = Units(one, units)
        self.patients, self.places = Patients(), dict[str, int]()
        self.medications: dict[str, set[int]] = {}
        self.chosen: set[int] | None = None
        self.told, self.left = Told(), dict[str, int]()
        self._people: dict[str, tuple[int, tuple[int, str | None, tuple[int, int]]]] = {}

    def add_patient(self, resource: r.Resource) -> bool:
        """A version of a patient. True. Raises Unusable, MALFORMED."""
        name, when = name_of(resource), r.updated(resource)
        said = (r.born(resource), r.sex(resource), r.died(resource, self._zone))
        if name in self._people:
            self._leave(_OLDER)
            if self._people[name][0] > when:
                return True
        self._people[name] = (when, said)
        return True

    def settle_patients(self) -> None:
        """All have been added."""
        for name, (_, said) in self._people.items():
            self.places[name] = self.patients.add(name, *said)
        self.told.add("patients", len(self._people))
        self._people.clear()

    def add_medication(self, resource: r.Resource) -> bool:
        """Which targets a medication is for that requests refer to; whether any. Raises Unusable,
        MALFORMED."""
        targets = self._wanted.targets("MedicationRequest", r.codings("Medication", resource))
        if targets:
            self.medications[name_of(resource)] = targets
        return bool(targets)

    def add(self, kind: Kind, resource: r.Resource, versions: Versions) -> bool:
        """Keep what the cohort asks for; whether that is anything. Raises Unusable, MALFORMED."""
        found = list(self._values(kind, resource))
        name = name_of(resource)
        if not found and name not in versions:
            return False
        when = r.updated(resource)
        if name in versions:
            self._leave(_OLDER)
            before, places = versions[name]
            if before > when:
                return True
            for target, place in places:
                self.records[target].drop(place)
        versions[name] = (when, ())
        if why := r.why_not(kind, resource):
            self._leave(why)
            return True
        patient = self.places.get(r.patient_of(resource))
        if patient is None:
            self._leave("of nobody in the export's Patient files")
        elif self.chosen is not None and patient not in self.chosen:
            del versions[name]  # most are such: what isn't asked for takes no memory
        else:
            versions[name] = (when, tuple(self._kept(kind, resource, patient, found)))
        return True

    def _kept(
        self, kind: Kind, resource: r.Resource, patient: int, found: list[tuple[int, Any]]
    ) -> Iterator[Place]:
        """Keep a record for each target."""
        made = []
        for target, holder in found:
            by_end = target == INDEX and self._wanted.cohort.index.date == "end"
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
            yield target, self.records[target].add(patient, *when, value)

    def _values(self, kind: Kind, resource: r.Resource) -> Iterator[tuple[int, r.Resource]]:
        """Targets of a resource, each with what has its value: an observation or a component."""
        if kind == "Observation":
            for holder, codings in r.measured(resource):
                for target in self._wanted.targets(kind, codings):
                    yield target, holder
            return
        targets = self._wanted.targets(kind, r.codings(kind, resource))
        if kind == "MedicationRequest" and self.medications:
            name = r.id_of(r.medication_reference(resource), "Medication")
            targets |= self.medications.get(name, set())
        for target in targets:
            yield target, resource

    def _value(self, target: int, holder: r.Resource) -> float | None:
        """Of a record; None where it has none that counts. Raises Unusable."""
        one = self._wanted.variables[target] if target != INDEX else None
        of = one.of if one is not None else self._wanted.cohort.index.event
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
                f"{self._wanted.names[target]}; name it under units of {self._called}, or "
                "ask that the study does"
            )
        return value

    def _leave(self, why: str) -> None:
        self.left[why] = self.left.get(why, 0) + 1


def name_of(resource: r.Resource) -> str:
    """Its id. Raises Unusable."""
    name = resource.get("id")
    if not isinstance(name, str) or not name:
        raise Unusable("has no id; export it again")
    return name
