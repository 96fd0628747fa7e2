"""Every message comes back from its records as it was, and garbage is refused by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from hypothesis import given
from hypothesis import strategies as st

from wardround.common.errors import ReplyRefused, RequestRefused, WardroundError
from wardround.common.flower.arrays import ArraySpec, encode_arrays, layout_of
from wardround.common.protocol import names as m
from wardround.common.protocol.cohort import (
    CohortEvaluateReply,
    CohortTrainReply,
    StackedSums,
    clients_of,
    with_clients,
)
from wardround.common.protocol.describe import DEVICES, DescribeReply, DescribeRequest
from wardround.common.protocol.evaluate import EvaluateReply, EvaluateRequest
from wardround.common.protocol.manifest import ManifestReply, ManifestRequest
from wardround.common.protocol.masked import KeyReply, KeyRequest, MaskedReply, MaskedTask
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.statistics import StatisticsReply, StatisticsRequest
from wardround.common.protocol.strategy import FEDDYN_ALPHA, PROXIMAL_MU
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import (
    PrivacyTerms,
    TrainReply,
    TrainRequest,
)
from wardround.common.secagg.content import content_digest

# --- any message -----------------------------------------------------------------------------
NAMES = st.text("abcä.0 ", min_size=1, max_size=8)
WHOLES = st.integers(0, 2**53 - 1)
POSITIVE = st.floats(1e-6, 1e6)
DATA = st.binary(max_size=20)
VALUES = st.lists(st.floats(-1e6, 1e6), max_size=3)


def arrays(dtype: str = "float32") -> st.SearchStrategy[dict[str, np.ndarray]]:
    return st.dictionaries(NAMES, VALUES.map(lambda v: np.array(v, dtype)), max_size=3)


SUMS = arrays("float64")
RECORDS = arrays().map(encode_arrays)
TOTALS = st.one_of(st.none(), SUMS.map(Totals.of))
TASKS = st.one_of(st.none(), st.builds(MaskedTask, DATA, st.one_of(st.none(), DATA)))
MODELS = st.builds(
    SentModel,
    RECORDS,
    WHOLES,
    WHOLES,
    st.lists(NAMES, max_size=3, unique=True).map(tuple),
    st.one_of(st.just(""), st.text("0123456789abcdef", min_size=64, max_size=64)),
    st.lists(WHOLES, max_size=3, unique=True).map(tuple),
)
TERMS = st.builds(
    PrivacyTerms,
    NAMES,
    st.integers(1, 1_000_000),
    st.integers(1, 1000),
    st.floats(1e-6, 1.0),
    POSITIVE,
    POSITIVE,
)
OF_STRATEGY = st.dictionaries(
    st.sampled_from(["proximal-mu", "feddyn-alpha", "my-own"]), st.floats(0, 9), max_size=3
)
REQUESTS: dict[str, st.SearchStrategy[Any]] = {
    "describe": st.builds(DescribeRequest, totals=TOTALS),
    "statistics": st.builds(StatisticsRequest, WHOLES, TOTALS, TASKS),
    "evaluate": st.builds(EvaluateRequest, MODELS, TOTALS, WHOLES, TASKS, OF_STRATEGY),
    "train": st.builds(
        TrainRequest,
        MODELS,
        st.sampled_from(["plain", "scaffold", "another"]),
        TOTALS,
        st.one_of(st.none(), TERMS),
        TASKS,
        st.sampled_from(["", "examples", "uniform"]),
        OF_STRATEGY,
        st.dictionaries(st.sampled_from(["control", "more"]), RECORDS, max_size=2),
    ),
    "keys": st.builds(KeyRequest, DATA, st.one_of(st.none(), WHOLES)),
    "manifest": st.builds(ManifestRequest, DATA),
}
SIZES = st.fixed_dictionaries({split: WHOLES for split in m.SPLITS})
REPLIES: dict[str, st.SearchStrategy[Any]] = {
    "describe": st.builds(
        DescribeReply,
        st.sampled_from(["north", "East-Side"]),
        SIZES,
        st.lists(st.sampled_from(["few rows", "gaps"]), max_size=20).map(tuple),
        st.sampled_from(["", *DEVICES]),
    ),
    "keys": st.builds(KeyReply, DATA),
    "masked": st.builds(MaskedReply, DATA, DATA, st.one_of(st.none(), DATA)),
    "manifest": st.builds(ManifestReply, DATA),
}


@pytest.mark.parametrize("name", REQUESTS)
@given(st.data())
def test_a_request_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    request = data.draw(REQUESTS[name])
    content = request.to_records()
    again = type(request).from_records(content)
    assert again == request
    assert content_digest(again.to_records()) == content_digest(content)


@pytest.mark.parametrize("name", REPLIES)
@given(st.data())
def test_a_reply_comes_back_as_it_was(name: str, data: st.DataObject) -> None:
    reply = data.draw(REPLIES[name])
    assert type(reply).from_records(reply.to_records()) == reply


@given(SUMS)
def test_sums_come_back_as_they_were(sums: dict[str, np.ndarray]) -> None:
    content = StatisticsReply(sums).to_records()
    again = StatisticsReply.from_records(content)
    assert again.to_records() == content and list(again.sums) == list(sums)
    metrics = EvaluateReply({"test": sums, "validation": {}})
    found = EvaluateReply.from_records(metrics.to_records())
    assert found.to_records() == metrics.to_records()
    assert list(found.sums) == (["test"] if sums else [])


@given(arrays(), WHOLES, st.integers(1, 100), st.floats(-9, 9), st.one_of(st.none(), DATA))
def test_a_training_reply_comes_back_as_it_was(
    model: dict[str, np.ndarray], rows: int, steps: int, loss: float, claim: bytes | None
) -> None:
    private = claim is not None
    more = {"control": model}
    reply = TrainReply(model, rows, steps, None if private else loss, more, claim)
    layout = layout_of(model)
    again = TrainReply.from_records(reply.to_records(), layout, {"control": layout}, private)
    assert again.to_records() == reply.to_records()
    for field in ("num_examples", "local_steps", "train_loss", "claim"):
        assert getattr(again, field) == getattr(reply, field)


@given(SUMS, st.lists(WHOLES, max_size=4, unique=True), POSITIVE)
def test_a_cohorts_replies_come_back_as_they_were(
    sums: dict[str, np.ndarray], nodes: list[int], weight: float
) -> None:
    half = len(nodes) // 2
    refused = {node: f"failed: {node}" for node in nodes[half:]}
    trained = CohortTrainReply(tuple(nodes[:half]), refused, weight, -weight, 3.0, sums)
    again = CohortTrainReply.from_records(trained.to_records(), layout_of(sums))
    assert again.to_records() == trained.to_records()
    assert (again.accepted, again.refused) == (trained.accepted, refused)
    stacked = {name: np.stack([value] * half) for name, value in sums.items() if half}
    parts = (StackedSums("test", tuple(nodes[:half]), stacked),)
    evaluated = CohortEvaluateReply(parts, refused)
    found = CohortEvaluateReply.from_records(evaluated.to_records())
    assert found.to_records() == evaluated.to_records()
    assert found.parts[0].clients == tuple(nodes[:half]) and found.refused == refused


# --- garbage ---------------------------------------------------------------------------------
MODEL = {"w": np.zeros((2, 1), np.float32)}
HUGE = Array("float64", (10**7 + 1,), "numpy.ndarray", b"")
LAYOUT = {"w": ArraySpec((2, 1), "float32")}
TERMS_OF_ONE = PrivacyTerms("run-1", 3, 2, 0.5, 20.0, 1.0)
TRAIN = TrainRequest(
    SentModel(encode_arrays(MODEL), 1), privacy=TERMS_OF_ONE, masked=MaskedTask(b"task")
).to_records()
EVALUATE = EvaluateRequest(SentModel(encode_arrays(MODEL), 1)).to_records()
STATISTICS = StatisticsRequest(0, Totals.of({"rows": np.ones(1)})).to_records()
UPDATE = TrainReply(MODEL, 4, 2, 0.5).to_records()
DESCRIBED = DescribeReply("north", dict.fromkeys(m.SPLITS, 1), ("few rows",), "cpu").to_records()
GROUP = CohortTrainReply((1,), {2: "late"}, 1.0, 0.5, 2.0, {"w": np.zeros(1)}).to_records()


def having(content: Content, record: str, **values: Any) -> Content:
    """With these values in a record; None: without."""
    found = {**content[record], **{key.replace("_", "-"): one for key, one in values.items()}}
    kept = {key: one for key, one in found.items() if one is not None}
    return Content({**content, record: type(content[record])(kept)})


def without(content: Content, record: str) -> Content:
    return Content({name: one for name, one in content.items() if name != record})


train = TrainRequest.from_records


def update(content: Content) -> Any:
    return TrainReply.from_records(content, LAYOUT, {}, False)


Case = tuple[Callable[[Content], Any], Content, str]
BAD_REQUESTS: list[Case] = [
    (DescribeRequest.from_records, Content(), "has no 'config' record"),
    (DescribeRequest.from_records, Content({"config": ConfigRecord()}), "protocol None, this cl"),
    (DescribeRequest.from_records, Content({"config": ConfigRecord({"protocol": 1})}), "tocol 1,"),
    (StatisticsRequest.from_records, without(STATISTICS, "config"), "has no 'config' record"),
    (StatisticsRequest.from_records, having(STATISTICS, "config", phase=None), "'phase' must be a"),
    (StatisticsRequest.from_records, having(STATISTICS, "config", phase=-1), "'phase' must be a"),
    (StatisticsRequest.from_records, having(STATISTICS, "config", phase=0.5), "'phase' must be a"),
    (StatisticsRequest.from_records, having(STATISTICS, "config", phase=True), "'phase' must be"),
    (EvaluateRequest.from_records, without(EVALUATE, "arrays"), "has no 'arrays' record"),
    (EvaluateRequest.from_records, having(EVALUATE, "config", state_round="1"), "'state-round' mu"),
    (EvaluateRequest.from_records, having(EVALUATE, "config", best_round=-1), "'best-round' must"),
    (EvaluateRequest.from_records, having(EVALUATE, "config", frozen=7), "'frozen' must be a text"),
    (train, having(TRAIN, "config", server_round=None), "'server-round' must"),
    (train, having(TRAIN, "config", local_keys="all"), "must be a list of nam"),
    (train, having(TRAIN, "config", local_keys=[1]), "must be a list of names"),
    (train, having(TRAIN, "config", algorithm=3), "'algorithm' must be a name"),
    (train, having(TRAIN, "config", algorithm=""), "'algorithm' must be a name"),
    (train, having(TRAIN, "config", clipping_norm=10**400), "'clipping-norm' must"),
    (train, having(TRAIN, "config", run=""), "'run' must name the run"),
    (train, having(TRAIN, "config", run="x" * 201), "'run' must name the run"),
    (train, having(TRAIN, "config", cohort=0), "'cohort' must be a number of"),
    (
        TrainRequest.from_records,
        having(TRAIN, "config", planned_rounds=None),
        "'planned-rounds' mu",
    ),
    (train, having(TRAIN, "config", planned_rounds=10**7), "in 1..1000000"),
    (train, having(TRAIN, "config", sampling_rate=1.5), "'sampling-rate' must"),
    (
        TrainRequest.from_records,
        having(TRAIN, "config", expected_units=math.inf),
        "positive number",
    ),
    (train, having(TRAIN, "config", clipping_norm=0.0), "'clipping-norm' must"),
    (
        TrainRequest.from_records,
        having(TRAIN, "secagg", message=None),
        "'secagg' record with 'mess",
    ),
    (
        TrainRequest.from_records,
        having(TRAIN, "secagg", layout="x"),
        "'secagg' record with 'layout",
    ),
    (train, Content({**TRAIN, "secagg": MetricRecord()}), "with 'message'"),
    (KeyRequest.from_records, Content(), "no 'secagg' record with 'message'"),
]
BAD_REPLIES: list[Case] = [
    (DescribeReply.from_records, without(DESCRIBED, "sizes"), "lacks its records"),
    (DescribeReply.from_records, having(DESCRIBED, "describe", hospital="a/b"), "can't be called"),
    (DescribeReply.from_records, having(DESCRIBED, "describe", hospital=None), "can't be called"),
    (DescribeReply.from_records, having(DESCRIBED, "describe", warnings=["x"] * 21), "short list"),
    (DescribeReply.from_records, having(DESCRIBED, "sizes", train=-1), "'train' is not a whole"),
    (DescribeReply.from_records, having(DESCRIBED, "sizes", test=None), "'test' is not a whole"),
    (DescribeReply.from_records, having(DESCRIBED, "sizes", test=2**53), "'test' is not a whole"),
    (StatisticsReply.from_records, Content(), "'arrays' is missing"),
    (
        StatisticsReply.from_records,
        Content({"arrays": encode_arrays({"s": np.ones(1, np.float32)})}),
        "'s' is float32, expected float64",
    ),
    (
        StatisticsReply.from_records,
        Content({"arrays": encode_arrays({"x" * 257: np.ones(1)})}),
        "longer than 256",
    ),
    (
        StatisticsReply.from_records,
        Content(
            {"arrays": ArrayRecord({"s": Array("float64", (10**7 + 1,), "numpy.ndarray", b"")})}
        ),
        "hold 10000001 numbers",
    ),
    (
        EvaluateReply.from_records,
        Content({"arrays": encode_arrays({"train/loss": np.ones(1)})}),
        "'train/loss' names no split",
    ),
    (update, Content({**UPDATE, "more": ConfigRecord()}), "'more' is missing or not expected"),
    (update, without(UPDATE, "arrays"), "'arrays' is missing or not expected"),
    (update, Content({**UPDATE, "metrics": ConfigRecord()}), "is not a metric record"),
    (update, having(UPDATE, "metrics", secret=1.0), "its metrics are not"),
    (update, having(UPDATE, "metrics", num_examples=0.5), "'num-examples' is not a whole"),
    (update, having(UPDATE, "metrics", local_steps=0), "did not train"),
    (update, having(UPDATE, "metrics", train_loss=math.nan), "not a finite number"),
    (update, having(UPDATE, "metrics", train_loss=10**400), "not a finite number"),
    (update, Content({**UPDATE, "arrays": encode_arrays({})}), "array 'w' is missing"),
    (KeyReply.from_records, Content({"config": ConfigRecord()}), "not one of secure aggregation"),
    (KeyReply.from_records, Content({"secagg": ConfigRecord()}), "lacks 'message'"),
    (
        MaskedReply.from_records,
        Content({"secagg": ConfigRecord({"message": b"", "vector": "text"})}),
        "lacks 'vector'",
    ),
    (CohortTrainReply.from_records, having(GROUP, "config", reasons=[]), "who is in it"),
    (CohortTrainReply.from_records, having(GROUP, "config", accepted=[1, 1]), "a client twice"),
    (CohortTrainReply.from_records, having(GROUP, "metrics", weight=0.0), "are no numbers"),
    (CohortTrainReply.from_records, having(GROUP, "metrics", weight=None), "are no numbers"),
    (
        CohortEvaluateReply.from_records,
        Content({"train/0": encode_arrays({}), "config": ConfigRecord()}),
        "is of no split",
    ),
    (
        CohortEvaluateReply.from_records,
        Content(
            {"test/0": encode_arrays({"s": np.zeros(2)}), "config": ConfigRecord({"test/0": [1]})}
        ),
        "not one for each client",
    ),
]


def refused(case: Case, error: type[WardroundError]) -> None:
    read, content, reason = case
    with pytest.raises(error) as caught:
        read(content)
    assert type(caught.value) is error and reason in str(caught.value)


@pytest.mark.parametrize("case", BAD_REQUESTS, ids=lambda case: case[2])
def test_a_bad_request_is_refused_by_name(case: Case) -> None:
    refused(case, RequestRefused)


@pytest.mark.parametrize("case", BAD_REPLIES, ids=lambda case: case[2])
def test_a_bad_reply_is_refused_by_name(case: Case) -> None:
    refused(case, ReplyRefused)


def test_what_is_tampered_with_was_right_before() -> None:
    for read, content in (
        (TrainRequest.from_records, TRAIN),
        (EvaluateRequest.from_records, EVALUATE),
        (StatisticsRequest.from_records, STATISTICS),
        (DescribeReply.from_records, DESCRIBED),
        (update, UPDATE),
        (CohortTrainReply.from_records, GROUP),
    ):
        read(content)


def test_arrays_and_settings_of_a_request_are_refused_as_a_requests_when_they_are_looked_at() -> (
    None
):
    request = dataclasses.replace(
        TrainRequest.from_records(TRAIN),
        strategy={"proximal-mu": -1.0},
        records={"control": encode_arrays(MODEL)},
    )
    with pytest.raises(RequestRefused, match="array 'w' is float32"):
        request.model.decoded({"w": ArraySpec((2,), "float32")})
    with pytest.raises(RequestRefused, match="array 'v' is missing"):
        request.record("control", {"v": LAYOUT["w"]})
    with pytest.raises(RequestRefused, match="has no 'other' record"):
        request.record("other", LAYOUT)
    with pytest.raises(RequestRefused, match="'proximal-mu' must be a number of at least 0"):
        request.setting(PROXIMAL_MU, 0.0)
    with pytest.raises(RequestRefused, match="'feddyn-alpha' must be a positive number"):
        request.setting(FEDDYN_ALPHA)
    with pytest.raises(RequestRefused, match="doesn't match its digest"):
        Totals(Totals.of({"rows": np.ones(1)}).record, "00").decoded()


def test_a_device_that_is_not_known_is_not_kept() -> None:
    for said in ("tpu", 7):
        reply = DescribeReply.from_records(having(DESCRIBED, "describe", device=said))
        assert reply.device == ""


def test_settings_of_a_strategy_keep_their_order() -> None:
    request = TrainRequest(
        SentModel(encode_arrays(MODEL), 4), strategy={"b": 1, "proximal-mu": 2.0}
    )
    content = request.to_records(first=["proximal-mu", "server-round", "gone"])
    assert list(content["config"]) == [
        *("proximal-mu", "server-round", "algorithm", "b", "state-round"),
    ]


def test_a_cohorts_request_is_for_its_clients() -> None:
    assert clients_of(TRAIN) == () and clients_of(Content()) == ()
    content = with_clients(with_clients(TRAIN, [5, 3]), [3])
    assert clients_of(content) == (3,) and clients_of(TRAIN) == ()
    assert TrainRequest.from_records(content).model.clients == (3,)
