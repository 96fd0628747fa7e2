"""Encrypted updates over masks: the sum to the bit, what a coordinator with a hospital gets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.secagg.driver import (
    CONTENT,
    Federation,
    asked_for,
    finish,
    is_plain_sum,
    some_numbers,
    stripped,
    task_of,
)
from wardround.client.secagg.ckks import Cipher, cipher_of
from wardround.client.secagg.state import Policy
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import Arrays, ArraySpec, encode_arrays
from wardround.common.secagg.blind import (
    CIPHER,
    BlindMask,
    carried,
    carried_layout,
    read_exact,
    read_sum,
)
from wardround.common.secagg.ckks import FLARE, SMALL, Parameters
from wardround.common.secagg.content import CHECK, training_layout
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.group_key import GroupKey
from wardround.common.settings import SecureAggregationTable
from wardround.common.tasks.base import Examples
from wardround.server.secagg.journal import Entry, Journal, Traffic
from wardround.server.secagg.sum import MaskedSum, Total
from wardround.simulations import simulate

SHAPES = {"b": ArraySpec((4,), "float32"), "w": ArraySpec((1200, 2), "float32")}
BUFFERS = {"running": ArraySpec((3,), "float32")}
LAYOUT = training_layout(SHAPES | BUFFERS, SHAPES, {}, blind=True)
ABSENT = "h03"
ENCRYPTED = SecureAggregationTable(blind=True, scheme="ckks", degree=4096)


@dataclass
class Round:
    """Five hospitals, of whom one drops out, and whose updates the others have encrypted."""

    mask: BlindMask
    federation: Federation
    masked: MaskedSum
    vectors: dict[str, bytes]
    plain: MaskedSum
    """Of the same numbers in another federation, where nothing is on the sum but masks."""
    numbers: dict

    def opened(self) -> Total:
        self.federation.unmask(self.masked)
        return self.masked.open()


def a_round(parameters: Parameters) -> Round:
    federation = Federation(5, Policy(min_cohort=2))
    group = federation.ready(lambda n: Thresholds(n, n - 1, 3, 3))
    numbers = some_numbers(group.names, LAYOUT)
    for one in numbers.values():
        one.exact[CHECK][:] = 1.0, one.weight
    key = GroupKey(b"k" * 32, tuple(group.names), bytes(range(32)))
    mask = BlindMask(key, 1, b"m" * 32, parameters)
    task = task_of(group)
    masked = MaskedSum(group, task, LAYOUT, CONTENT, 1, key.id, parameters)
    vectors = {}
    for name in group.names:
        if name != ABSENT:
            data = task.to_bytes()
            pending = federation[name].begin(data, LAYOUT, asked_for(data), mask)
            header, vectors[name] = finish(pending, numbers[name])
            masked.add_upload(name, header, vectors[name])
    other = Federation(5, Policy(min_cohort=2))
    of_others = other.ready(lambda n: Thresholds(n, n - 1, 3, 3))
    plain, total = other.aggregate(of_others, numbers, LAYOUT, absent=[ABSENT])
    assert is_plain_sum(plain, total, numbers, total.survivors)
    return Round(mask, federation, masked, vectors, plain, numbers)


def read(done: Round, total: Total, mask: BlindMask | None = None):
    mask = mask or done.mask
    arrays: Arrays = carried(total.update, total.limbs, total.cipher)
    layout = carried_layout(LAYOUT, 32, mask.ckks)
    assert {k: (v.shape, v.dtype.name) for k, v in arrays.items()} == {
        k: (spec.shape, spec.dtype) for k, spec in layout.items()
    }
    return read_sum(arrays, mask, total.context, total.clients, total.survivors, 1, cipher_of(mask))


@pytest.mark.parametrize("parameters", [FLARE, SMALL], ids=["8192", "4096"])
def test_hospitals_read_the_sum_that_masks_alone_open_to_the_bit(parameters: Parameters) -> None:
    done = a_round(parameters)
    total = done.opened()
    words, limbs = read(done, total)
    assert np.array_equal(words, done.plain.vector.update)
    found = read_exact(LAYOUT, limbs, len(total.survivors))
    weight = sum(done.numbers[name].weight for name in total.survivors)
    assert found[CHECK].tolist() == [4.0, weight]
    running = sum(done.numbers[name].exact["arrays/running"] for name in total.survivors)
    assert np.allclose(found["arrays/running"], running, rtol=1e-12, atol=1e-28)


def test_the_server_alone_has_masks_and_a_ciphertext_that_no_other_key_reads() -> None:
    done = a_round(SMALL)
    total = done.opened()
    assert total.cipher is not None
    wrong = BlindMask(GroupKey(b"k" * 32, ("h00",), bytes(32)), 1, b"m" * 32, SMALL)
    with pytest.raises(ProtocolRefused, match="isn't one under this hospital's key"):
        read(done, total, wrong)
    # what it has in plain is minus the masks that are left, whatever the numbers are
    summed = Cipher(done.mask.key.derive("ckks"), SMALL).decrypt(
        total.cipher, LAYOUT.update_size, 32
    )
    assert np.array_equal(total.update, done.plain.vector.update - summed)
    assert np.count_nonzero(total.update == done.plain.vector.update) < 3


def test_a_coordinator_with_one_hospitals_key_gets_masked_vectors_and_no_update() -> None:
    """What is under the ciphertext are the protocol's masks: both of a hospital's secrets, of which
    a server ever gets one, take them off."""
    done = a_round(SMALL)
    cipher = cipher_of(done.mask)
    assert cipher is not None
    size, name = SMALL.size_bytes(LAYOUT.update_size), "h01"
    words = cipher.decrypt(done.vectors[name][:size], LAYOUT.update_size, 32)
    vector = words.tobytes() + done.vectors[name][size:]
    held = done.federation.hospitals[name].secrets(done.masked.group.id, done.masked.task.index)
    position = done.masked.group.names.index(name)

    def without(**secrets: bytes) -> np.ndarray:
        return stripped(done.masked, position, vector, **secrets).update

    update = without(self_mask=held.self_mask, round_key=held.round_key)
    assert np.abs(update.view(np.int32)).max() <= done.masked.encoding.levels
    for seen in (words, without(self_mask=held.self_mask), without(round_key=held.round_key)):
        # of uniform words one in 500 is as small as all of an update are
        share = np.mean(np.abs(seen.view(np.int32).astype(np.int64)) <= done.masked.encoding.levels)
        expected = 2 * done.masked.encoding.levels / 2**32
        assert abs(share - expected) < 5 * np.sqrt(expected / len(seen))


def test_a_server_that_died_opens_the_encrypted_sum_from_its_journal(tmp_path: Path) -> None:
    done = a_round(SMALL)
    group, requests = done.masked.group, done.masked.unmask_requests()
    entry = Entry(
        purpose="train 1",
        attempt=1,
        cohort=list(group.names),
        nonce=done.federation.session.nonce,
        roster=done.federation.roster,
        group=group.request,
        keys=[group.bundles[name].keys.to_bytes() for name in group.names],
        task=done.masked.task.to_bytes(),
        layout=LAYOUT.digest(),
        sums=b"",
        content=CONTENT,
        requests=requests,
        claims={},
        spent=[],
        traffic=Traffic(),
        blind_key=done.mask.key.id,
    )
    journal = Journal(tmp_path / "journal", ENCRYPTED)
    journal.write(entry, done.masked.vector)
    again = journal.restore(entry, LAYOUT, CONTENT, 1)
    for name, request in requests.items():
        again.add_shares(name, done.federation[name].unmask(request))
    words, _ = read(done, again.open())
    assert np.array_equal(words, done.plain.vector.update)


def test_an_encrypted_vector_of_another_length_or_ring_is_refused_and_nothing_added() -> None:
    done = a_round(SMALL)
    before = bytes(done.masked.vector.data())
    vector = done.vectors["h00"]
    size = SMALL.size_bytes(LAYOUT.update_size)
    other = Cipher(done.mask.key.derive("ckks"), FLARE).encrypt(np.zeros(10, np.uint32))
    high = b"\xff" * 7 + vector[7:]
    for bad in (b"", vector[:-1], vector + b"\0", vector[size:], bytes(other), high):
        with pytest.raises(ProtocolRefused, match="the encrypted vector has|isn't below its prime"):
            done.masked.vector.add_bytes(bad)
    assert bytes(done.masked.vector.data()) == before


def test_more_hospitals_than_a_sum_of_ciphertexts_holds_are_refused_before_the_upload(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wardround.client.secagg.party.MOST_VECTORS", 4)
    with pytest.raises(ProtocolRefused, match="5 hospitals are to encrypt one sum, at most 4 can"):
        a_round(SMALL)


def test_a_run_with_encrypted_updates_gives_the_model_of_masks_to_the_byte(tmp_path: Path) -> None:
    """With the server's optimiser, whose step hospitals take, and one that drops out."""
    found = []
    encrypted = ("secure_aggregation.scheme='ckks'", "secure_aggregation.degree=4096")
    for number, scheme in enumerate(((), encrypted)):
        result = simulate(
            overrides=[
                f"federation.runs='{tmp_path / str(number)}'",
                "federation.rounds=2",
                "strategy.name='fedadam'",
                "simulation.baselines=false",
                "simulation.dropout=0.2",
                "secure_aggregation.blind=true",
                *scheme,
            ]
        )
        found.append((result.run_directory / "model" / "model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_who_could_not_read_a_sum_tries_no_other_of_the_run(federate, settings) -> None:
    """Else whether altered ciphertexts can be read would tell a server of the key, try by try."""
    config = settings(
        "[federation]\nrounds = 2\nmin_clients = 3\nround_attempts = 1\n[evaluation]\nevery = 2\n"
        "[training]\nlr = 0.05\n[data]\ntest_fraction = 0.25\n[secure_aggregation]\n"
        'enabled = true\nthreshold = 0.5\nblind = true\nscheme = "ckks"\ndegree = 4096\n'
    )
    x = torch.linspace(0.5, 1.5, 8).view(-1, 1)
    shards = {name: Examples(x, x[:, 0] * slope) for slope, name in enumerate("abcde")}
    refused: list[str] = []

    def lying(app: Any) -> Any:
        def answer(message: Any, context: Any) -> Any:
            content = message.content
            asked = message.metadata.message_type == "train"
            if asked and context.node_config["hospital"] == "a" and CIPHER in content["arrays"]:
                honest = {k: v.numpy().copy() for k, v in content["arrays"].items()}
                for change in (1, 2, 0):
                    arrays = {k: v.copy() for k, v in honest.items()}
                    arrays[CIPHER][:64] ^= change
                    content["arrays"] = encode_arrays(arrays)
                    reply = app(message, context)
                    refused.append(reply.error.reason)
                return reply
            return app(message, context)

        return answer

    run = federate(config, shards, wrap=lying)
    assert [len(row["accepted"]) for row in run.directory.rounds()] == [5, 4]
    assert "isn't one under this hospital's key" in refused[0]
    assert all("tries no other of this run" in why for why in refused[1:])
    assert len(refused) == 3
