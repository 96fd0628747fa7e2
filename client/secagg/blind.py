"""The models of a run whose coordinator is blind, at one hospital, and the keys they are read by.

A request brings the opened sum of the last round, which has the hospitals' mask on it, and says
which. The hospital takes the mask off, makes of it the mean, and takes the server's step itself
(``common/secagg/server_step.py``), from the model of the round before, which it has. All hospitals
come to the same bytes; one that didn't masks with another model's digest, and the next sum can't be
read by anybody.

    run-blind-7        model, optimiser's state and what they were made of, after round 7
    run-tried          the sum that is being read, or couldn't be
    run-key-<name>     a key of hospitals

Kept are the newest model, the one that it was made from, and the best one, as the server says: a
server that repeats a round finds what belongs to it. All is in ``ClientState``: durable before an
answer leaves.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.secagg.ckks import cipher_of
from wardround.client.secagg.masking import secure_client
from wardround.client.state import ClientState
from wardround.common.compression.writing import ring
from wardround.common.durable.versioned import Format
from wardround.common.errors import (
    ProtocolRefused,
    ReplyRefused,
    RequestRefused,
    TransportError,
)
from wardround.common.flower.arrays import (
    Arrays,
    Layout,
    check_finite,
    decode_arrays,
    encode_arrays,
)
from wardround.common.flower.conforming import conform
from wardround.common.flower.content import decode_content, encode_content
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import KeyReply, KeyRequest
from wardround.common.protocol.message import Content, as_request
from wardround.common.protocol.model import SentModel
from wardround.common.secagg.blind import (
    BlindMask,
    carried_layout,
    read_exact,
    read_sum,
)
from wardround.common.secagg.ckks import parameters
from wardround.common.secagg.content import CHECK, record_digest, training_layout
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.group_key import GroupKey
from wardround.common.secagg.means import Scale, means_of
from wardround.common.secagg.messages import FIRST, Blind, Held
from wardround.common.secagg.server_step import server_step
from wardround.common.trust.identity import KEY_BYTES

_VERSION, _KEY, _TRIED = "blind-", "key-", "tried"
_MODEL, _STEP, _SUM, _SEALED = "model/", "step/", "sum", "model"
_KEYS = 3
"""Keys that are kept: of the present session, of the sum that is still to be read, and one more."""
FORMAT = Format("key of hospitals", "begin another run: what is masked by it can't be read")


@dataclass(frozen=True)
class BlindModel:
    """A model that the server can't read.

    server_round : whose sum it was made of last; 0: the first model
    arrays : its shared entries
    digest : of these, 32 bytes
    """

    server_round: int
    arrays: Arrays
    digest: bytes


def deal_key(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """The answer to ``query.deal``: a key for the hospitals that the request names."""
    check_blind(hospital)
    holder = secure_client(hospital, state).holder()
    return KeyReply(holder.deal(KeyRequest.from_records(content).message)).to_records()


def take_key(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """The answer to ``query.dealt``: the key is kept."""
    check_blind(hospital)
    holder = secure_client(hospital, state).holder()
    key, answer = holder.take(KeyRequest.from_records(content).message)
    BlindModels(hospital, state).keep_key(key, holder.session)
    return KeyReply(answer).to_records()


def check_blind(hospital: Hospital) -> None:
    """Raise RequestRefused where this hospital's run isn't a blind one."""
    if not hospital.config.secure_aggregation.blind:
        raise RequestRefused(
            "this hospital's settings have secure_aggregation.blind off: hospitals share no key"
        )


class BlindModels:
    """What a hospital has of a blind run."""

    def __init__(self, hospital: Hospital, state: ClientState) -> None:
        self._hospital, self._config, self._state = hospital, hospital.config, state
        self._ckks = parameters(hospital.config.secure_aggregation)

    # --- keys ------------------------------------------------------------------------------------
    def keep_key(self, key: GroupKey, session: bytes) -> None:
        """Keep a key that was dealt in this session, the newest of all."""
        about = {"id": key.id.hex(), "members": list(key.members), "session": session.hex()}
        text = json.dumps(FORMAT.seal(about)).encode()
        arrays = {"secret": np.frombuffer(key.secret, np.uint8)}
        self._state.keep_of_run(
            _KEY + key.id.hex(), arrays | {"about": np.frombuffer(text, np.uint8)}
        )
        for name in self._state.names_of_run(_KEY)[:-_KEYS]:
            self._state.forget_of_run(name)

    def _key(self, name: bytes) -> tuple[GroupKey, bytes]:
        """A key and its session. Raises ProtocolRefused."""
        kept = self._state.of_run(_KEY + name.hex())
        if kept is None:
            raise ProtocolRefused(
                "this hospital doesn't have the key of hospitals that the request names"
            )
        about = FORMAT.read(json.loads(kept["about"].tobytes()), ProtocolRefused)
        key = GroupKey(name, tuple(about["members"]), kept["secret"].tobytes())
        return key, bytes.fromhex(about["session"])

    def mask(self, name: bytes, server_round: int, model: BlindModel) -> BlindMask:
        """What this hospital's mask of a round is made of. Raises ProtocolRefused unless the key is
        the last that it was dealt, in the present session."""
        return BlindMask(self._present(name), server_round, model.digest, self._ckks)

    def _present(self, name: bytes) -> GroupKey:
        key, session = self._key(name)
        newest = self._state.names_of_run(_KEY)[-1]
        present = secure_client(self._hospital, self._state).holder().session
        if newest != _KEY + name.hex() or session != present:
            raise ProtocolRefused(
                "the key of hospitals that the request names isn't the last one that this hospital "
                "was dealt"
            )
        return key

    def held(self, model: BlindModel) -> Held:
        """That this hospital has the model: the digest is of the newest key, too."""
        newest = self._state.names_of_run(_KEY)
        if not newest:
            raise ProtocolRefused("this hospital was dealt no key")
        key, _ = self._key(bytes.fromhex(newest[-1].removeprefix(_KEY)))
        digest = key.derive("model digest", model.digest)
        return Held(self._hospital.name, model.server_round, digest)

    def give(self, model: BlindModel, blind: Blind, key: bytes) -> bytes:
        """A model with all that goes on from it, sealed for hospitals that have this key."""
        kept = self._state.of_run(f"{_VERSION}{model.server_round}")
        assert kept is not None  # it has just arrived
        body = encode_content(Content({_SEALED: encode_arrays(kept)}))
        data = body.read(0, body.size_bytes)
        return self._present(key).seal("blind model", data, _about(blind))

    def take_over(self, sealed: bytes, blind: Blind, key: bytes) -> BlindModel:
        """Keep a model that another hospital has sealed: no earlier one than this hospital has, and
        not in place of its own. Raises ProtocolRefused."""
        rounds = [int(name.removeprefix(_VERSION)) for name in self._state.names_of_run(_VERSION)]
        if blind.round in rounds:
            known = self._state.of_run(f"{_VERSION}{blind.round}")
            assert known is not None
            return _model(blind.round, known)
        if max(rounds, default=-1) > blind.round:
            raise ProtocolRefused("this hospital has a later model")
        data = self._present(key).unseal("blind model", sealed, _about(blind))
        try:
            kept = decode_arrays(m.arrays_of(decode_content(io.BytesIO(data), len(data)), _SEALED))
            whole = len(kept[_SUM].tobytes()) == KEY_BYTES and _part(kept, _MODEL) != {}
        except (TransportError, ValueError, KeyError):
            whole = False
        if not whole:
            raise ProtocolRefused("what a hospital has sealed for this one is no model")
        self._put(blind, kept)
        return _model(blind.round, kept)

    # --- models ----------------------------------------------------------------------------------
    def arrived(self, sent: SentModel, layout: Layout, parameters: Collection[str]) -> BlindModel:
        """The model that a request stands for.

        layout : of the model's shared arrays
        parameters : those that optimisers move

        Raises RequestRefused or ProtocolRefused for a sum that can't be read here, another one than
        before, and where this hospital lacks the model before it.
        """
        blind, came = Blind.from_bytes(sent.blind), record_digest(sent.arrays)
        known = self._state.of_run(f"{_VERSION}{blind.round}")
        if known is not None:
            if known[_SUM].tobytes() != came:
                raise ProtocolRefused(
                    f"the sum of round {blind.round} is another one than this hospital was shown "
                    "before"
                )
            return _model(blind.round, known)
        if blind.round == 0:
            return self._first(sent, layout, came)
        base = self._state.of_run(f"{_VERSION}{blind.base}")
        if base is None or not blind.base < blind.round:
            raise RequestRefused(
                f"this hospital doesn't have the model of round {blind.base}, which round "
                f"{blind.round} went on from"
            )
        self._try(came)
        model, step = self._stepped(sent, blind, base, layout, parameters)
        self._keep(blind, came, model, step)
        self._state.forget_of_run(_TRIED)
        return BlindModel(blind.round, model, _digest(model))

    def _try(self, came: bytes) -> None:
        """Note, before it is read, which sum is tried: after one that can't be read no other is.

        Who may send ciphertexts until some can't be read learns a key of CKKS from which they are
        (as Chillotti, Gama and Goubin, 2016, of schemes like it): so he gets one such answer.
        """
        tried = self._state.of_run(_TRIED)
        if tried is not None and tried[_SUM].tobytes() != came:
            raise ProtocolRefused(
                "this hospital couldn't read the sum that it was shown before, and tries no other "
                "of this run: begin another one"
            )
        self._state.keep_of_run(_TRIED, {_SUM: np.frombuffer(came, np.uint8)})

    def _first(self, sent: SentModel, layout: Layout, came: bytes) -> BlindModel:
        """The first model, which everybody knows: only before any other."""
        if self._state.names_of_run(_VERSION):
            raise ProtocolRefused("the run's first model comes again, and this hospital has later")
        fixed = self._hospital.plan.first_model
        if fixed and fixed != came.hex():
            raise ProtocolRefused("the first model isn't the one that the plan has")
        arrays = sent.decoded(layout)
        self._keep(FIRST, came, arrays, {})
        return BlindModel(0, arrays, _digest(arrays))

    def _stepped(
        self,
        sent: SentModel,
        blind: Blind,
        base: Arrays,
        layout: Layout,
        parameters: Collection[str],
    ) -> tuple[Arrays, Arrays]:
        """The model after the sum, and the optimiser's state."""
        vector = training_layout(layout, parameters, {}, blind=True)
        bits, clip = ring(self._config)
        with as_request():
            arrays = decode_arrays(sent.arrays, carried_layout(vector, bits, self._ckks))
        before = _part(base, _MODEL)
        received = {name: before[name] for name in layout}
        largest = self._hospital.plan.largest_weight
        if largest not in (None, blind.largest) or not blind.survivors:
            raise ProtocolRefused("the sum was made on other terms than the plan's")
        key, _ = self._key(blind.key)
        names = blind.survivors
        if list(names) != sorted(set(names)) or not set(names) <= set(key.members):
            raise ProtocolRefused("the sum is said to be of hospitals that don't have its key")
        mask = BlindMask(key, blind.round, _digest(received), self._ckks)
        threads = self._config.secure_aggregation.threads
        words, limbs = read_sum(
            arrays,
            mask,
            blind.context,
            blind.clients,
            blind.survivors,
            threads,
            cipher_of(mask),
        )
        exact = read_exact(vector, limbs, len(blind.survivors))
        encoding = Encoding(bits, clip, blind.clients, blind.largest)
        scale = Scale(encoding.step, blind.largest, len(blind.survivors), float(exact[CHECK][1]))
        mean = means_of(vector, words, exact, scale, {m.ARRAYS: layout}, received)[m.ARRAYS]
        return self._step(blind.round, received, mean, _part(base, _STEP), parameters)

    def _step(
        self,
        server_round: int,
        before: Arrays,
        mean: Arrays,
        state: Arrays,
        parameters: Collection[str],
    ) -> tuple[Arrays, Arrays]:
        old, new = ({k: one[k] for k in parameters} for one in (before, mean))
        moved, state = server_step(self._config, server_round, old, new, state)
        found = mean | {k: conform(x, before[k].dtype.name) for k, x in moved.items()}
        try:
            for name, value in [*found.items(), *state.items()]:
                check_finite(name, value, trained=True)
        except ReplyRefused as error:
            raise RequestRefused(f"the model of round {server_round}: {error}") from None
        return {name: found[name] for name in before}, state

    # --- kept ------------------------------------------------------------------------------------
    def _keep(self, blind: Blind, came: bytes, model: Arrays, step: Arrays) -> None:
        kept = {_MODEL + name: value for name, value in model.items()}
        kept |= {_STEP + name: value for name, value in step.items()}
        kept[_SUM] = np.frombuffer(came, np.uint8)
        self._put(blind, kept)

    def _put(self, blind: Blind, kept: Arrays) -> None:
        self._state.keep_of_run(f"{_VERSION}{blind.round}", kept)
        wanted = {f"{_VERSION}{number}" for number in (blind.base, blind.round, blind.best)}
        for name in set(self._state.names_of_run(_VERSION)) - wanted:
            self._state.forget_of_run(name)


def blind_arrays(state: ClientState, server_round: int) -> Arrays | None:
    """The shared arrays of a model that a hospital keeps, by whose sum it was made of last."""
    known = state.of_run(f"{_VERSION}{server_round}")
    return None if known is None else _part(known, _MODEL)


def _model(server_round: int, known: Arrays) -> BlindModel:
    arrays = _part(known, _MODEL)
    return BlindModel(server_round, arrays, _digest(arrays))


def _part(kept: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): x for k, x in kept.items() if k.startswith(prefix)}


def _about(blind: Blind) -> bytes:
    """What names the model of a sum, whichever is the best so far."""
    return replace(blind, best=0).to_bytes()


def _digest(arrays: Arrays) -> bytes:
    return record_digest(encode_arrays(arrays))
