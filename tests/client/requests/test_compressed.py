"""Scales that a server makes up are refused; those of the rule are kept and gone on from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, Message, RecordDict

from tests.client.requests.test_settings import Settings, hospital
from wardround.client.requests.compressed import keep_scales, writing_of
from wardround.client.state import ClientState
from wardround.common.compression.scales import SCALES, first_scales
from wardround.common.errors import RequestRefused, RoundFailed
from wardround.common.flower.arrays import ArraySpec, decode_arrays, encode_arrays
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.train import TrainRequest

SMALL = "[compression]\nbits = 8\n"
MASKED = "[secure_aggregation]\nenabled = true\nmin_cohort = 2\n"
LAYOUT = {"weight": ArraySpec((1, 12), "float32"), "bias": ArraySpec((1,), "float32")}
FIRST = first_scales(LAYOUT, ["bias", "weight"], 0.25)


def asked(scales: np.ndarray, server_round: int, state_round: int = 0) -> TrainRequest:
    model = SentModel(ArrayRecord(), server_round, state_round)
    return TrainRequest(model, records={SCALES: encode_arrays({SCALES: scales})})


def test_a_hospital_goes_on_from_what_it_was_shown(settings: Settings) -> None:
    state, here = ClientState(RecordDict()), hospital(settings(SMALL))
    one = writing_of(asked(FIRST, 1), here, state, LAYOUT, LAYOUT)
    assert one is not None and one.names == ["bias", "weight"]
    assert one.reach("weight") == pytest.approx(4 * 0.25 / 6)
    two = writing_of(asked(FIRST / 2, 2, 1), here, state, LAYOUT, LAYOUT)
    assert two is not None
    keep_scales(two, state)
    # round 3 from the rule's beginning could have a quarter or four times; from round 2 a half
    writing_of(asked(FIRST / 4, 3, 2), here, state, LAYOUT, LAYOUT)
    with pytest.raises(RequestRefused, match="in 1 rounds the plan's rule"):
        writing_of(asked(FIRST * 2, 3, 2), here, state, LAYOUT, LAYOUT)


@pytest.mark.parametrize("state_round", [0, 1, 2, 3, 99])
def test_which_round_is_gone_on_from_frees_no_scale(settings: Settings, state_round: int) -> None:
    """A round that the hospital has no state of would leave the bound of round 1 alone, 512 here;
    and a training that failed, after which its state is that of the round before."""
    state, here = ClientState(RecordDict()), hospital(settings(SMALL))
    nine = writing_of(asked(FIRST / 128, 9, 8), here, state, LAYOUT, LAYOUT)
    assert nine is not None
    keep_scales(nine, state)
    state.keep(9, 8)
    writing_of(asked(FIRST / 256, 10, state_round), here, state, LAYOUT, LAYOUT)
    with pytest.raises(RequestRefused, match="in 1 rounds the plan's rule"):
        writing_of(asked(FIRST * 512, 10, state_round), here, state, LAYOUT, LAYOUT)


@pytest.mark.parametrize(
    "scales", [FIRST * 1.001, FIRST * [1, 1e-9], FIRST[:1], np.full(2, np.inf)]
)
def test_round_1_has_the_hospitals_own(settings: Settings, scales: np.ndarray) -> None:
    state, here = ClientState(RecordDict()), hospital(settings(SMALL))
    with pytest.raises(RequestRefused):
        writing_of(asked(scales, 1), here, state, LAYOUT, LAYOUT)
    assert list(state.names("")) == []


@pytest.mark.parametrize("text", ["", MASKED])
def test_a_server_that_makes_them_up_gets_no_answer(
    settings: Settings, federate: Any, shards: Any, text: str
) -> None:
    """A scale of 1e-9 would show signs. The hospitals' own apps refuse, masked or not."""

    def lying(app: Any) -> Any:
        def answer(message: Message, context: Any) -> Message:
            if SCALES in message.content:
                scales = decode_arrays(message.content[SCALES])[SCALES].copy()
                scales[0] = 1e-9
                message.content[SCALES] = encode_arrays({SCALES: scales})
            return app(message, context)

        return answer

    config = settings(text + SMALL + "[federation]\nretry_wait_s = 0\n")
    with pytest.raises(RoundFailed, match="scale of layer 1 is 1e-09"):
        federate(config, shards, wrap=lying)
