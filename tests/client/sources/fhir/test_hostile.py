"""Whatever stands in an export, a reading ends in a table or one line that quotes nothing of it."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.client.sources.fhir import resources as f
from wardround.client.sources.fhir.dates import When, when
from wardround.common.errors import DataError

CANARY = "Kanarienvogel Q7"
DAY = "2024-01-05"
COHORT = """
[cohort.index]
event = "visit"
[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-2, 0]
unit = "umol/L"
[cohort.variables.culture]
of = "observation"
concepts = ["LOINC:2160-0"]
window_days = [-2, 0]
categories = { positive = ["SNOMED:10828004"] }
[cohort.variables.failure]
of = "condition"
concepts = ["ICD10:I50*"]
window_days = [-365, 0]
[cohort.variables.drug]
of = "drug"
concepts = ["ATC:A10BA02"]
window_days = [-365, 0]
[cohort.variables.died]
of = "death"
window_days = [0, 30]
"""
ICD, ATC = "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"
GOOD = [
    f.patient("a", deceasedDateTime="2024-01-09", meta={"lastUpdated": "2024-01-01T00:00:00Z"}),
    f.encounter("e", "a", f"{DAY}T10:00:00+01:00", type=[{"coding": [{"code": "1"}]}]),
    f.observation("o", "a", DAY, 81.0, component=[{"code": {"coding": []}}])
    | {"valueCodeableConcept": {"coding": [{"system": f.SNOMED, "code": "10828004"}]}},
    f.resource("Condition", "c", "a", (ICD, "I50.1"), onsetPeriod={"start": "2024"}),
    f.resource("MedicationRequest", "m", "a", (ATC, "-"), authoredOn=DAY,
               medicationReference={"reference": "#x"},
               contained=[{"id": "x", "code": {"coding": [{"system": ATC, "code": "A10BA02"}]}}]),
]  # fmt: skip
ABSENT = ["Condition", "MedicationRequest", "Observation", "Encounter", "Patient", "Procedure"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(CANARY) | st.just("2160-0"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("code"), inner),
    max_leaves=3,
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """To every value within one."""
    if not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(*at, key) for key, _ in items] + [
        path for key, one in items for path in paths(one, (*at, key))
    ]


EVERY = [
    (n, path) for n, one in enumerate(GOOD) for path in paths(one) if path != ("resourceType",)
]


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(EVERY), JSON, st.sampled_from([0.0, 0.5]))
def test_any_value_anywhere(
    tmp_path: Path, place: tuple[int, tuple[Any, ...]], value: Any, share: float
) -> None:
    resources = json.loads(json.dumps(GOOD))
    number, (*above, last) = place
    holder = resources[number]
    for key in above:
        holder = holder[key]
    holder[last] = value
    folder = tmp_path / "export"
    for old in folder.glob("*"):
        old.unlink()
    f.write(folder, resources)
    told: list[str] = []
    try:
        f.read(folder, COHORT, told, absent=ABSENT, left_out_share=share)
    except DataError as error:
        told.append(str(error))
    assert CANARY not in " ".join(told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-05", ("2024-01-05", "2024-01-05", "2024-01-05T00:00:00+00:00")),
        ("2024-02", ("2024-02-01", "2024-02-29", "2024-02-01T00:00:00+00:00")),
        ("2023", ("2023-01-01", "2023-12-31", "2023-01-01T00:00:00+00:00")),
        ("1890-03-01T00:00Z", ("1890-03-01", "1890-03-01", "1890-03-01T00:00:00+00:00")),
        (
            "2024-01-05T23:30:00.1234567-05:00",
            ("2024-01-05", "2024-01-05", "2024-01-06T04:30:00.123456+00:00"),
        ),
    ],
)
def test_a_date_is_days_and_a_moment(text: str, expected: tuple[str, str, str]) -> None:
    first, last, moment = expected
    epoch = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
    since = datetime.fromisoformat(moment) - epoch
    us = (since.days * 86_400 + since.seconds) * 10**6 + since.microseconds
    days = (date.fromisoformat(one).toordinal() for one in (first, last))
    assert when(text, None) == When(*days, us)


@pytest.mark.parametrize(
    "text",
    ["", "05.01.2024", "2024-13", "2024-02-30", "20240105", "2024-W01-1", "2024-01-05T25:00:00Z",
     "2024-01-05T08:00:00+01", "0000", "٢٠٢٤-01-05", "2024-01-05 08:00:00"],
)  # fmt: skip
def test_what_is_no_date(text: str) -> None:
    with pytest.raises(ValueError):
        when(text, None)
