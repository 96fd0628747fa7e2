"""Patients that another program made are read as a dictionary of their resources says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from carebundle import generate_cohort, to_ndjson

from tests.client.sources.fhir.resources import read

COHORT = """
[cohort.index]
event = "visit"
concepts = ["ENCOUNTER:AMB"]
[cohort.variables.creatinine]
of = "measurement"
concepts = ["LOINC:2160-0"]
window_days = [0, 0]
unit = "umol/L"
units = { "mg/dL" = 88.42 }
[cohort.variables.systolic]
of = "measurement"
concepts = ["LOINC:8480-6"]
window_days = [0, 0]
unit = "kPa"
[cohort.variables.hypertension]
of = "condition"
concepts = ["ICD10CM:I10*"]
window_days = [-36500, 0]
[cohort.variables.drugs]
of = "drug"
concepts = ["RXNORM:314076", "RXNORM:860975"]
window_days = [-10, 10]
take = "count"
[cohort.variables.sex]
of = "sex"
"""


def test_an_export_of_carebundle(tmp_path: Path) -> None:
    files = to_ndjson(generate_cohort(count=8, seed=42))
    for kind, text in files.items():
        (tmp_path / f"{kind}.ndjson").write_text(text)
    table, left = read(tmp_path, COHORT)
    found = {kind: [json.loads(line) for line in text.splitlines()] for kind, text in files.items()}

    def of(kind: str, patient: str, code: str) -> list[Any]:
        whole = found.get(kind, []) + [
            {**one, **part}
            for one in found["Observation"] * (kind == "Observation")
            for part in one.get("component", ())
        ]
        key = "medicationCodeableConcept" if kind == "MedicationRequest" else "code"
        return [
            one
            for one in whole
            if one["subject"]["reference"] == f"Patient/{patient}"
            and any(coding["code"].startswith(code) for coding in one[key]["coding"])
        ]

    patients = sorted(found["Patient"], key=lambda one: one["id"])
    rows = table.to_pylist()
    assert len(rows) == 8 and not left
    for row, patient in zip(rows, patients, strict=True):
        name = patient["id"]
        (creatinine,), (pressure,) = (
            of("Observation", name, "2160-0"),
            of("Observation", name, "8480-6"),
        )
        assert row["patient_id"] == name and row["sex"] == patient["gender"]
        assert row["creatinine"] == creatinine["valueQuantity"]["value"] * 88.42
        # 1 mmHg is 133.322387415 Pa
        assert abs(row["systolic"] / pressure["valueQuantity"]["value"] - 0.133322387415) < 1e-12
        assert row["hypertension"] == bool(of("Condition", name, "I10"))
        drugs = of("MedicationRequest", name, "314076") + of("MedicationRequest", name, "860975")
        assert row["drugs"] == len(drugs)
    assert {row["hypertension"] for row in rows} == {0, 1}
