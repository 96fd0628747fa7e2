"""A blind run's model at a hospital, beside training and evaluation: kept at the end, handed over.

``query.model`` comes once the run is over: the model that it leaves is written where the hospital's
own models stand, as nobody else has it.

``query.give`` and ``query.take`` bring a model to a hospital that has missed a round, or is new:
from one that has it, sealed. What a hospital takes over it can't check; with another model than the
others' no further sum can be read, which all of them notice.
"""

from __future__ import annotations

from wardround.client.data.hospital import Hospital
from wardround.client.requests.own_model import write_blind_model
from wardround.client.requests.received import ModelCache, receive
from wardround.client.secagg.blind import BlindModels, check_blind
from wardround.client.state import ClientState
from wardround.common.errors import RequestRefused
from wardround.common.protocol import names as m
from wardround.common.protocol.evaluate import EvaluateRequest
from wardround.common.protocol.masked import KeyReply, SealedModel, key_to_seal
from wardround.common.protocol.message import Content
from wardround.common.secagg.messages import Blind


def keep_chosen(
    models: ModelCache, content: Content, hospital: Hospital, state: ClientState
) -> Content:
    """The answer to ``query.model``: this hospital has the model, and says which by a digest that
    the server can't make."""
    request = EvaluateRequest.from_records(content)
    received = receive(request, hospital, state, models)
    if received.blind is None:
        raise RequestRefused("this run isn't a blind one: the server has its model")
    write_blind_model(hospital, received)
    return KeyReply(BlindModels(hospital, state).held(received.blind).to_bytes()).to_records()


def give_model(
    models: ModelCache, content: Content, hospital: Hospital, state: ClientState
) -> Content:
    """The answer to ``query.give``: the model that the request's sum makes, sealed."""
    request = EvaluateRequest.from_records(
        Content({k: v for k, v in content.items() if k != m.SECAGG})
    )
    received = receive(request, hospital, state, models)
    if received.blind is None:
        raise RequestRefused("this run isn't a blind one: the server has its model")
    blind, key = Blind.from_bytes(request.model.blind), key_to_seal(content)
    sealed = BlindModels(hospital, state).give(received.blind, blind, key)
    return SealedModel(sealed).to_records()


def take_model(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """The answer to ``query.take``: this hospital has the model that another one gave."""
    check_blind(hospital)
    sealed, held = SealedModel.from_request(content), BlindModels(hospital, state)
    assert sealed.about is not None and sealed.key is not None  # as ``from_request`` reads them
    model = held.take_over(sealed.sealed, Blind.from_bytes(sealed.about), sealed.key)
    return KeyReply(held.held(model).to_bytes()).to_records()
