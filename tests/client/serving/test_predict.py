"""What is answered is what the model predicts; what isn't is told without a word of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.serving.asgi import Client
from tests.client.serving.made import SENTINEL, Made, asked, bundle, made, parameters
from tests.common.export.made import predicted
from tests.common.tasks.made import table
from wardround.client.serving.app import Served
from wardround.client.serving.guard import Limits

ROWS: list[dict[str, Any]] = [
    {"age": 71, "tiny": 2e-9, "constant": 7.25, "smoker": "yes", "ward": "ITS"},
    {"age": 33.5, "tiny": None, "constant": 7.25, "smoker": False, "ward": "2.0"},
    {"age": None, "tiny": 1e-9, "constant": 7.25, "smoker": 1, "ward": 2},
    {"age": 50, "smoker": None, "constant": 7.25, "ward": "  surgery"},
    {"age": 18, "tiny": -3e-9, "constant": 7.25, "smoker": "NO", "ward": "never met"},
]


def as_cells(row: dict[str, Any]) -> dict[str, Any]:
    """The same row in a file."""
    names = ("age", "tiny", "constant", "smoker", "ward")
    smoker = row.get("smoker")
    said = {False: "no", 1: "yes"}.get(smoker, smoker) if smoker is not None else None
    ward = row.get("ward")
    return {
        **{name: row.get(name) for name in names},
        "smoker": said,
        "ward": None if ward is None else str(ward).strip(),
    }


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "survival"])
def test_answers_are_the_models_own(kind: str, tmp_path: Path, model: Made) -> None:
    one = model if kind == "binary" else made(tmp_path, kind)
    cells = [as_cells(row) for row in ROWS]
    rows = table(**{name: [cell[name] for cell in cells] for name in cells[0]})
    own = predicted(one.source, rows)
    with asked(one.export) as (client, served):
        by_row = client.post("/predict", json={"rows": ROWS}).json()
        names = {name for row in ROWS for name in row}
        columns = {name: [row.get(name) for row in ROWS] for name in names}
        by_column = client.post("/predict", json={"columns": columns}).json()
    assert set(own) == {output.name for output in served.model.schema.outputs}
    for name, values in own.items():
        found = by_column["predictions"][name]
        assert found == [row[name] for row in by_row["predictions"]]
        np.testing.assert_allclose(found, values, rtol=1e-5, atol=1e-6)
    assert by_row["model"] == one.source.folder.digest and by_row["calibration"] is None


def test_a_model_folder_answers_as_its_export(client: Client, model: Made) -> None:
    with asked(model.model) as (other, served):
        assert served.model.export == ""
        for found in (client, other):
            answer = found.post("/predict", json={"rows": ROWS}).json()["predictions"]
        assert answer == client.post("/predict", json={"rows": ROWS}).json()["predictions"]


def test_a_row_that_the_model_refuses_gets_null(tmp_path: Path) -> None:
    one = made(tmp_path, missing="'refuse'")
    with asked(one.export) as (client, _):
        found = client.post("/predict", json={"rows": ROWS[:2]}).json()["predictions"]
        assert found[0]["probability"] is not None and found[1]["probability"] is None
        answer = client.post("/fhir/RiskAssessment", json=parameters(*ROWS[:2])).json()
        assert len(answer["entry"]) == 1, "no assessment of a row without a prediction"


WRONG = [
    (b"", 400),
    (b"{", 400),
    (b'{"rows": [{"age": NaN}]}', 400),
    (b"[" * 100_000, 400),
    (b'{"rows": [{"age": 1e999}]}', 422),
    (b'{"rows": [{"age": 1' + b"0" * 400 + b"}]}", 422),
    (b'{"rows": [{"age": true}]}', 422),
    (b'{"rows": [{"age": "71"}]}', 422),
    (b'{"rows": [{"smoker": "maybe"}]}', 422),
    (b'{"rows": [{"smoker": 2}]}', 422),
    (b'{"rows": [{"ward": true}]}', 422),
    (b'{"rows": [{"ward": ["2"]}]}', 422),
    (b'{"rows": [{}]}', 422),
    (b'{"rows": []}', 422),
    (b'{"rows": {}}', 422),
    (b'{"rows": [1]}', 422),
    (b'{"rows": [{"age": 1}], "more": 1}', 422),
    (b'{"columns": {}}', 422),
    (b'{"columns": {"age": [1, 2], "ward": ["2"]}}', 422),
    (b'{"columns": {"age": 3}}', 422),
]


@pytest.mark.parametrize(("body", "status"), WRONG, ids=lambda one: str(one)[:40])
def test_what_is_no_row_is_refused(client: Client, body: bytes, status: int) -> None:
    answer = client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


def test_sizes_are_bounded(model: Made) -> None:
    with asked(model.export, limits=Limits(body_bytes=4000, rows=3)) as (client, _):
        assert client.post("/predict", json={"rows": ROWS[:3]}).status_code == 200
        assert client.post("/predict", json={"rows": ROWS[:4]}).status_code == 413
        long = json.dumps({"rows": [{"ward": "x" * 4000}]}).encode()
        head = {"content-type": "application/json"}
        assert client.post("/predict", content=long, headers=head).status_code == 413
        pieces = (long[at : at + 100] for at in range(0, len(long), 100))  # no length is said
        assert client.post("/predict", content=pieces, headers=head).status_code == 413


# --- nothing of what is asked comes back ----------------------------------------------------------
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.just(SENTINEL)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("rows", "columns", "age", "ward", "smoker", "resourceType", "parameter"),
                    *("part", "name", "valueString", "valueReference", "reference", "entry"),
                    *("resource", "id", "hook", "hookInstance", "context", "patientId"),
                    *("prefetch", "patient", "code", "coding", "subject", SENTINEL),
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)
NEARLY = (
    st.lists(st.dictionaries(st.sampled_from(["age", "ward", "smoker"]), JSON), max_size=3).map(
        lambda rows: {"rows": rows}
    )
    | st.lists(JSON, max_size=3)
    .map(lambda parts: {"name": "row", "part": parts})
    .map(lambda row: {"resourceType": "Parameters", "parameter": [row]})
    | st.lists(
        st.dictionaries(st.sampled_from(["id", "birthDate", "gender", "code", "status"]), JSON).map(
            lambda one: {"resourceType": "Patient", **one}
        ),
        max_size=3,
    ).map(lambda found: bundle(*found))
)


@given(value=JSON | NEARLY)
@settings(max_examples=40)
def test_no_body_is_an_error_of_ours_or_comes_back(
    served: tuple[Client, Served], value: Any
) -> None:
    client, found = served
    assert found.service is not None
    paths = ("/predict", "/fhir/RiskAssessment", f"/cds-services/{found.service.id}")
    for path in paths:
        body = json.dumps(value)
        answer = client.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (200, 400, 412, 413, 422), answer.text
        assert SENTINEL not in answer.text


@given(body=st.binary(max_size=60))
@settings(max_examples=50)
def test_no_bytes_are_an_error_of_ours(served: tuple[Client, Served], body: bytes) -> None:
    answer = served[0].post("/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def test_a_name_comes_back_nowhere(
    served: tuple[Client, Served], caplog: pytest.LogCaptureFixture
) -> None:
    """Through every path, as body, key, query, path, header and method."""
    client, found = served
    assert found.service is not None
    caplog.set_level(logging.DEBUG, "wardround")
    head = {"content-type": "application/json", "x-patient": SENTINEL}
    hook = {"hook": "patient-view", "hookInstance": SENTINEL, "fhirAuthorization": SENTINEL}
    context = {"patientId": SENTINEL, "userId": SENTINEL}
    bodies = [
        {"rows": [{SENTINEL: 1}]},
        {"rows": [{"age": SENTINEL}]},
        {"rows": [{"smoker": SENTINEL}]},
        {"rows": [{"ward": SENTINEL, "age": 50}]},
        parameters({SENTINEL: 1}),
        parameters({"age": SENTINEL}),
        parameters({"age": 40}, subject=SENTINEL),
        bundle({"resourceType": "Patient", "id": SENTINEL, "birthDate": SENTINEL}),
        bundle({"resourceType": SENTINEL, "id": SENTINEL}),
        {**hook, "context": context},
        {**hook, "context": context, "prefetch": {"patient": {"resourceType": SENTINEL}}},
        {**hook, "context": context, "prefetch": {"patient": {"id": SENTINEL}}},
        SENTINEL,
    ]
    paths = ["/predict", "/fhir/RiskAssessment", f"/cds-services/{found.service.id}"]
    paths += [f"/{SENTINEL}", f"/cds-services/{SENTINEL}", f"/predict?{SENTINEL}={SENTINEL}"]
    told = []
    for path in [*paths, "/model", "/health", "/metrics", "/cds-services"]:
        for body in bodies:
            told.append(client.post(path, json=body, headers=head))
        told += [
            client.get(path, headers=head),
            client.request("PUT", path, content=SENTINEL, headers=head),
        ]
        told.append(client.post(path, content=SENTINEL, headers={"content-type": SENTINEL}))
        told.append(client.request(SENTINEL.split("-")[0].upper(), path))
    told.append(client.get("/metrics"))
    for answer in told:
        kept = answer.text.replace(f'"Patient/{SENTINEL}"', "")  # the reference, and nothing else
        assert answer.status_code < 500 and SENTINEL not in kept
        assert not any(SENTINEL in value for value in answer.headers.values())
    assert SENTINEL not in caplog.text


def test_what_fails_here_is_told_by_kind_and_place(
    served: tuple[Client, Served],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A library's error may quote a cell."""
    client, found = served

    def fails(*_: Any) -> None:
        raise RuntimeError(f"no such thing as {SENTINEL}")

    monkeypatch.setattr(found.counting, "rows", fails)
    answer = client.post("/predict", json={"rows": ROWS})
    assert answer.status_code == 500 and SENTINEL not in answer.text
    assert "RuntimeError at test_predict.py" in caplog.text and SENTINEL not in caplog.text
