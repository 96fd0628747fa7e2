"""No secret of a hospital is shown by anything that a log, a traceback or the wire may carry."""

from __future__ import annotations

import base64
import logging
import traceback
from collections.abc import Iterable

import numpy as np
import pytest

from tests.secagg.driver import (
    LAYOUT,
    Federation,
    alone,
    finish,
    forged_unmask,
    is_plain_sum,
    some_numbers,
    start,
    summing,
)
from wardround.client.secagg.state import Memory, Policy
from wardround.common.errors import ProtocolRefused, RoundFailed
from wardround.common.secagg import messages as wire
from wardround.common.secagg.keys import ExchangeKey, KeyChain, derive
from wardround.common.secagg.ring import MaskSeeds
from wardround.server.secagg.sum import KeyGroup


def spellings(secret: bytes) -> set[str]:
    """How a secret would look in text: hex, Python's repr, base64 and number."""
    return {
        secret.hex(),
        secret.hex().upper(),
        repr(secret)[2:-1],
        repr(bytearray(secret))[12:-2],
        base64.b64encode(secret).decode().rstrip("="),
        base64.urlsafe_b64encode(secret).decode().rstrip("="),
        str(int.from_bytes(secret, "big")),
        str(list(secret))[1:-1],
    }


def shown(secrets: Iterable[bytes], texts: Iterable[str]) -> list[str]:
    """Texts with one of the secrets in them."""
    words = [word for secret in secrets for word in spellings(secret)]
    return [text for text in texts if any(word in text for word in words)]


def secrets_of(federation: Federation, group: KeyGroup, index: int) -> set[bytes]:
    """Everything that a hospital keeps for itself at this aggregation."""
    found: set[bytes] = set()
    for name in group.names:
        hospital = federation.hospitals[name]
        record = hospital.group(group.id)
        link = record.chain_at(index).link
        own = hospital.secrets(group.id, index)
        points = [holder + 1 for holder in range(len(group.names))]
        found |= {hospital.session().exchange, hospital.identity.secret_bytes(), record.link, link}
        found |= {own.round_key, own.self_mask, own._key_polynomial, own._self_polynomial}
        found |= {pair[:32] for pair in own.shares(group.parameters.threshold, points)}
    return found


def test_the_search_finds_a_secret_however_it_is_written() -> None:
    secret = bytes(range(200, 232))
    for text in (
        secret.hex(),
        f"link={secret!r}",
        repr({"link": [secret]}),
        base64.b64encode(b"abc" + secret).decode(),
        str(list(secret)),
        str(int.from_bytes(secret, "big")),
    ):
        assert shown([secret], [text]) == [text]
    assert shown([secret], [bytes(32).hex()]) == []


def test_no_object_log_line_or_refusal_shows_a_secret(caplog) -> None:
    caplog.set_level(logging.DEBUG)
    federation = Federation(5)
    group = federation.ready(count=2)
    numbers = some_numbers(group.names)
    secrets = {one.rounding_key for one in numbers.values()}
    objects: list[object] = [federation.session, group]
    errors: list[BaseException] = []
    for _ in range(2):
        masked = summing(group)
        index = masked.task.index
        secrets |= secrets_of(federation, group, index)
        for name in group.names[:4]:
            pending = start(federation[name], masked.task.to_bytes(), LAYOUT)
            masked.add_upload(name, *finish(pending, numbers[name]))
            objects.append(pending)
        requests = masked.unmask_requests()
        for name, request in requests.items():
            answer = federation[name].unmask(request)
            masked.add_shares(name, answer)
            objects += [wire.Shares.from_bytes(answer), wire.UnmaskRequest.from_bytes(request)]
            secrets |= set(wire.Shares.from_bytes(answer).shares)
        total = masked.open()
        assert is_plain_sum(masked, total, numbers, group.names[:4])
        objects += [masked, total, masked.task, masked.encoding, masked.phase]
        for step in (
            lambda: federation["h00"].unmask(
                forged_unmask(group, index, "h00", range(5)).to_bytes()
            ),
            lambda: start(federation["h00"], masked.task.to_bytes(), LAYOUT),
            lambda: federation["h00"].bundle(group.request),
            lambda: federation["h04"].unmask(requests["h00"]),
            lambda: federation["h00"].accept(requests["h00"]),
            lambda: KeyChain(bytes(32), 3).advance(2),
            lambda: ExchangeKey(b"k" * 32).shared(bytes(32)),
            lambda: masked.add_shares("h00", answer),
        ):
            with pytest.raises(ProtocolRefused) as caught:
                step()
            errors.append(caught.value)
    for name in group.names:
        hospital = federation.hospitals[name]
        memory = Memory(hospital.store)
        record = memory.group(group.id)
        chain = record.chain_at(2)  # what the last aggregation left
        objects += [hospital.client, memory, memory.present(), record, chain, chain.secrets()]
        objects += [chain.secrets().exchange_key(), hospital.identity, hospital.policy]
        secrets |= {derive(chain.link, "next link"), record.answer or chain.link}
    for kind, _, data in federation.sent:
        if kind != "Vector":
            message = getattr(wire, kind).from_bytes(data)
            objects += [
                message,
                *(m for m in vars(message).values() if isinstance(m, wire.Message)),
            ]
    seeds = MaskSeeds(b"u" * 32, b"e" * 32)
    secrets |= {seeds.update, seeds.exact}
    objects.append(seeds)

    texts = [text for one in objects for text in (repr(one), str(one), f"{[one]}")]
    texts += [
        repr(error) + str(error) + "".join(traceback.format_exception(error)) for error in errors
    ]
    texts += [record.getMessage() for record in caplog.records]
    kinds = {type(one).__name__ for one in objects}
    assert kinds >= {
        "SecureClient", "PendingUpload", "Session", "Group", "Memory", "SecureSession",
        "KeyGroup", "MaskedSum", "Total", "KeyChain", "RoundSecrets", "Bundle", "UnmaskRequest",
    }  # fmt: skip
    assert shown(secrets, texts) == []
    # and the search does look for what is there
    store = repr(federation.hospitals["h00"].store.records)
    assert shown(secrets, [store]) == [store]


def test_what_a_hospital_sends_holds_none_of_its_secrets() -> None:
    federation = Federation(5)
    group = federation.ready(count=2)
    numbers = some_numbers(group.names)
    secrets = secrets_of(federation, group, 0)
    links = {federation.hospitals[name].group(group.id).link for name in group.names}
    wholes = set()
    for name in group.names:
        own = federation.hospitals[name].secrets(group.id, 0)
        wholes |= {own.round_key, own.self_mask}
    assert links <= secrets and wholes <= secrets
    masked, _ = federation.aggregate(group, numbers, absent=["h03"])
    sent = [data for _, _, data in federation.sent]
    shares = {
        share
        for kind, _, data in federation.sent
        if kind == "Shares"
        for share in wire.Shares.from_bytes(data).shares
    }
    for secret in secrets - shares:
        assert not any(secret in data for data in sent)
    assert not shares & wholes, "a share is not the secret"
    for name in ("h00", "h04"):
        (vector,) = federation.received("Vector", name)
        words = np.frombuffer(vector, np.uint32)
        plain = np.frombuffer(alone(masked, numbers[name]).data(), np.uint32)
        assert not (words == plain).any()  # chance: 49 x 2^-32


def test_the_keys_of_an_aggregation_are_gone_with_the_next_upload() -> None:
    federation = Federation(3)
    group = federation.ready(count=3)
    numbers = some_numbers(group.names)
    hospital = federation.hospitals["h00"]
    first = hospital.secrets(group.id, 0)
    link = hospital.group(group.id).link
    federation.aggregate(group, numbers)
    federation.aggregate(group, numbers)
    with pytest.raises(ProtocolRefused, match="aggregation 0 is over: its keys are gone"):
        hospital.secrets(group.id, 0)
    kept = repr(hospital.store.records)
    assert shown([link, first.round_key, first.self_mask], [kept]) == []
    assert shown([hospital.group(group.id).link], [kept]) == [kept]


def test_the_keys_of_an_aggregation_are_gone_once_its_shares_were_given() -> None:
    federation = Federation(3)
    group = federation.ready()
    federation.aggregate(group, some_numbers(group.names))
    with pytest.raises(ProtocolRefused, match="its keys are gone"):
        federation.hospitals["h00"].secrets(group.id, 0)


def test_a_failed_round_says_who_and_why_and_no_value() -> None:
    federation = Federation(5, Policy())
    group = federation.ready()
    numbers = some_numbers(group.names)
    secrets = secrets_of(federation, group, 0)
    with pytest.raises(RoundFailed) as caught:
        federation.aggregate(group, numbers, gone=["h00", "h01"])
    text = "".join(traceback.format_exception(caught.value))
    assert str(caught.value) == "3 of 4 shares came that open the masks of h00"
    assert shown(secrets, [text]) == []


def test_keys_show_their_public_half_at_most() -> None:
    chain = KeyChain(b"l" * 32, 0)
    own = chain.secrets()
    public = own.exchange_key().public.hex()[:16]
    assert repr(chain) == "KeyChain(index=0)"
    assert repr(own) == "RoundSecrets()"
    assert repr(own.exchange_key()) == f"ExchangeKey(public={public}...)"
