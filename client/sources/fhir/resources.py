"""What a resource says, as JSON has it: whose, when, by which codes, and whether it counts.

Written for FHIR R4, with the fields that R5 calls otherwise. What isn't as FHIR has it raises
whatever Python does (``MALFORMED``): who reads names file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import tzinfo
from typing import Any

from wardround.client.sources.fhir.dates import When, parts, when
from wardround.client.sources.fhir.settings import Kind
from wardround.client.sources.records import UNKNOWN
from wardround.common.settings.cohort import birth_date

MALFORMED = (AttributeError, TypeError, ValueError, KeyError, IndexError, OverflowError)
"""What reading one that isn't as FHIR has it may raise."""
Resource = dict[str, Any]
SOME_DAY = (1, 1 << 40)
"""Of who died nobody knows when."""
_UCUM = "http://unitsofmeasure.org"
_NOT_DONE = "entered in error, cancelled or not done"
_UNSURE = "not final (registered, preliminary, draft, planned or unknown)"
_STATUS = {
    "entered-in-error": _NOT_DONE,
    "cancelled": _NOT_DONE,
    "not-done": _NOT_DONE,
    "preparation": _UNSURE,
    "planned": _UNSURE,
    "draft": _UNSURE,
}
_FINAL = ("final", "amended", "corrected", "appended")
_INTENTS = ("proposal", "plan", "option")
_UNLIKELY = ("entered-in-error", "refuted")
_DATES: dict[str, tuple[str, ...]] = {
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod"),
    "Condition": ("onsetDateTime", "onsetPeriod", "recordedDate"),
    "MedicationRequest": ("authoredOn",),
    "Procedure": (
        "performedDateTime",
        "performedPeriod",
        "occurrenceDateTime",
        "occurrencePeriod",
    ),
    "Encounter": ("period", "actualPeriod"),
}
_CODES: dict[str, tuple[str, ...]] = {"Encounter": ("class", "type"), "MedicationRequest": ()}


def codings(kind: Kind, resource: Resource) -> Iterator[Any]:
    """Of its code; of an encounter of class and type; of a request those of a medication that it
    has in itself."""
    if kind == "MedicationRequest":
        medication = resource.get("medication", {})  # R5
        yield from _codings(resource.get("medicationCodeableConcept"))
        yield from _codings(medication.get("concept"))
        reference = medication_reference(resource)
        if reference.startswith("#"):
            for one in resource.get("contained", ()):
                if one.get("id") == reference[1:]:
                    yield from _codings(one.get("code"))
        return
    for key in _CODES.get(kind, ("code",)):
        yield from _codings(resource.get(key))


def _codings(concept: Any) -> Iterator[Any]:
    """Of a CodeableConcept, a Coding, or a list of either."""
    if concept is None:
        return
    if isinstance(concept, list):
        for one in concept:
            yield from _codings(one)
    elif "coding" in concept:
        yield from concept["coding"]
    elif "code" in concept:
        yield concept


def medication_reference(resource: Resource) -> str:
    """Where a request's medication is; '' where it isn't a resource of its own."""
    reference = resource.get("medicationReference")
    if reference is None:
        reference = resource.get("medication", {}).get("reference", {})
    return str(reference.get("reference", ""))


def id_of(reference: str, kind: str) -> str:
    """The id that a reference names; '' where it is of another type, or in the resource itself.

    >>> id_of("https://fhir.example.org/r4/Patient/p1/_history/2", "Patient")
    'p1'
    """
    if reference.startswith("urn:uuid:"):
        return reference[len("urn:uuid:") :]
    steps = reference.partition("/_history/")[0].split("/")
    return steps[-1] if len(steps) > 1 and steps[-2] == kind else ""


def patient_of(resource: Resource) -> str:
    """The id of the patient that it is about; '' for none."""
    subject = resource.get("subject") or {}
    return id_of(subject.get("reference", ""), "Patient")


def why_not(kind: Kind, resource: Resource) -> str:
    """Why it doesn't count, by its own word; '' if it does."""
    if "modifierExtension" in resource:
        return "changed in meaning by a modifier extension"
    status = resource.get("status", "")
    if reason := _STATUS.get(status, ""):
        return reason
    if kind == "Observation" and status not in _FINAL:
        return _UNSURE
    if kind == "MedicationRequest":
        if resource.get("doNotPerform") is True:
            return _NOT_DONE
        if resource.get("intent") in _INTENTS:
            return "proposals, plans or options, no orders"
    if kind == "Condition":
        verified = {one.get("code") for one in _codings(resource.get("verificationStatus"))}
        if verified & set(_UNLIKELY):
            return "entered in error, or refuted"
    return ""


def day_of(kind: Kind, resource: Resource, end: bool, zone: tzinfo | None) -> When | None:
    """When it was, None where it doesn't say.

    end : of an encounter its end instead of its start
    """
    for key in _DATES[kind]:
        found = resource.get(key)
        if isinstance(found, dict):
            found = found.get("end" if end else "start")
        if found is not None:
            return when(found, zone)
    return None


def updated(resource: Resource) -> int:
    """When the server had this version, in microseconds since 1970; of one that doesn't say,
    before all others."""
    text = (resource.get("meta") or {}).get("lastUpdated")
    return when(text, None).moment if text is not None else -(1 << 62)


# --- values ---------------------------------------------------------------------------------------
def measured(resource: Resource) -> Iterator[tuple[Resource, list[Any]]]:
    """An observation, and each component of it, with its codings."""
    yield resource, list(_codings(resource.get("code")))
    for component in resource.get("component", ()):
        yield component, list(_codings(component.get("code")))


def quantity(holder: Resource) -> tuple[float, str] | None:
    """Number and unit of an observation or component; None where it has none.

    Raises ValueError for a value that is no number.
    """
    found = holder.get("valueQuantity")
    if found is None:
        found = {"value": holder.get("valueInteger")}
    value = found.get("value")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no number")
    if not math.isfinite(number := float(value)):
        raise ValueError("no finite number")
    unit = found.get("unit")
    if found.get("system", _UCUM) == _UCUM:
        unit = found.get("code", unit)
    return number, "" if unit is None else unit


def value_codings(holder: Resource) -> list[Any]:
    """Of a value that is a code."""
    return list(_codings(holder.get("valueCodeableConcept")))


def is_absent(holder: Resource) -> bool:
    """Whether it says that it has no value."""
    return "dataAbsentReason" in holder


# --- patients -------------------------------------------------------------------------------------
def born(resource: Resource) -> int:
    """The day, by the rules of a cohort; UNKNOWN where it doesn't say."""
    text = resource.get("birthDate")
    return UNKNOWN if text is None else birth_date(*parts(text)).toordinal()


def sex(resource: Resource) -> str | None:
    """As a cohort has it; None where nobody knows."""
    found = resource.get("gender")
    return found if found in ("female", "male", "other") else None


def died(resource: Resource, zone: tzinfo | None) -> tuple[int, int]:
    """The days that the death may be of; UNKNOWN twice of who lives."""
    text = resource.get("deceasedDateTime")
    if text is not None:
        return when(text, zone)[:2]
    return SOME_DAY if resource.get("deceasedBoolean") is True else (UNKNOWN, UNKNOWN)
