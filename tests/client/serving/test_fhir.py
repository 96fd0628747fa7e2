"""Records of FHIR as a model's inputs, RiskAssessments, and a service of CDS Hooks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.client.serving.asgi import Client
from tests.client.serving.made import COHORT, SENTINEL, Made, asked, bundle, made, parameters
from tests.client.sources.fhir.resources import (
    LOINC,
    SNOMED,
    encounter,
    observation,
    patient,
    read,
    resource,
    write,
)
from wardround.client.serving.app import Served
from wardround.client.serving.fhir_map import FhirMap, cohort_for
from wardround.client.serving.patients import Patients
from wardround.client.serving.refused import Unanswered
from wardround.common.config.load import parse_config
from wardround.common.errors import ConfigError

DAY = date(2024, 3, 10)
PULSE, WARD = "8867-4", "42346-7"
RECORDS: list[dict[str, Any]] = [
    patient("p1", birthDate="1950-05-05", gender="male"),
    patient("p2", birthDate="1981"),
    patient("child", birthDate="2023-12"),
    patient("mother", birthDate="1990"),
    *(encounter(f"e-{one}", one, "2024-03-10") for one in ("p1", "p2", "child", "mother")),
    observation("o1", "p1", "2024-03-01", 90.0),
    observation("o2", "p1", "2024-03-09T10:00:00Z", 1.2, "mg/dL"),
    observation("o3", "p1", "2024-03-12", 300.0),  # nobody knows it yet
    observation("o4", "p1", "2024-01-01", 70.0),  # before the window
    observation("o5", "p2", "2024-03-02", 80.0, status="entered-in-error"),
    *(
        observation(f"c{n}", "p2", f"2024-03-0{n + 1}", float(value), "1") for n, value in
        enumerate([71, 99, 80])
    ),
    resource("Condition", "s1", "p1", (SNOMED, "77176002"), onsetDateTime="2020-02-02"),
    resource("Condition", "g1", "mother", (SNOMED, "77386006"), onsetDateTime="2024-02-02"),
]  # fmt: skip
for one in RECORDS:
    if one["id"].startswith("c") and one["resourceType"] == "Observation":
        one["code"]["coding"][0]["code"] = PULSE


def ward(name: str, of: str, code: str) -> dict[str, Any]:
    """On which one somebody lies, as a code."""
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": WARD}]},
        "subject": {"reference": f"Patient/{of}"},
        "effectiveDateTime": "2024-03-09",
        "valueCodeableConcept": {"coding": [{"system": SNOMED, "code": code}]},
    }


RECORDS += [ward("w1", "p1", "309904001"), ward("w2", "p2", "1")]


@pytest.fixture(scope="module")
def hooked(model: Made) -> Iterator[tuple[Client, Served]]:
    with asked(model.export) as found:
        yield found


def patients(served: Served) -> Patients:
    assert served.patients is not None
    return served.patients


def test_rows_are_those_that_training_had(hooked: tuple[Client, Served], tmp_path: Path) -> None:
    """The same records as an export's files, which the study's cohort is answered of."""
    config = parse_config(f"[task]\nname = 'own.py:Own'\n{COHORT}")
    schema = hooked[1].model.schema
    wanted = cohort_for(schema, config.cohort, FhirMap())
    assert wanted is not None and set(wanted.variables) == {
        *("age", "tiny", "constant", "smoker", "ward", "pregnant")
    }
    rows = Patients(wanted, schema, FhirMap()).rows(RECORDS, today=DAY)
    table, _ = read(write(tmp_path / "export", RECORDS), COHORT.replace('rows = "with"\n', ""))
    names = [one.name for one in schema.inputs]
    expected = {row["patient_id"]: {n: row[n] for n in names} for row in table.to_pylist()}
    assert {one.id: dict(one.values) for one in rows} == expected
    assert set(expected) == {"p1", "p2"}, "neither a child nor who is pregnant"
    assert expected["p1"]["tiny"] == pytest.approx(1.2 * 88.42)
    assert (expected["p1"]["ward"], expected["p2"]["ward"]) == ("intensive", None)
    assert expected["p2"]["constant"] == 99.0 and expected["p2"]["tiny"] is None
    assert rows[1].unknown == ["tiny", "ward"]


def test_the_visit_that_is_asked_about_has_the_index_day(hooked: tuple[Client, Served]) -> None:
    found = patients(hooked[1])
    records = [one for one in RECORDS if one["id"] in ("p1", "e-p1", "o1")]
    late = date(2024, 6, 1)
    (today,), (then,) = found.rows(records, today=late), found.rows(records, "e-p1", late)
    assert today.values["tiny"] is None and then.values["tiny"] == 90.0
    assert then.values["age"] == 73 and today.values["age"] == 74


def test_a_unit_that_nothing_turns_into_the_models_is_refused(
    hooked: tuple[Client, Served],
) -> None:
    odd = [RECORDS[0], observation("o", "p1", "2024-03-09", 5.0, "furlong")]
    with pytest.raises(Unanswered, match="resource 1: it has a unit that nothing turns into"):
        patients(hooked[1]).rows(odd, today=DAY)


def assess(client: Client, body: Any) -> Any:
    return client.post("/fhir/RiskAssessment", json=body)


def test_assessments_of_parameters_are_the_predictions(hooked: tuple[Client, Served]) -> None:
    client, served = hooked
    row = {"age": 71.5, "smoker": True, "ward": "2", "constant": 7}
    answer = assess(client, parameters(row, row, subject="Patient/a-1.b")).json()
    plain = client.post("/predict", json={"rows": [row]}).json()["predictions"][0]["probability"]
    assert answer["resourceType"] == "Bundle" and len(answer["entry"]) == 2
    found = answer["entry"][0]["resource"]
    assert set(found) == {
        *("resourceType", "status", "method", "subject", "occurrenceDateTime", "prediction")
    }, "no basis"
    assert found["subject"] == {"reference": "Patient/a-1.b"}
    assert found["prediction"] == [{"outcome": {"text": "y: 1"}, "probabilityDecimal": plain}]
    assert served.model.digest[:12] in found["method"]["text"]


def test_assessments_of_records(hooked: tuple[Client, Served]) -> None:
    answer = assess(hooked[0], bundle(*RECORDS)).json()
    about = [one["resource"]["subject"]["reference"] for one in answer["entry"]]
    assert about == ["Patient/mother", "Patient/p1", "Patient/p2"], "of today"


@pytest.mark.parametrize(
    ("subject", "status"),
    [
        ("Patient/a", 200),
        ("urn:uuid:00000000-0000-4000-8000-00000000000a", 200),
        ("Patient/a b", 422),
        ("https://fhir.example.org/Patient/1", 422),
        ("Patient/" + "a" * 65, 422),
        ("Practitioner/1", 422),
        ("", 422),
    ],
)
def test_only_a_plain_reference_comes_back(
    hooked: tuple[Client, Served], subject: str, status: int
) -> None:
    answer = assess(hooked[0], parameters({"age": 50}, subject=subject))
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert not subject or subject not in answer.text


def test_what_isnt_as_fhir_has_it_is_an_outcome(hooked: tuple[Client, Served]) -> None:
    about = {"name": "subject", "valueReference": {"reference": "Patient/1"}}
    row = {"name": "row", "part": [about, {"name": "age", "valueQuantity": {"value": 3}}]}
    twice = {"name": "row", "part": [about, about]}
    paged = {**bundle(RECORDS[0]), "link": [{"relation": "next", "url": SENTINEL}]}
    for body in (
        {},
        [],
        {"resourceType": "Parameters"},
        {"resourceType": "Parameters", "parameter": [row]},
        {"resourceType": "Parameters", "parameter": [twice]},
        {"resourceType": "Parameters", "parameter": [{"name": "row", "part": [row]}]},
        {"resourceType": "Bundle", "entry": {}},
        bundle({"resourceType": "Patient", "id": "a b"}),
        bundle({"resourceType": "Patient", "id": "a", "birthDate": SENTINEL}),
        paged,
    ):
        answer = assess(hooked[0], body)
        assert answer.status_code in (200, 422) and SENTINEL not in answer.text
        assert answer.json()["resourceType"] in ("OperationOutcome", "Bundle")
    assert assess(hooked[0], paged).status_code == 422


def test_a_regression_has_no_risk_and_a_survival_model_a_relative_one(tmp_path: Path) -> None:
    for kind, status in (("regression", 422), ("survival", 200)):
        one = made(tmp_path / kind, kind)
        with asked(one.export) as (client, _):
            answer = assess(client, parameters({"age": 60, "constant": 7}))
            assert answer.status_code == status
            if status == 200:
                risk = client.post("/predict", json={"rows": [{"age": 60, "constant": 7}]}).json()
                (found,) = answer.json()["entry"][0]["resource"]["prediction"]
                own = risk["predictions"][0]["risk"]
                assert found["relativeRisk"] == pytest.approx(math.exp(own))
            assert client.get("/cds-services").json() == {"services": []}


# --- CDS Hooks ------------------------------------------------------------------------------------
def call(**changed: Any) -> dict[str, Any]:
    of = {one["id"]: one for one in RECORDS}
    prefetch = {
        "patient": of["p1"],
        "encounter": of["e-p1"],
        "observations": bundle(of["o1"], of["o2"], of["w1"]),
        "conditions": bundle(of["s1"]),
        **changed.pop("prefetch", {}),
    }
    return {
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {"userId": "Practitioner/1", "patientId": "p1", "encounterId": "e-p1"},
        "prefetch": {key: value for key, value in prefetch.items() if value != "leave out"},
        **changed,
    }


def hook(hooked: tuple[Client, Served], body: Any) -> Any:
    service = hooked[1].service
    assert service is not None
    return hooked[0].post(f"/cds-services/{service.id}", json=body)


def test_discovery_says_what_to_bring(hooked: tuple[Client, Served]) -> None:
    (found,) = hooked[0].get("/cds-services").json()["services"]
    assert found["hook"] == "patient-view" and {"id", "title", "description"} <= set(found)
    assert found["prefetch"]["patient"] == "Patient/{{context.patientId}}"
    assert found["prefetch"]["encounter"] == "Encounter/{{context.encounterId}}"
    codes = ",".join(f"{LOINC}|{code}" for code in ("2160-0", PULSE, WARD))
    assert found["prefetch"]["observations"].startswith(
        f"Observation?patient={{{{context.patientId}}}}&code={codes}&_sort=-date"
    )


def test_a_card_says_what_the_model_says(model: Made, tmp_path: Path) -> None:
    plain = [("0.2", "", "warning"), ("0.999", "", "info"), ("0.1", "0.2", "critical")]
    for warning, critical, indicator in plain:
        with asked(model.export, thresholds=(warning, critical)) as found:
            body = call(prefetch={"observations": bundle(observation("o", "p1", "2024-03-09", 0))})
            (card,) = hook(found, body).json()["cards"]
            row = {"age": 73, "tiny": 0.0, "smoker": 1}
            answer = found[0].post("/predict", json={"rows": [row]}).json()
        probability = answer["predictions"][0]["probability"]
        assert 0.2 < probability < 0.999, "or the thresholds show nothing"
        assert card["indicator"] == indicator
        assert card["summary"].startswith(f"y = 1: {100 * probability:.3g} %")
        assert len(card["summary"]) < 140 and model.source.folder.digest[:12] in card["detail"]
        assert "Not known: constant, ward." in card["detail"]
        assert "Wardround" in card["source"]["label"] and len(card["uuid"]) == 36


def test_a_patient_that_the_model_isnt_for_gets_no_card(hooked: tuple[Client, Served]) -> None:
    of = {one["id"]: one for one in RECORDS}
    child = call(prefetch={"patient": {**of["p1"], "birthDate": "2023-12"}})
    pregnant = resource("Condition", "g", "p1", (SNOMED, "77386006"), onsetDateTime="2024-02-02")
    for body in (child, call(prefetch={"conditions": bundle(pregnant)})):
        answer = hook(hooked, body)
        assert answer.status_code == 200 and answer.json() == {"cards": []}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, 200),
        ({"prefetch": {"conditions": None}}, 200),
        ({"prefetch": {"encounter": None}}, 200),
        ({"prefetch": {"conditions": "leave out"}}, 412),
        ({"prefetch": {"patient": None}}, 412),
        ({"prefetch": {"observations": {"resourceType": "OperationOutcome"}}}, 412),
        ({"prefetch": {"observations": {**bundle(), "link": [{"relation": "next"}]}}}, 412),
        ({"hook": "order-sign"}, 400),
        ({"hookInstance": None}, 400),
        ({"context": {"userId": "x"}}, 400),
        ({"context": {"patientId": "another"}}, 422),
        ({"extension": {"anything": 1}, "fhirServer": "https://x", "fhirAuthorization": {}}, 200),
    ],
    ids=str,
)
def test_calls_are_answered_as_the_standard_says(
    hooked: tuple[Client, Served], changed: dict[str, Any], status: int
) -> None:
    assert hook(hooked, call(**changed)).status_code == status


# --- a map ----------------------------------------------------------------------------------------
MAP = """
time_zone = "Europe/Berlin"
codes = { "urn:lab|KREA" = "LOINC:2160-0" }
units = { "furlong" = "umol/L" }
[variables.age]
of = "age"
[variables.tiny]
of = "measurement"
concepts = ["LOINC:2160-0"]
unit = "umol/L"
window_days = [-30, 0]
[variables.constant]
of = "measurement"
concepts = ["LOINC:8867-4"]
unit = "1"
window_days = [-30, 0]
[variables.smoker]
of = "condition"
concepts = ["SNOMED:77176002"]
window_days = [-3650, 0]
[variables.ward]
of = "sex"
"""


def test_a_map_says_it_for_a_model_without_a_cohort(tmp_path: Path) -> None:
    one = made(tmp_path / "plain")
    path = tmp_path / "map.toml"
    path.write_text(MAP)
    own = observation("o", "p1", "2024-03-09T23:30:00Z", 4.0, "furlong")
    own["code"]["coding"] = [{"system": "urn:lab", "code": "KREA"}]
    own["valueQuantity"].pop("system")
    with asked(one.export, fhir_map=path) as (_, served):
        found = patients(served)
        (row,) = found.rows([RECORDS[0], own], today=DAY)
        assert row.values == {"age": 73, "tiny": 4.0, "constant": None, "smoker": 0, "ward": "male"}
        assert "&code=" not in found.prefetch()["observations"], "own codes are no server's"
        (row,) = found.rows([RECORDS[0], own], today=date(2024, 3, 9))
        assert row.values["tiny"] is None, "by the hospital's clock it is of the 10th"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (MAP.replace("[variables.ward]\nof", "[variables.wart]\nof"), r"no \[variables.ward\]"),
        (MAP.replace("Berlin", "Bärlin"), "time_zone: no time zone"),
        (MAP.replace('LOINC:2160-0" }', 'LOINC" }'), "is no concept"),
        ("x = [", "no TOML"),
        ("variable = 1", "unknown key"),
    ],
)
def test_a_map_that_cant_be_used(tmp_path: Path, text: str, match: str, model: Made) -> None:
    path = tmp_path / "map.toml"
    path.write_text(text)
    one = made(tmp_path / "plain") if "variables" in match else model
    with pytest.raises(ConfigError, match=match):
        with asked(one.export, fhir_map=path):
            pass
    path.write_text(MAP)
    with pytest.raises(ConfigError, match="asked as it was trained"):
        with asked(model.export, fhir_map=path):
            pass
