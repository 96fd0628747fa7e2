"""What a hospital writes down of a request: the same words at every hospital, of whatever comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from wardround.client.process.public_words import MOST_NAMES, PublicWords
from wardround.common.audit.log import AuditLog
from wardround.common.flower.arrays import encode_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import KeyRequest, MaskedTask
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import TrainRequest
from wardround.common.secagg import content as secagg_content
from wardround.common.secagg import messages as wire
from wardround.common.secagg.context import group_id, transcript_digest

KEY, SIGNATURE = bytes(32), bytes(64)


def task(**changes: object) -> wire.TaskRequest:
    values = dict(
        group=KEY, index=5, purpose="train 3", bits=32, clip=0.5, largest_weight=7, fine=0
    )
    return wire.TaskRequest(**values | changes)  # type: ignore[arg-type]


def training(
    state_round: int = 0, value: float = 1.0, total: float = 2.0, **changes: object
) -> RecordDict:
    return TrainRequest(
        model=SentModel(encode_arrays({"w": np.full(3, value, np.float32)}), 3, state_round),
        totals=Totals.of({"mean": np.array([total])}),
        masked=MaskedTask(task(**changes).to_bytes()),
    ).to_records()


def group(*names: str, least: int = 3) -> bytes:
    members = tuple(wire.Hello(KEY, name, KEY, SIGNATURE) for name in names)
    return wire.GroupRequest(KEY, 4, 2, len(names) - 1, 3, least, 0, members).to_bytes()


def key_request(data: bytes) -> RecordDict:
    return KeyRequest(data).to_records()


@pytest.fixture
def words(tmp_path: Path) -> PublicWords:
    path = tmp_path / "audit.jsonl"
    path.touch()
    return PublicWords(path)


def test_what_differs_between_hospitals_by_design_has_no_word(words: PublicWords) -> None:
    """The round that a hospital remembers; all else is the same for all."""
    one, other = (words.of("run", m.TRAIN, training(state_round=n)) for n in (0, 2))
    assert one == other and one["run"] == "run"
    known = {"purpose": "train 3", "aggregation": 5, "largest_weight": 7, "clip": 0.5, "bits": 32}
    assert known.items() <= one.items()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"value": 1.5}, "model"),
        ({"total": 2.5}, "totals"),
        ({"largest_weight": 8}, "largest_weight"),
        ({"clip": 1e-9}, "clip"),
        ({"index": 6}, "aggregation"),
        ({"purpose": "train 4"}, "purpose"),
    ],
)
def test_another_value_is_another_word(words: PublicWords, changes: dict, word: str) -> None:
    one, other = (words.of("run", m.TRAIN, training(**x)) for x in ({}, changes))
    differ = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    # the totals' digest stands among the settings too
    assert differ - ({"settings"} if word == "totals" else set()) == {word}


def test_a_group_its_keys_and_who_is_opened(tmp_path: Path, words: PublicWords) -> None:
    data = group("a", "b", "c")
    told = words.of("run", m.GROUP, key_request(data))
    assert told == {
        "run": "run", "session": KEY.hex(), "group": group_id(data).hex(), "first": 4, "count": 2,
        "degree": 2, "threshold": 3, "least": 3, "members": ["a", "b", "c"],
    }  # fmt: skip
    digests = (b"\1" * 32, b"\2" * 32)
    keys = wire.KeysRequest(group_id(data), digests, ())
    told = words.of("run", m.KEYS, key_request(keys.to_bytes()))
    assert told["transcript"] == transcript_digest(group_id(data), digests).hex()
    unmask = wire.UnmaskRequest(group_id(data), 5, (0, 2), ()).to_bytes()
    told = words.of("run", m.UNMASK, key_request(unmask))
    assert (told["survivors"], told["aggregation"]) == (["a", "c"], 5)


def test_survivors_have_names_after_a_restart_too(tmp_path: Path) -> None:
    data, path = group("a", "b", "c"), tmp_path / "audit.jsonl"
    unmask = key_request(wire.UnmaskRequest(group_id(data), 5, (1, 2), ()).to_bytes())
    with AuditLog.open(path, "a", None) as log:
        assert PublicWords(path).of("run", m.UNMASK, unmask)["survivors"] == ["1", "2"]
        told = PublicWords(path).of("run", m.GROUP, key_request(data))
        log.append("received", kind=m.GROUP, told=told)
        assert PublicWords(path).of("run", m.UNMASK, unmask)["survivors"] == ["b", "c"]


def test_strategies_records_are_one_word_whatever_they_are_called(words: PublicWords) -> None:
    plain = training()
    more = encode_arrays({"w": np.zeros(3)})
    told = [
        words.of("run", m.TRAIN, RecordDict(dict(plain) | extra))
        for extra in ({}, {"control": more}, {"x\n": more}, {str(n): more for n in range(9999)})
    ]
    assert "records" not in told[0] and len({one["records"] for one in told[1:]}) == 3
    assert {one["model"] for one in told} == {told[0]["model"]}


@given(st.binary(max_size=80), st.sampled_from([m.HELLO, m.GROUP, m.KEYS, m.UNMASK, m.TRAIN]))
def test_whatever_a_server_sends_gets_its_line(tmp_path_factory, data: bytes, kind: str) -> None:
    path = tmp_path_factory.mktemp("log") / "audit.jsonl"
    with AuditLog.open(path, "a", None) as log:
        log.append("received", told=PublicWords(path).of("run", kind, key_request(data)))


@pytest.mark.parametrize(
    "content",
    [
        training(largest_weight=2**64 - 1, clip=float("nan")),
        training(clip=float("-inf"), purpose="\x1b[31m" + "é" * 100),
        RecordDict({m.ARRAYS: ArrayRecord({"w": Array("f4", (-1,), "numpy.ndarray", b"")})}),
        RecordDict({m.SECAGG: ConfigRecord({m.MESSAGE: 3})}),
        RecordDict({m.CONFIG: ConfigRecord({"x" * 9999: [float("inf")]})}),
        RecordDict(),
    ],
)
def test_numbers_and_names_that_no_line_could_hold(tmp_path: Path, content: RecordDict) -> None:
    path = tmp_path / "audit.jsonl"
    with AuditLog.open(path, "a", None) as log:
        log.append("received", told=PublicWords(path).of("run", m.TRAIN, content))


def test_a_long_list_of_hospitals_is_its_digest(tmp_path: Path, words: PublicWords) -> None:
    names = [f"{'h' * 50}{n:05}" for n in range(MOST_NAMES + 1)]
    told = words.of("run", m.GROUP, key_request(group(*names)))
    assert told["members"]["count"] == MOST_NAMES + 1
    other = words.of("run", m.GROUP, key_request(group(*names[:-1], "x")))
    assert told["members"] != other["members"]
    assert len(words.of("run", m.GROUP, key_request(group(*names[1:])))["members"]) == MOST_NAMES


def test_a_model_is_hashed_once_for_the_log_and_for_the_masks(
    words: PublicWords, monkeypatch
) -> None:
    """The masks are bound to this request, and to no other one that looks like it."""
    hashed: list[object] = []
    true = secagg_content.record_digest
    monkeypatch.setattr(
        secagg_content, "record_digest", lambda record: hashed.append(record) or true(record)
    )
    request = training()
    told = words.of("run", m.TRAIN, request)
    assert secagg_content.digests_of(request).model.hex() == told["model"]
    assert len(hashed) == 2  # the model, the totals
    assert secagg_content.digests_of(training(value=2.0)).model.hex() != told["model"]
    assert len(hashed) == 4
