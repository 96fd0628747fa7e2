"""Rows as safetensors: the same answers, and nothing read beyond what is there."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from tests.client.serving.asgi import Client
from tests.client.serving.made import SENTINEL
from wardround.client.serving.app import Served

HEAD = {"content-type": "application/vnd.safetensors"}
NAN = float("nan")
ROWS = {
    "age": [71.0, NAN, 33.5, 18.0],
    "constant": [7.0, 7.0, NAN, 7.25],
    "smoker": [1.0, 0.0, NAN, 1.0],
}
WARD = [0, 2, -1, 1]
TEXTS = ["ITS", "2.0", "never met"]


def body(ward: Any = WARD, texts: Any = TEXTS, **more: Any) -> bytes:
    tensors = {name: np.array(values) for name, values in ROWS.items()}
    tensors["ward"] = np.array(ward, dtype=np.int32)
    return save({**tensors, **more}, {"ward": json.dumps(texts)})


def test_they_are_answered_as_json_is(client: Client) -> None:
    columns = {n: [None if np.isnan(x) else x for x in values] for n, values in ROWS.items()}
    columns["ward"] = [None if place < 0 else TEXTS[place] for place in WARD]
    plain = client.post("/predict", json={"columns": columns}).json()
    for kind in (np.float64, np.float32):
        smoker = np.array(ROWS["smoker"], dtype=kind)
        answer = client.post("/predict", content=body(smoker=smoker), headers=HEAD)
        assert answer.status_code == 200 and answer.headers["content-type"] == HEAD["content-type"]
        found = load(answer.content)["probability"]
        assert found.dtype == np.float64
        assert found.tolist() == plain["predictions"]["probability"]
        head = json.loads(answer.content[8 : 8 + int.from_bytes(answer.content[:8], "little")])
        assert head["__metadata__"] == {"model": plain["model"], "calibration": ""}


def headed(**head: Any) -> bytes:
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * 64


def one(**changed: Any) -> bytes:
    return headed(age={"dtype": "F64", "shape": [4], "data_offsets": [0, 32], **changed})


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"\xff" * 40, 400),
        (headed(), 422),
        (one(), 200),
        (one(shape=[5]), 422),
        (one(shape=[2, 2]), 422),
        (one(shape=[True]), 422),
        (one(shape=[-4]), 422),
        (one(shape=[0], data_offsets=[0, 0]), 422),
        (one(data_offsets=[0, 1 << 62], shape=[1 << 59]), 422),
        (one(data_offsets=[-8, 24]), 422),
        (one(data_offsets=["0", 32]), 422),
        (one(data_offsets=[64, 96]), 422),
        (one(dtype="F16"), 422),
        (one(dtype=[]), 422),
        (headed(**{SENTINEL: {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}), 422),
        (headed(age=3), 422),
        (headed(ward={"dtype": "I32", "shape": [4], "data_offsets": [0, 16]}), 422),
        (body(ward=[0, 1, 2, 3]), 422),
        (body(ward=[0, 1, 2, -2]), 422),
        (body(texts={"a": 1}), 422),
        (body(texts=[SENTINEL, True, "x"]), 422),
        (body(age=np.array([1.0, np.inf, 1, 1])), 422),
        (body(age=np.array([1, 2, 3, 4])), 422),
        (body(age=np.array([1.0, 2.0])), 422),
    ],
)
def test_what_isnt_such_is_refused(client: Client, data: bytes, status: int) -> None:
    answer = client.post("/predict", content=data, headers=HEAD)
    assert answer.status_code == status, answer.content
    if status != 200:
        assert set(answer.json()) == {"error"} and SENTINEL not in answer.text


@given(st.data())
@settings(max_examples=60)
def test_any_other_byte_is_an_answer_or_a_refusal(
    served: tuple[Client, Served], data: st.DataObject
) -> None:
    whole = bytearray(body())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    for content in (bytes(whole), bytes(whole[:cut])):
        answer = served[0].post("/predict", content=content, headers=HEAD)
        assert answer.status_code in (200, 400, 422)
