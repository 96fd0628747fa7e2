"""A bulk export gives the table that a cohort asks for, worked out here by hand."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.client.sources.fhir import resources as f
from wardround.common.errors import DataError

CREATININE = """
[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [-2, 0]
unit = "umol/L"
"""
ABSENT = {"absent": ["Condition", "Procedure", "MedicationRequest", "Observation"]}
DAY = "2024-01-05"


def cells(folder: Path, resources: list[Any], cohort: str, **more: Any) -> dict[str, list[Any]]:
    settings = {key: value for key, value in more.items() if key not in ("packed", "told")}
    export = f.write(folder / "export", resources, packed=more.get("packed", False))
    return f.read(export, cohort, more.get("told"), **settings)[0].to_pydict()


def creatinine(folder: Path, observations: list[Any], cohort: str = CREATININE, **more: Any) -> Any:
    """Of one patient with a stay from 5 January 2024 on."""
    base = [f.patient("a"), f.encounter("e", "a", f"{DAY}T10:00:00+01:00")]
    (found,) = cells(folder, [*base, *observations], f.VISITS + cohort, **more)["creatinine"]
    return found


def test_the_last_one_is_the_last_instant_whatever_zone_it_is_written_in(tmp_path: Path) -> None:
    """08:00+01:00 is 07:00 UTC, before 07:30Z; 23:30-05:00 is of the day that is written."""
    some = [
        f.observation("1", "a", f"{DAY}T07:30:00Z", 81.0),
        f.observation("2", "a", f"{DAY}T08:00:00+01:00", 82.0),
        f.observation("3", "a", "2024-01-04T23:30:00-05:00", 83.0),
        f.observation("4", "a", "2024-01-06T00:10:00+01:00", 84.0),
    ]
    assert creatinine(tmp_path, some[:2]) == 81.0
    assert creatinine(tmp_path, some[:3]) == 81.0  # 04:30 UTC of the next day is before 07:00
    assert creatinine(tmp_path, some) == 81.0
    # by the hospital's own clock 23:10 UTC is the day after
    late = f.observation("5", "a", f"{DAY}T23:10:00Z", 85.0)
    assert creatinine(tmp_path, [*some, late]) == 85.0
    assert creatinine(tmp_path, [*some, late], time_zone="Europe/Berlin") == 81.0


@pytest.mark.parametrize(
    ("take", "expected"),
    [
        ("last", 90.0),
        ("first", 70.0),
        ("min", 10.0),
        ("max", 90.0),
        ("mean", 57.5),
        ("any", 1),
        ("count", 4),
    ],
)
def test_what_is_taken_of_several(tmp_path: Path, take: str, expected: float) -> None:
    """Two at one moment: the larger counts, first or last."""
    some = [
        f.observation("1", "a", "2024-01-03", 60.0),
        f.observation("2", "a", "2024-01-03", 70.0),
        f.observation("3", "a", "2024-01-04", 10.0),
        f.observation("4", "a", "2024-01-05T09:00:00Z", 90.0),
        f.observation("5", "a", "2024-01-02", 900.0),
        f.observation("6", "a", "2024-01-06", 900.0),
    ]
    cohort = CREATININE + f'take = "{take}"\n'
    if take in ("any", "count"):
        cohort = cohort.replace('unit = "umol/L"\n', "")
    assert creatinine(tmp_path, some, cohort) == expected


def test_units_are_the_studys_factor_or_ucums_own(tmp_path: Path) -> None:
    def one(unit: str, value: float, **more: Any) -> float:
        return float(creatinine(tmp_path, [f.observation("1", "a", DAY, value, unit)], **more))

    assert one("umol/L", 88.4) == 88.4
    assert one("mmol/L", 0.0884) == 0.0884 * 1000.0
    factor = CREATININE + 'units = { "mg/dL" = 88.42 }\n'
    assert one("mg/dL", 1.1, cohort=factor) == 1.1 * 88.42
    own = {"units": {"mg/100 ml": "mg/dL"}}
    assert one("mg/100 ml", 1.1, cohort=factor, **own) == 1.1 * 88.42
    with pytest.raises(
        DataError, match=r"Observation.ndjson:1: has a unit that nothing turns into"
    ):
        one("mg/dL", 1.1)
    with pytest.raises(DataError, match="has a unit"):
        one("", 1.1)


def test_what_doesnt_count_is_left_out_and_counted(tmp_path: Path) -> None:
    some = [
        f.observation("1", "a", "2024-01-04", 81.0),
        f.observation("2", "a", DAY, 1.0, status="entered-in-error"),
        f.observation("3", "a", DAY, 2.0, status="preliminary"),
        f.observation("4", "b", DAY, 3.0),
        f.observation("5", "a", DAY, 4.0, modifierExtension=[{"url": "x"}]),
        f.observation("7", "a", DAY, 5.0) | {"effectiveDateTime": None},
        f.observation("8", "a", "2024", 6.0),
    ]
    absent = f.observation("6", "a", DAY, 0.0, dataAbsentReason={"text": "error"})
    del absent["valueQuantity"]
    base = [f.patient("a"), f.encounter("e", "a", DAY)]
    folder = f.write(tmp_path / "x", [*base, *some, absent])
    told: list[str] = []
    table, left = f.read(folder, f.VISITS + CREATININE, told)
    assert table.to_pydict()["creatinine"] == [81.0]
    assert left == {
        "entered in error, cancelled or not done": 1,
        "not final (registered, preliminary, draft, planned or unknown)": 1,
        "of nobody in the export's Patient files": 1,
        "changed in meaning by a modifier extension": 1,
        "without a number": 1,
        "without a date": 1,
    }
    assert "1 records whose month or year is only partly in a window" in told[0]


def test_a_component_has_its_own_code_and_value(tmp_path: Path) -> None:
    def part(code: str, value: float) -> dict[str, Any]:
        unit = {"value": value, "unit": "mmHg", "system": f.UCUM, "code": "mm[Hg]"}
        return {"code": {"coding": [{"system": f.LOINC, "code": code}]}, "valueQuantity": unit}

    pressure = f.observation("1", "a", DAY, 0.0) | {
        "code": {"coding": [{"system": f.LOINC, "code": "85354-9"}]},
        "component": [part("8480-6", 120.0), part("8462-4", 80.0)],
    }
    del pressure["valueQuantity"]
    cohort = CREATININE.replace("2160-0", "8462-4").replace("umol/L", "mm[Hg]")
    assert creatinine(tmp_path, [pressure], cohort) == 80.0


def test_of_a_resource_that_stands_there_twice_the_latest_version_counts(tmp_path: Path) -> None:
    def version(value: float, at: str | None, **more: Any) -> Any:
        meta = {} if at is None else {"meta": {"lastUpdated": at}}
        return f.observation("1", "a", DAY, value, **meta, **more)

    new, old = version(82.0, "2024-02-02T00:00:00Z"), version(99.0, "2024-02-02T00:30:00+01:00")
    assert creatinine(tmp_path, [new, old]) == creatinine(tmp_path, [old, new]) == 82.0
    assert creatinine(tmp_path, [version(1.0, None), version(2.0, None)]) == 2.0
    gone = version(82.0, "2024-03-01T00:00:00Z", status="entered-in-error")
    for order in ([new, gone], [gone, new]):
        assert creatinine(tmp_path, order) is None
    recoded = version(
        82.0, "2024-03-01T00:00:00Z", code={"coding": [{"code": "x"}], "text": "2160-0"}
    )
    assert creatinine(tmp_path, [new, {**recoded, "note": [{"text": '"2160-0"'}]}]) is None


@pytest.mark.parametrize(
    "reference",
    ["Patient/a", "https://fhir.example.org/r4/Patient/a", "Patient/a/_history/3", "urn:uuid:a"],
)
def test_a_patient_is_referred_to_in_every_way(tmp_path: Path, reference: str) -> None:
    one = f.observation("1", "a", DAY, 81.0, subject={"reference": reference})
    assert creatinine(tmp_path, [one], packed=True) == 81.0
    other = f.observation("2", "a", DAY, 99.0, subject={"reference": "Group/a"})
    assert creatinine(tmp_path, [one, other]) == 81.0


EVERYTHING = """
[cohort.index]
event = "visit"
take = "each"
age_years = [18, 120]

[cohort.variables.diabetes]
of = "condition"
concepts = ["ICD10:E11*"]
window_days = [-40000, 0]
[cohort.variables.operations]
of = "procedure"
concepts = ["SNOMED:387713003"]
window_days = [0, 10]
take = "count"
[cohort.variables.metformin]
of = "drug"
concepts = ["ATC:A10BA02"]
window_days = [-30, 0]
[cohort.variables.culture]
of = "observation"
concepts = ["LOINC:600-7"]
window_days = [0, 1]
categories = { positive = ["SNOMED:10828004"], negative = ["SNOMED:260385009"] }
[cohort.variables.readmitted]
of = "visit"
window_days = [1, 30]
[cohort.variables.age]
of = "age"
[cohort.variables.sex]
of = "sex"
[cohort.variables.y]
of = "death"
window_days = [0, 30]
"""
ICD, ATC = "http://hl7.org/fhir/sid/icd-10", "http://www.whocc.no/atc"


def test_every_kind_of_record_and_of_row(tmp_path: Path) -> None:
    culture = [
        f.observation(name, "a", at, 0.0)
        | {
            "code": {"coding": [{"system": f.LOINC, "code": "600-7"}]},
            "valueCodeableConcept": {"coding": [{"system": f.SNOMED, "code": code}]},
        }
        for name, at, code in (
            ("o1", DAY, "260385009"),
            ("o2", DAY, "10828004"),
            ("o3", "2024-01-06", "1"),
        )
    ]
    drug = {"coding": [{"system": ATC, "code": "A10BA02"}]}
    resources = [
        f.patient("b", gender="male", birthDate="2006-01-06", deceasedDateTime="2024-02-03"),
        f.patient("a", birthDate="1950-03", deceasedDateTime="2024-02"),
        f.patient("c", gender="unknown", deceasedBoolean=True),
        f.encounter("e1", "b", DAY),  # a day before 18
        f.encounter("e2", "b", "2024-01-06T08:00:00Z"),
        f.encounter("e3", "b", "2024-01-06T18:00:00Z"),
        f.encounter("e4", "a", DAY),
        f.encounter("e5", "a", "2024-02-04T23:30:00-05:00"),
        f.encounter("e6", "c", DAY),
        f.encounter("e7", "c", "2024-05-05", status="cancelled"),
        f.resource("Condition", "c1", "a", (ICD, "E11.9"), onsetDateTime="2015"),
        f.resource("Condition", "c2", "b", (ICD, "E10"), recordedDate="2015-01-01"),
        f.resource("Condition", "c3", "c", (ICD, "E11"), recordedDate="2024"),
        f.resource("Procedure", "p1", "a", (f.SNOMED, "387713003"), performedDateTime=DAY),
        f.resource("Procedure", "p2", "a", (f.SNOMED, "387713003"),
                   performedPeriod={"start": "2024-01-15"}),
        f.resource("Procedure", "p3", "a", (f.SNOMED, "387713003"), performedDateTime="2024-01-16"),
        {"resourceType": "Medication", "id": "m1", "code": drug},
        f.resource("MedicationRequest", "r1", "a", (ATC, "-"), authoredOn="2023-12-06",
                   medicationReference={"reference": "Medication/m1"}),
        f.resource("MedicationRequest", "r2", "b", (ATC, "-"), authoredOn=DAY,
                   medicationReference={"reference": "#x"},
                   contained=[{"id": "x", "code": drug}]),
        f.resource("MedicationRequest", "r3", "c", (ATC, "-"), authoredOn=DAY, intent="plan",
                   medicationCodeableConcept=drug),
        *culture,
    ]  # fmt: skip
    assert cells(tmp_path, resources, EVERYTHING) == {
        "patient_id": ["a", "a", "b", "c"],
        "index_date": [date(2024, 1, 5), date(2024, 2, 4), date(2024, 1, 6), date(2024, 1, 5)],
        "diabetes": [1, 1, 0, 0],  # of 2024, only partly before the index day: not counted
        "operations": [2, 0, 0, 0],
        "metformin": [1, 0, 1, 0],
        "culture": ["positive", None, None, None],
        "readmitted": [1, 0, 0, 0],
        "age": [73, 73, 18, 73],
        "sex": ["female", "female", "male", None],
        "y": [None, None, 1, None],  # a: in February, of which the windows have a part
    }


def test_rows_with_and_without_and_an_empty_cohort_that_says_why(tmp_path: Path) -> None:
    resources = [
        *(f.patient(name) for name in "abc"),
        *(f.encounter(f"e{name}", name, DAY) for name in "abc"),
        f.resource("Condition", "c1", "a", (ICD, "I50.1"), onsetDateTime="2020-01-01"),
        f.observation("1", "a", DAY, 81.0),
        f.observation("2", "b", DAY, 82.0),
    ]
    failure = (
        '[cohort.variables.failure]\nof = "condition"\nconcepts = ["ICD10:I50*"]\n'
        'window_days = [-36500, 0]\nrows = "{}"\n'
    )
    cohort = f.VISITS + CREATININE + 'rows = "with"\n'
    assert cells(tmp_path, resources, cohort)["patient_id"] == ["a", "b"]
    both = cells(tmp_path, resources, cohort + failure.format("without"))
    assert both["patient_id"] == ["b"] and both["creatinine"] == [82.0]
    assert cells(tmp_path, resources, cohort + failure.format("with"))["patient_id"] == ["a"]
    young = cohort.replace("[cohort.variables", "age_years = [0, 20]\n[cohort.variables", 1)
    with pytest.raises(DataError, match="3 patients, 3 index events, .* 3 days at another age"):
        cells(tmp_path, resources, young)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"resourceType": "Observation", "id"', "is broken JSON"),
        ('{"resourceType": "Observation", "id": "x\0"}', "has NUL bytes"),
        ('{"resourceType": "Patient", "id": "2160-0"}', "isn't of type Observation"),
        ('{"resourceType": "Patient", "id": "2"}', "isn't of type Observation"),
        ("[1, 2]", "is no FHIR resource"),
        (
            json.dumps(f.observation("2", "a", DAY, 1.0) | {"code": "2160-0"}) + "{}",
            "is broken JSON",
        ),
        (
            json.dumps(f.observation("2", "a", DAY, 1.0) | {"component": "2160-0"}),
            "isn't what FHIR has",
        ),
        (json.dumps(f.observation("2", "a", "05/01/2024", 1.0)), "has a date that is none"),
        (json.dumps(f.observation("2", "a", "2024-02-30", 1.0)), "has a date that is none"),
        (
            json.dumps(f.observation("2", "a", DAY, 1.0)).replace("1.0", "1e400"),
            "has a value that is no",
        ),
        (json.dumps(f.observation("2", "a", DAY, 1.0)).replace("1.0", "NaN"), "is broken JSON"),
        (
            json.dumps(f.observation("2", "a", DAY, 1.0)).replace("1.0", '"1.0"'),
            "has a value that is no",
        ),
        (json.dumps(f.observation("", "a", DAY, 1.0)), "has no id"),
        ("[" * 100_000, "is broken JSON"),
    ],
)
def test_a_line_that_cant_be_used_is_told_by_its_place_and_nothing_of_it(
    tmp_path: Path, line: str, told: str
) -> None:
    some = [f.observation("1", "a", DAY, 81.0), line]
    with pytest.raises(DataError) as refused:
        creatinine(tmp_path, some)
    text = str(refused.value)
    assert f"Observation.ndjson:2: {told}" in text and "; " in text
    assert "2160" not in text and "1.0" not in text and "\n" not in text
    assert creatinine(tmp_path, some, left_out_share=0.5) == 81.0


def test_what_is_no_export_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with pytest.raises(DataError, match="no such folder"):
        f.read(folder, f.VISITS + CREATININE)
    folder.mkdir()
    (folder / "Patient.ndjson").mkdir()
    with pytest.raises(DataError, match="bundles aren't read"):
        f.read(folder, f.VISITS + CREATININE)
    (folder / "Patient.ndjson").rmdir()
    f.write(folder, [f.patient("a"), f.encounter("e", "a", DAY)])
    with pytest.raises(DataError, match=r'no file of Observation .* absent = \["Observation"\]'):
        f.read(folder, f.VISITS + CREATININE)
    assert f.read(folder, f.VISITS + CREATININE, absent=["Observation"])[0].num_rows == 1
    for data, said in (
        (b"PK\x03\x04....", "is a zip"),
        ("{}".encode("utf-16"), "is UTF-16"),
        (b"\x1f\x8b\x08\x00nonsense", "is damaged"),
    ):
        (folder / "Observation.ndjson").write_bytes(data)
        with pytest.raises(DataError, match=f"Observation.ndjson: {said}"):
            f.read(folder, f.VISITS + CREATININE)
    (folder / "Observation.ndjson").rename(folder / "more.ndjson")
    with pytest.raises(DataError, match="more.ndjson"):
        f.read(folder, f.VISITS + CREATININE)
    (folder / "more.ndjson").write_bytes(
        b"\xef\xbb\xbf" + json.dumps(f.observation("1", "a", DAY, 81.0)).encode() + b"\r\n\r\n"
    )
    table, _ = f.read(folder, f.VISITS + CREATININE)
    assert table.column("creatinine").to_pylist() == [81.0]
    only_omop = f.VISITS + CREATININE.replace("LOINC:2160-0", "OMOP:3016723")
    with pytest.raises(DataError, match="creatinine has no concept in a system that FHIR has"):
        f.read(folder, only_omop)
    own = {"codes": {f"{f.LOINC}|2160-0": "OMOP:3016723"}}
    assert f.read(folder, only_omop, **own)[0].column("creatinine").to_pylist() == [81.0]


def test_a_code_is_found_however_json_writes_it(tmp_path: Path) -> None:
    """Lines are looked through before they are parsed."""
    text = json.dumps(f.observation("1", "a", DAY, 81.0)).replace("2160-0", "\\u0032160-0")
    assert creatinine(tmp_path, [f.observation("0", "z", DAY, 0.0), text]) == 81.0
