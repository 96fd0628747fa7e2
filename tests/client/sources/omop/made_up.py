"""A small made-up CDM 5.4, in any database, and what a cohort of it answers in plain Python.

The answer here is worked out person by person, from the rows themselves: it shares no line with
the product.
"""

from __future__ import annotations

import math
import random
import sqlite3
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import Any

Rows = list[tuple[Any, ...]]
COLUMNS = {
    "person": "person_id INTEGER, gender_concept_id INTEGER, year_of_birth INTEGER, month_of_birth "
    "INTEGER, day_of_birth INTEGER, person_source_value VARCHAR(50)",
    "visit_occurrence": "visit_occurrence_id INTEGER, person_id INTEGER, visit_concept_id INTEGER, "
    "visit_start_date DATE, visit_start_datetime TIMESTAMP, visit_end_date DATE, "
    "visit_source_concept_id INTEGER",
    "condition_occurrence": "condition_occurrence_id INTEGER, person_id INTEGER, "
    "condition_concept_id INTEGER, condition_start_date DATE, condition_start_datetime TIMESTAMP, "
    "condition_source_concept_id INTEGER",
    "procedure_occurrence": "procedure_occurrence_id INTEGER, person_id INTEGER, "
    "procedure_concept_id INTEGER, procedure_date DATE, procedure_datetime TIMESTAMP, "
    "procedure_source_concept_id INTEGER",
    "drug_exposure": "drug_exposure_id INTEGER, person_id INTEGER, drug_concept_id INTEGER, "
    "drug_exposure_start_date DATE, drug_exposure_start_datetime TIMESTAMP, "
    "drug_source_concept_id INTEGER",
    "measurement": "measurement_id INTEGER, person_id INTEGER, measurement_concept_id INTEGER, "
    "measurement_date DATE, measurement_datetime TIMESTAMP, value_as_number NUMERIC, "
    "value_as_concept_id INTEGER, unit_concept_id INTEGER, unit_source_value VARCHAR(50), "
    "measurement_source_concept_id INTEGER",
    "observation": "observation_id INTEGER, person_id INTEGER, observation_concept_id INTEGER, "
    "observation_date DATE, observation_datetime TIMESTAMP, value_as_number NUMERIC, "
    "value_as_concept_id INTEGER, unit_concept_id INTEGER, unit_source_value VARCHAR(50), "
    "observation_source_concept_id INTEGER",
    "death": "person_id INTEGER, death_date DATE",
    "concept": "concept_id INTEGER, concept_code VARCHAR(50), vocabulary_id VARCHAR(20)",
    "concept_ancestor": "ancestor_concept_id INTEGER, descendant_concept_id INTEGER",
    "concept_relationship": "concept_id_1 INTEGER, concept_id_2 INTEGER, relationship_id "
    "VARCHAR(20), invalid_reason VARCHAR(1)",
}
CONCEPTS: Rows = [
    (3016723, "2160-0", "LOINC"),
    (3000963, "718-7", "LOINC"),
    (201826, "44054006", "SNOMED"),
    (45576876, "E11.9", "ICD10CM"),
    (45595798, "E11.65", "ICD10CM"),
    (45591037, "E110", "ICD10CM"),
    (45600642, "E10.9", "ICD10CM"),
    (8749, "umol/L", "UCUM"),
    (8840, "mg/dL", "UCUM"),
    (8753, "mmol/L", "UCUM"),
    (9191, "10828004", "SNOMED"),
    (9189, "260385009", "SNOMED"),
    (4275495, "41000179103", "SNOMED"),
    (1503297, "6809", "RxNorm"),
]
RELATIONS: Rows = [(45576876, 201826, "Maps to", None), (45576876, 9, "Maps to", "D")]
BELOW: Rows = [(1503297, 1503297), (1503297, 40164929), (21600712, 40164929), (9191, 45884084)]
COHORT = """
[cohort.index]
event = "visit"
concepts = ["ENCOUNTER:IMP", "OMOP:9201"]
age_years = [18, 95]
earliest = 2020-01-01
take = "TAKE"

[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-2, 0]
unit = "umol/L"
units = { "mg/dL" = 88.42 }

[cohort.variables.creatinine_mean]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-7, 7]
take = "mean"
unit = "umol/L"
units = { "mg/dL" = 88.42 }

[cohort.variables.creatinines]
of = "measurement"
concepts = ["OMOP:3016723", "LOINC:2160-0"]
window_days = [-7, 7]
take = "count"

[cohort.variables.flu]
of = "observation"
concepts = ["SNOMED:41000179103"]
window_days = [-30, 0]
categories = { positive = ["OMOP:9191*"], negative = ["SNOMED:260385009"] }

[cohort.variables.diabetes]
of = "condition"
concepts = ["ICD10CM:E11*", "SNOMED:44054006"]
window_days = [-4000, 0]

[cohort.variables.metformin]
of = "drug"
concepts = ["OMOP:1503297*"]
window_days = [-365, 0]
take = "count"

[cohort.variables.stays_before]
of = "visit"
window_days = [-365, -1]
take = "count"

[cohort.variables.surgery]
of = "procedure"
concepts = ["OMOP:4301351"]
window_days = [0, 3]
rows = "without"

[cohort.variables.age]
of = "age"
[cohort.variables.sex]
of = "sex"
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""
SEXES = {8507: "male", 8532: "female", 8521: "other"}


def make(persons: int = 200, seed: int = 5) -> dict[str, Rows]:
    """Rows of every table."""
    draw = random.Random(seed)
    tables: dict[str, Rows] = {name: [] for name in COLUMNS}
    tables["concept"], tables["concept_relationship"] = list(CONCEPTS), list(RELATIONS)
    tables["concept_ancestor"] = list(BELOW)

    def put(name: str, *values: Any) -> None:
        rows = tables[name]
        rows.append((len(rows) + 1, *values))

    def some(choices: list[Any]) -> Any:
        return draw.choice(choices)

    for person in range(1, persons + 1):
        month = some([None, draw.randint(1, 12)])
        born = (draw.randint(1925, 2004), month, draw.randint(1, 28) if month else None)
        tables["person"].append((person, some([8507, 8532, 8521, 8551, 0]), *born, f"P{person}"))
        start = date(2019, 9, 1) + timedelta(draw.randint(0, 500))
        for _ in range(draw.randint(1, 3)):
            at = start + timedelta(draw.randint(0, 40))
            end = some([at + timedelta(draw.randint(0, 9)), None])
            put("visit_occurrence", person, some([9201, 9201, 9202]), at, stamp(draw, at), end, 0)
        for _ in range(draw.randint(0, 6)):
            day = start + timedelta(draw.randint(-9, 45))
            unit, text = some(
                [(8749, None), (8840, None), (8753, None), (0, "mg/dL"), (0, "umol/L")]
            )
            number = some([round(draw.uniform(0.4, 3), 2), None, 1])
            source = some([3016723, 0, None])
            concept = some([3016723, 3016723, 0])
            put(
                "measurement",
                person,
                concept,
                day,
                stamp(draw, day),
                number,
                None,
                unit,
                text,
                source,
            )
        for _ in range(draw.randint(0, 3)):
            day = start + timedelta(draw.randint(-30, 30))
            answer = some([9191, 45884084, 9189, 0, None])
            put("observation", person, 4275495, day, stamp(draw, day), None, answer, None, None, 0)
        for _ in range(draw.randint(0, 2)):
            day = start + timedelta(draw.randint(-300, 60))
            put("condition_occurrence", person, some([201826, 5]), day, None,
                some([45576876, 45595798, 45600642, 45591037, 0, None]))  # fmt: skip
            put("drug_exposure", person, some([1503297, 40164929, 7]), day, stamp(draw, day), 0)
            put("procedure_occurrence", person, some([4301351, 7, 7, 7]), day, None, 0)
        if draw.random() < 0.2:
            tables["death"].append((person, start + timedelta(draw.randint(-5, 60))))
    return tables


def stamp(draw: random.Random, day: date) -> datetime | None:
    """A moment of a day, a few of them at one, or none."""
    return draw.choice([None, datetime.combine(day, time(draw.choice([0, 8, 8, 9]), 30))])


def fill(execute: Callable[[str, Rows], Any], tables: dict[str, Rows], mark: str = "?") -> None:
    """Make the tables by a function that executes a statement with many rows."""
    for name, columns in COLUMNS.items():
        execute(f"CREATE TABLE {name} ({columns})", [])
        if rows := tables[name]:
            marks = ", ".join([mark] * len(rows[0]))
            execute(f"INSERT INTO {name} VALUES ({marks})", rows)


def fill_sqlite(connection: sqlite3.Connection, tables: dict[str, Rows]) -> None:
    """SQLite has texts for dates."""

    def execute(text: str, rows: Rows) -> None:
        if rows:
            texts = [tuple(str(v) if isinstance(v, date) else v for v in row) for row in rows]
            connection.executemany(text, texts)
        else:
            connection.execute(text)

    fill(execute, tables)


# --- the answer, in plain Python ------------------------------------------------------------------
def answer(tables: dict[str, Rows], take: str) -> Rows:
    """Of ``COHORT``: id, day, then its variables, ordered by the id's text and the day."""
    found = []
    for person, gender, *born, _ in tables["person"]:
        stays = {
            row[3] for row in tables["visit_occurrence"] if row[1] == person and row[2] == 9201
        }
        days = sorted(day for day in stays if day >= date(2020, 1, 1))
        days = [day for day in days if 18 <= (age(born, day) or 0) <= 95]
        days = days[:1] if take == "first" else days[-1:] if take == "last" else days
        for day in days:
            cells = variables(tables, person, day)
            if cells.pop("surgery") == 0:
                values = (*cells.values(), 0, age(born, day), SEXES.get(gender))
                found.append((str(person), day, *values, death(tables, person, day)))
    return sorted(found, key=lambda row: row[:2])


def variables(tables: dict[str, Rows], person: int, day: date) -> dict[str, Any]:
    def of(name: str, low: int, high: int) -> Rows:
        rows = [row for row in tables[name] if row[1] == person]
        rows = [row for row in rows if low <= (row[3] - day).days <= high]
        return sorted(rows, key=lambda row: row[4] or datetime.combine(row[3], time()))

    def numbers(low: int, high: int) -> list[tuple[datetime, float]]:
        factors = {"umol/L": 1.0, "mg/dL": 88.42, "mmol/L": 1000.0}
        codes = {8749: "umol/L", 8840: "mg/dL", 8753: "mmol/L"}

        def moment(row: tuple[Any, ...]) -> datetime:
            return row[4] or datetime.combine(row[3], time())

        rows = [row for row in of("measurement", low, high) if 3016723 in (row[2], row[9])]
        return sorted(
            (moment(row), row[5] * factors[codes.get(row[7]) or row[8]])
            for row in rows
            if row[5] is not None
        )

    flu = [row for row in of("observation", -30, 0) if row[6] in (9191, 45884084, 9189)]
    latest = max((row[4] or datetime.combine(row[3], time()) for row in flu), default=None)
    answers = {row[6] for row in flu if (row[4] or datetime.combine(row[3], time())) == latest}
    near, wide = numbers(-2, 0), numbers(-7, 7)
    values = [value for _, value in wide]
    types = (201826, 45576876, 45595798, 45591037)
    conditions = of("condition_occurrence", -4000, 0)
    drugs, visits = of("drug_exposure", -365, 0), of("visit_occurrence", -365, -1)
    return {
        "surgery": int(any(row[2] == 4301351 for row in of("procedure_occurrence", 0, 3))),
        "creatinine": near[-1][1] if near else None,
        "creatinine_mean": math.fsum(values) / len(values) if values else None,
        "creatinines": len(values),
        "flu": ("positive" if answers & {9191, 45884084} else "negative") if flu else None,
        "diabetes": int(any(row[2] in types or row[5] in types for row in conditions)),
        "metformin": sum(row[2] in (1503297, 40164929) for row in drugs),
        "stays_before": len(visits),
    }


def age(born: list[int | None], day: date) -> int | None:
    year, month, of_month = born
    assert year is not None
    month, of_month = (month, of_month) if month else (6, 15)
    return day.year - year - ((day.month, day.day) < (month, of_month or 1))


def death(tables: dict[str, Rows], person: int, day: date) -> int:
    died = [row[1] for row in tables["death"] if row[0] == person]
    return int(any(0 <= (one - day).days <= 30 for one in died))
