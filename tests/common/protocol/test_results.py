"""The messages that bring results come back as they were, and what is wrong is refused."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ReplyRefused, RequestRefused
from wardround.common.flower.arrays import encode_arrays
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol.results import PIECE_BYTES, StudyEnded, StudyFile, StudyReply

STUDIES = st.sampled_from(["", "ab" * 32])
FILES = st.builds(
    StudyFile, STUDIES, st.text(min_size=1, max_size=128), st.integers(0, 2**62), st.binary()
)
ENDS = st.builds(
    StudyEnded,
    STUDIES,
    st.sampled_from(["complete", "aborted"]),
    st.text(max_size=500),
    st.binary(max_size=99),
)


@given(st.one_of(FILES, ENDS))
def test_a_message_comes_back_as_it_was_over_the_wire(message: StudyFile | StudyEnded) -> None:
    body = encode_content(message.to_records())
    came = decode_content(BytesIO(body.read(0, body.size_bytes)), body.size_bytes)
    assert type(message).from_records(came) == message


def test_a_large_piece_travels_as_a_blob() -> None:
    """Not inside the header, which is JSON: a byte is a byte on the wire."""
    body = encode_content(StudyFile("", "model/m", 0, bytes(PIECE_BYTES)).to_records())
    assert PIECE_BYTES < body.size_bytes < PIECE_BYTES + 1000


def changed(content: RecordDict, record: str, **values: Any) -> RecordDict:
    kept = dict(content["results"]) | values
    found = ConfigRecord({key: value for key, value in kept.items() if value is not None})
    return RecordDict({**content, record: found})


PIECE = StudyFile("", "model/m", 3, b"abc").to_records()
END = StudyEnded("", "failed", "why", b"").to_records()


def of(arrays: dict[str, Any]) -> RecordDict:
    return RecordDict({**PIECE, "piece": encode_arrays(arrays)})


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (StudyFile, RecordDict()),
        (StudyFile, RecordDict({"results": MetricRecord(), "piece": PIECE["piece"]})),
        (StudyFile, RecordDict({"results": PIECE["results"]})),
        (StudyFile, changed(PIECE, "results", study="a" * 65)),
        (StudyFile, changed(PIECE, "results", study=None)),
        (StudyFile, changed(PIECE, "results", name="")),
        (StudyFile, changed(PIECE, "results", name="n" * 129)),
        (StudyFile, changed(PIECE, "results", offset=-1)),
        (StudyFile, changed(PIECE, "results", offset=1.0)),
        (StudyFile, of({})),
        (StudyFile, of({"other": np.zeros(1, np.uint8)})),
        (StudyFile, of({"bytes": np.zeros(1, np.uint8), "more": np.zeros(1, np.uint8)})),
        (StudyFile, of({"bytes": np.zeros(1, np.int8)})),
        (StudyFile, of({"bytes": np.zeros((1, 1), np.uint8)})),
        (StudyFile, of({"bytes": np.zeros(PIECE_BYTES + 1, np.uint8)})),
        (StudyEnded, RecordDict()),
        (StudyEnded, changed(END, "results", state="")),
        (StudyEnded, changed(END, "results", reason="r" * 501)),
        (StudyEnded, changed(END, "results", files=None)),
        (StudyEnded, changed(END, "results", files="text")),
    ],
)
def test_a_bad_request_is_refused(kind: Any, content: RecordDict) -> None:
    with pytest.raises(RequestRefused):
        kind.from_records(content)


def test_an_array_that_isnt_what_it_says_is_refused() -> None:
    wrong = ArrayRecord({"bytes": Array("uint8", (5,), "numpy.ndarray", b"abc")})
    with pytest.raises(RequestRefused):
        StudyFile.from_records(RecordDict({**PIECE, "piece": wrong}))


def test_an_answer_says_nothing_but_that_it_was_taken() -> None:
    content = StudyReply().to_records()
    assert StudyReply.from_records(content) == StudyReply()
    assert [(name, dict(record)) for name, record in content.items()] == [
        ("results", {"taken": "ok"})
    ]
    for wrong in (RecordDict(), RecordDict({**content, "more": ConfigRecord()})):
        with pytest.raises(ReplyRefused):
            StudyReply.from_records(wrong)
