"""A hospital that keeps an update holds to where it goes, whatever a server asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from tests.federate import Line, examples
from wardround.client.app import create_client_app
from wardround.client.data.hospital import Hospital, Keys, Place
from wardround.client.data.shard import OwnShard
from wardround.client.requests.buffered import Kept
from wardround.client.state import ClientState
from wardround.common.bfloat16 import BFLOAT16
from wardround.common.config.load import Config
from wardround.common.errors import RequestRefused, reason_of
from wardround.common.flower.arrays import Arrays, encode_arrays, layout_of
from wardround.common.flower.hosting import become_server
from wardround.common.protocol import names as m
from wardround.common.protocol.kept import KeptRequest, asks_for_kept, is_work
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainReply, TrainRequest
from wardround.simulations.clients import Clients

Settings = Callable[[str], Config]
BUFFERED = """
[federation]
rounds = 9
pace = "buffered"
buffer = 1
max_staleness = 3
"""


def model(weight: float) -> Arrays:
    return {"weight": np.array([[weight]], np.float32)}


class Asked:
    """One hospital, in plain: y = w x with x = y = 1, a rate of 0.1 and one step."""

    def __init__(self, config: Config) -> None:
        become_server(1)
        shard = OwnShard("a", Line(), config, lambda: examples([1.0], [1.0]))
        hospital = Hospital(shard, keys=Keys(None, {}), place=Place(simulated=True))
        app = create_client_app(lambda context: hospital, outward=reason_of)
        self.clients = Clients(["a"], app=app)

    def ask(self, kind: str, content: RecordDict) -> Message:
        return self.clients.answer(Message(content, 1, kind))

    def begin(self, version: int, weight: float) -> Message:
        sent = SentModel(encode_arrays(model(weight)), version + 1)
        return self.ask(m.BEGIN, TrainRequest(sent).to_records())

    def send(self, server_round: int, present: float) -> Message:
        request = KeptRequest(server_round, "plain", encode_arrays(model(present)))
        return self.ask(m.TRAIN, request.to_records())


@pytest.fixture
def asked(settings: Settings) -> Asked:
    return Asked(settings(BUFFERED))


def weight(reply: Message) -> float:
    assert not reply.has_error(), reply.error.reason
    layout = {"weight": ((1, 1), "float32")}
    found = TrainReply.from_records(reply.content, layout, {}, private=False)  # type: ignore[arg-type]
    return float(found.arrays["weight"][0, 0])


def refused(reply: Message) -> str:
    assert reply.has_error()
    return reply.error.reason or ""


def test_the_present_model_moved_by_the_scaled_change(asked: Asked) -> None:
    """From w = 0.5 the step is 0.05; three rounds later it counts half."""
    asked.begin(1, 0.5)
    assert weight(asked.send(5, 10.0)) == pytest.approx(10.0 + 0.5 * 0.05)


def test_what_isnt_stale_is_what_was_trained_bit_for_bit(asked: Asked) -> None:
    asked.begin(0, 0.0)
    assert weight(asked.send(1, 0.0)) == float(np.float32(0.1))


def test_the_answer_to_begin_says_nothing(asked: Asked) -> None:
    reply = asked.begin(4, 0.5).content
    assert [(name, dict(record)) for name, record in reply.items()] == [
        ("metrics", {"server-round": 5})
    ]


def test_one_update_goes_into_one_rounds_sum(asked: Asked) -> None:
    asked.begin(0, 0.0)
    first = weight(asked.send(2, 0.0))
    assert weight(asked.send(2, 0.0)) == first  # another attempt
    for other in (1, 3):
        assert "was sent in round 2, and goes into no other" in refused(asked.send(other, 0.0))


def test_who_has_sent_one_trains_on_no_version_of_before(asked: Asked) -> None:
    asked.begin(1, 0.0)
    asked.begin(2, 0.0)  # the first one was never asked for
    assert "on version 1 it trains no more" in refused(asked.begin(1, 0.0))
    asked.send(4, 0.0)
    for version in (2, 3):
        assert "sent the update in round 4" in refused(asked.begin(version, 0.0))
    assert not asked.begin(4, 0.0).has_error()


@pytest.mark.parametrize("server_round", [3, 8])
def test_a_round_before_its_version_or_too_long_after(asked: Asked, server_round: int) -> None:
    asked.begin(3, 0.0)
    assert "it isn't of the last 4" in refused(asked.send(server_round, 0.0))
    assert weight(asked.send(7, 0.0)) == pytest.approx(0.05)


def test_nothing_is_kept_at_first_nor_sent_at_once(asked: Asked) -> None:
    assert "keeps no update" in refused(asked.send(1, 0.0))
    sent = SentModel(encode_arrays(model(0.0)), 1)
    reply = asked.ask(m.TRAIN, TrainRequest(sent).to_records())
    assert "an update is kept first" in refused(reply)


def test_a_synchronous_run_keeps_nothing(settings: Settings) -> None:
    asked = Asked(settings(""))
    assert "it keeps no update" in refused(asked.begin(0, 0.0))
    assert "federation.pace = 'synchronous'" in refused(asked.send(1, 0.0))


def other_requests() -> Iterator[Content]:
    more = KeptRequest(1, "plain", encode_arrays(model(0.0))).to_records()
    more["control"] = encode_arrays(model(1.0))
    yield more
    lacking = KeptRequest(1, "plain").to_records()
    yield lacking
    wrong = KeptRequest(1, "plain", encode_arrays({"weight": np.zeros((2, 1), np.float32)}))
    yield wrong.to_records()


@pytest.mark.parametrize("content", list(other_requests()))
def test_a_request_with_more_or_less_leaves_the_update_free(asked: Asked, content: Content) -> None:
    asked.begin(0, 0.0)
    assert refused(asked.ask(m.TRAIN, content))
    assert not asked.send(2, 0.0).has_error()  # it belongs to no round yet


def test_which_requests_are_work() -> None:
    kept = KeptRequest(1, "plain").to_records()
    plain = RecordDict({m.CONFIG: ConfigRecord({m.ROUND: 1})})
    assert asks_for_kept(kept) and not asks_for_kept(plain)
    assert [is_work(m.TRAIN, kept), is_work(m.TRAIN, plain), is_work(m.BEGIN, plain)] == [
        False,
        True,
        True,
    ]
    with pytest.raises(RequestRefused):
        KeptRequest.from_records(plain)


def test_it_is_stored_whole() -> None:
    """Buffers, a claim, no loss; under masks without the models, which plain answers alone use."""
    received = model(1.0) | {"count": np.array([4]), "mean": np.array([0.5], np.float32)}
    trained = model(3.0) | {"count": np.array([6]), "mean": np.array([0.25], np.float32)}
    reply = TrainReply(trained, 7, 5, None, {}, b"claim")
    for masked in (False, True):
        state = ClientState(RecordDict())
        Kept.of(2, received, {"weight"}, reply, masked).save(state)
        kept = Kept.load(state)
        assert kept is not None
        assert (kept.version, kept.count, kept.steps, kept.loss) == (2, 7, 5, None)
        assert (kept.claim, kept.parameters, kept.sent_in, kept.failed) == (
            b"claim",
            ("weight",),
            0,
            False,
        )
        assert bool(kept.trained) is not masked
        scaled = kept.scaled(6)  # three rounds were made since
        assert scaled["weight"].tolist() == [[1.0]] and scaled["weight"].dtype == np.float32
        assert scaled["count"].tolist() == [6] and scaled["mean"].tolist() == [0.25]


def test_of_16_bits_the_change_is_worked_out_in_32() -> None:
    """1 + 2^-7 is bfloat16's neighbour of 1: three rounds later half of that step counts, which
    lies between the two, and is 2^-8 all the same."""
    near = np.array([[1.0]]).astype(BFLOAT16)
    after = np.array([[1.0 + 2**-7]]).astype(BFLOAT16)
    for masked in (False, True):
        state = ClientState(RecordDict())
        reply = TrainReply({"weight": after}, 1, 1, 0.5)
        Kept.of(0, {"weight": near}, {"weight"}, reply, masked).save(state)
        kept = Kept.load(state)
        assert kept is not None and kept.layout == layout_of({"weight": near})
        assert kept.scaled(4)["weight"].tolist() == [[2**-8]]
        assert kept.scaled(1)["weight"].tolist() == [[2**-7]]
        if not masked:
            present = {"weight": np.array([[2**-8]]).astype(BFLOAT16)}
            found = kept.moved_on(4, present)["weight"]
            assert found.dtype == BFLOAT16 and found.astype(float).tolist() == [[2**-7]]
