"""A made-up clinical population, and the same of it as files, FHIR and OMOP have it.

``Population`` draws patients with stays, laboratory values in two units, diagnoses, drugs, and
deaths, by a clock in Berlin. ``rows`` answers ``COHORT`` by plain Python; the writers put what was
drawn where hospitals keep it, with records that don't count among it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Europe/Berlin")
FACTOR = 88.42
COHORT = f"""
[task.columns]
target = "died"
numeric = ["creatinine", "lactate", "age", "visits"]
binary = ["heart_failure", "metformin"]
categorical = ["sex"]

[cohort.index]
event = "visit"
concepts = ["ENCOUNTER:IMP", "OMOP:9201"]
age_years = [18, 120]

[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0", "OMOP:3016723"]
window_days = [-2, 1]
unit = "umol/L"
units = {{ "mg/dL" = {FACTOR} }}
[cohort.variables.lactate]
of = "measurement"
concepts = ["LOINC:2524-7"]
window_days = [0, 2]
take = "mean"
unit = "mmol/L"
[cohort.variables.heart_failure]
of = "condition"
concepts = ["ICD10CM:I50*"]
window_days = [-3650, 0]
[cohort.variables.metformin]
of = "drug"
concepts = ["RXNORM:6809"]
window_days = [-30, 0]
[cohort.variables.visits]
of = "visit"
window_days = [-365, -1]
take = "count"
[cohort.variables.age]
of = "age"
[cohort.variables.sex]
of = "sex"
rows = "with"
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""
COLUMNS = "patient_id creatinine lactate heart_failure metformin visits age sex died".split()
_CONCEPTS = {
    ("LOINC", "2160-0"): 3016723,
    ("LOINC", "2524-7"): 3020138,
    ("UCUM", "umol/L"): 8749,
    ("UCUM", "mg/dL"): 8840,
    ("UCUM", "mmol/L"): 8753,
    ("ICD10CM", "I50.9"): 35207792,
    ("ICD10CM", "I50.1"): 35207790,
    ("ICD10CM", "E11.9"): 45533017,
    ("RxNorm", "6809"): 1503297,
    ("RxNorm", "1191"): 1112807,
    ("Gender", "F"): 8532,
    ("Gender", "M"): 8507,
    ("Visit", "IP"): 9201,
    ("Visit", "OP"): 9202,
}
_FHIR = {
    "LOINC": "http://loinc.org",
    "ICD10CM": "http://hl7.org/fhir/sid/icd-10-cm",
    "RxNorm": "http://www.nlm.nih.gov/research/umls/rxnorm",
    "act": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
}


@dataclass
class Person:
    """``visits``: start and class; ``labs``: moment, LOINC code, value, unit; ``conditions`` and
    ``drugs``: day and code; moments by the clock in Berlin, without zone."""

    id: int
    sex: str
    born: date
    died: date | None = None
    visits: list[tuple[datetime, str]] = field(default_factory=list)
    labs: list[tuple[datetime, str, float, str]] = field(default_factory=list)
    conditions: list[tuple[date, str]] = field(default_factory=list)
    drugs: list[tuple[date, str]] = field(default_factory=list)


class Population:
    """``people`` by seed, ids with different numbers of digits."""

    def __init__(self, size: int, seed: int) -> None:
        self._draw = random.Random(seed)
        ids = self._draw.sample(range(size // 2 + 1, 20 * size + 100), size)
        self.people = [self._person(number) for number in ids]

    def _person(self, number: int) -> Person:
        draw = self._draw
        born = date(1930, 1, 1) + timedelta(draw.randrange(365 * 85))
        one = Person(number, draw.choice(["female", "male", "male", "female", "unknown"]), born)
        start = datetime(2022, 1, 1) + timedelta(minutes=draw.randrange(365 * 1440))
        for _ in range(draw.randrange(1, 4)):
            one.visits.append((start, draw.choice(["IMP", "IMP", "AMB"])))
            self._stay(one, start, ill := draw.random())
            if ill > 0.8 and one.died is None:
                one.died = start.date() + timedelta(draw.randrange(45))
                break
            start += timedelta(minutes=draw.randrange(1440 * 200))
        return one

    def _stay(self, one: Person, start: datetime, ill: float) -> None:
        draw = self._draw
        for _ in range(draw.randrange(4)):
            at = start + timedelta(minutes=draw.randrange(-4000, 4000))
            value = round(60 + 120 * ill * draw.random(), 1)
            if draw.random() < 0.4:
                one.labs.append((at, "2160-0", round(value / FACTOR, 2), "mg/dL"))
            else:
                one.labs.append((at, "2160-0", value, "umol/L"))
        for _ in range(draw.randrange(5)):
            at = start + timedelta(minutes=draw.randrange(-500, 4000))
            one.labs.append((at, "2524-7", round(0.5 + 4 * ill * draw.random(), 2), "mmol/L"))
        if draw.random() < 0.2 + 0.4 * ill:
            day = start.date() - timedelta(draw.randrange(-20, 5000))
            one.conditions.append((day, draw.choice(["I50.9", "I50.1", "E11.9"])))
        if draw.random() < 0.4:
            day = start.date() - timedelta(draw.randrange(-5, 60))
            one.drugs.append((day, draw.choice(["6809", "1191"])))

    # --- the answer -------------------------------------------------------------------------------
    def rows(self) -> list[dict[str, Any]]:
        """What ``COHORT`` asks for, ordered by the id's text."""
        ordered = sorted(self.people, key=lambda one: str(one.id))
        return [row for one in ordered for row in _row(one)]

    # --- as hospitals have it ---------------------------------------------------------------------
    def write_fhir(self, folder: Path) -> Path:
        """A bulk export: moments in UTC or by their own offset, and what was entered in error."""
        folder.mkdir(parents=True)
        files: dict[str, list[str]] = {}
        shuffled = sorted(self.people, key=lambda one: one.id * 7919 % 1009)
        for one in shuffled:
            for resource in _resources(one):
                files.setdefault(resource["resourceType"], []).append(json.dumps(resource))
        for kind, lines in files.items():
            (folder / f"{kind}.000.ndjson").write_text("\n".join(lines) + "\n")
        return folder

    def omop(self) -> dict[str, tuple[str, list[tuple[Any, ...]]]]:
        """The columns, as SQL declares them, and the rows of each table of OMOP 5.4."""
        tables: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
            name: (columns, []) for name, columns in _TABLES.items()
        }
        rows = {name: one[1] for name, one in tables.items()}
        for (vocabulary, code), concept in _CONCEPTS.items():
            rows["concept"].append((concept, code, vocabulary, code, "S", None))
        for one in self.people:
            _omop(one, rows)
        return tables


def _row(one: Person) -> Iterator[dict[str, Any]]:
    days = sorted(
        at.date() for at, kind in one.visits if kind == "IMP" and 18 <= _age(one, at.date()) <= 120
    )
    if not days or one.sex == "unknown":
        return
    day = days[0]

    def off(other: date) -> int:
        return (other - day).days

    creatinine = [
        (at, value * FACTOR if unit == "mg/dL" else value)
        for at, code, value, unit in one.labs
        if code == "2160-0" and -2 <= off(at.date()) <= 1
    ]
    lactate = [
        value for at, code, value, _ in one.labs if code == "2524-7" and 0 <= off(at.date()) <= 2
    ]
    yield {
        "patient_id": str(one.id),
        "creatinine": max(creatinine)[1] if creatinine else None,
        "lactate": _mean(lactate) if lactate else None,
        "heart_failure": int(
            any(code[:3] == "I50" and -3650 <= off(at) <= 0 for at, code in one.conditions)
        ),
        "metformin": int(any(code == "6809" and -30 <= off(at) <= 0 for at, code in one.drugs)),
        "visits": sum(-365 <= off(at.date()) <= -1 for at, _ in one.visits),
        "age": _age(one, day),
        "sex": one.sex,
        "died": int(one.died is not None and 0 <= off(one.died) <= 30),
    }


def _mean(values: list[float]) -> float:
    return float(sum(map(Fraction, values), Fraction(0))) / len(values)


def _age(one: Person, day: date) -> int:
    birthdays = sum(
        (year, one.born.month, one.born.day) <= (day.year, day.month, day.day)
        for year in range(one.born.year + 1, day.year + 1)
    )
    return birthdays


def _end(start: datetime) -> datetime:
    """Of a visit: up to nine days later."""
    return start + timedelta(hours=start.minute * 3.6)


def _moment(at: datetime, number: int) -> str:
    """As one export or another writes it."""
    local = at.replace(tzinfo=ZONE)
    return (local.astimezone(UTC) if number % 2 else local).isoformat()


def _resources(one: Person) -> Iterator[dict[str, Any]]:
    whose = {"subject": {"reference": f"Patient/{one.id}"}}
    patient = {"resourceType": "Patient", "id": str(one.id), "gender": one.sex}
    patient |= {"birthDate": one.born.isoformat()}
    yield patient | ({"deceasedDateTime": one.died.isoformat()} if one.died else {})
    for n, (at, kind) in enumerate(one.visits):
        made: dict[str, Any] = {"resourceType": "Encounter", "id": f"e{one.id}-{n}", **whose}
        made |= {"class": {"system": _FHIR["act"], "code": kind}, "status": "finished"}
        yield made | {"period": {"start": _moment(at, n), "end": _moment(_end(at), n)}}
        yield made | {"id": f"x{one.id}-{n}", "status": "cancelled", "period": {"start": "2021"}}
    for n, (at, code, value, unit) in enumerate(one.labs):
        made = {"resourceType": "Observation", "id": f"o{one.id}-{n}", "status": "final", **whose}
        made |= {"code": {"coding": [{"system": _FHIR["LOINC"], "code": code}]}}
        made |= {"effectiveDateTime": _moment(at, n)}
        given = {"value": value, "unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}
        yield made | {"valueQuantity": given}
        wrong = {"id": f"y{one.id}-{n}", "status": "entered-in-error"}
        yield made | wrong | {"valueQuantity": given | {"value": 9999.0}}
    for n, (day, code) in enumerate(one.conditions):
        made = {"resourceType": "Condition", "id": f"c{one.id}-{n}", **whose}
        made |= {"code": {"coding": [{"system": _FHIR["ICD10CM"], "code": code}]}}
        yield made | {"onsetDateTime": day.isoformat()}
    for n, (day, code) in enumerate(one.drugs):
        made = {"resourceType": "MedicationRequest", "id": f"m{one.id}-{n}", **whose}
        drug = {"coding": [{"system": _FHIR["RxNorm"], "code": code}]}
        made |= {"medicationCodeableConcept": drug, "status": "active", "intent": "order"}
        yield made | {"authoredOn": day.isoformat()}


_TABLES = {
    "concept": "concept_id INTEGER, concept_name VARCHAR(255), vocabulary_id VARCHAR(20), "
    "concept_code VARCHAR(50), standard_concept VARCHAR(1), invalid_reason VARCHAR(1)",
    "person": "person_id INTEGER, gender_concept_id INTEGER, year_of_birth INTEGER, "
    "month_of_birth INTEGER, day_of_birth INTEGER, person_source_value VARCHAR(50)",
    "death": "person_id INTEGER, death_date DATE",
    "visit_occurrence": "visit_occurrence_id INTEGER, person_id INTEGER, visit_concept_id INTEGER, "
    "visit_start_date DATE, visit_start_datetime TIMESTAMP, visit_end_date DATE, "
    "visit_source_concept_id INTEGER",
    "measurement": "measurement_id INTEGER, person_id INTEGER, measurement_concept_id INTEGER, "
    "measurement_date DATE, measurement_datetime TIMESTAMP, value_as_number NUMERIC, "
    "value_as_concept_id INTEGER, unit_concept_id INTEGER, unit_source_value VARCHAR(50), "
    "measurement_source_concept_id INTEGER",
    "condition_occurrence": "condition_occurrence_id INTEGER, person_id INTEGER, "
    "condition_concept_id INTEGER, condition_start_date DATE, "
    "condition_start_datetime TIMESTAMP, condition_source_concept_id INTEGER",
    "drug_exposure": "drug_exposure_id INTEGER, person_id INTEGER, drug_concept_id INTEGER, "
    "drug_exposure_start_date DATE, drug_exposure_start_datetime TIMESTAMP, "
    "drug_source_concept_id INTEGER",
}


def _omop(one: Person, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    sex = {"female": 8532, "male": 8507}.get(one.sex, 0)
    born = one.born
    rows["person"].append((one.id, sex, born.year, born.month, born.day, f"MRN{one.id}"))
    if one.died is not None:
        rows["death"].append((one.id, one.died.isoformat()))
    for at, kind in one.visits:
        visit = {"IMP": 9201, "AMB": 9202}[kind]
        on = at.date().isoformat()
        rows["visit_occurrence"].append(
            (
                len(rows["visit_occurrence"]),
                one.id,
                visit,
                on,
                at.isoformat(" "),
                _end(at).date().isoformat(),
                0,
            )
        )
    for at, code, value, unit in one.labs:
        concept, in_unit = _CONCEPTS["LOINC", code], _CONCEPTS["UCUM", unit]
        row = (one.id, concept, at.date().isoformat(), at.isoformat(" "), value, None, in_unit)
        rows["measurement"].append((len(rows["measurement"]), *row, unit, 0))
    for day, code in one.conditions:
        source = _CONCEPTS["ICD10CM", code]
        rows["condition_occurrence"].append(
            (len(rows["condition_occurrence"]), one.id, 0, day.isoformat(), None, source)
        )
    for day, code in one.drugs:
        drug = _CONCEPTS["RxNorm", code]
        rows["drug_exposure"].append(
            (len(rows["drug_exposure"]), one.id, drug, day.isoformat(), None, 0)
        )
