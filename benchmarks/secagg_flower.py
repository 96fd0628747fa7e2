"""One round of Flower's SecAgg+, with Flower's own functions and without transport.

The client of node 0 goes through its four stages in full, and the server through its two in full,
in the order and with the calls of Flower's mod and workflow. What the other nodes would send is
stood in for by copies of node 0's vector and shares, which have the same sizes: to compute it for
real takes n times as long and changes no figure. ``check_flower`` runs a small round with every
node real, through the same functions, and compares its mean with the plain one.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from flwr.common import bytes_to_ndarray, ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import (
    pseudo_rand_gen,
    share_keys_plaintext_concat,
)
from flwr.supercore.primitives.asymmetric import bytes_to_private_key, bytes_to_public_key
from numpy.typing import NDArray

mod: Any = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

CLIP, LEVELS, RING = 8.0, 1 << 22, 1 << 32
"""Flower's defaults."""
WEIGHT, LARGEST_WEIGHT = 500, 1000.0

Meter = AbstractContextManager[object]
Floats = NDArray[np.floating[Any]]
PublicKeys = dict[int, tuple[bytes, bytes]]
Uploads = Mapping[int, list[bytes]]
Shares = Mapping[int, list[bytes]]
"""For each node the shares of its self mask's seed if it uploaded, otherwise of its key."""


def flower_round(
    update: Floats,
    nodes: int,
    threshold: int,
    dropped: int,
    client: Meter,
    server: Meter,
) -> int:
    """Measure one round with the meters; gives the bytes that one client sends."""
    others, active = range(1, nodes), list(range(nodes - dropped))
    states = _states(nodes)
    with client:
        _setup(states[0], nodes, threshold)
    for node in others:
        _setup(states[node], nodes, threshold)
    keys = {node: (state.pk1, state.pk2) for node, state in states.items()}
    with client:
        ciphertexts = _share_keys(states[0], keys)
    received = {node: _stand_in(states[node], states[0]) for node in others}
    with client:
        upload = _upload(states[0], received, update)
    with client:
        answer = _unmask(states[0], active, nodes)
    seeds = create_shares(states[0].rd_seed, threshold, nodes)[: len(active)]
    secrets = create_shares(states[0].sk1, threshold, nodes)[: len(active)]
    shares = {node: seeds if node in active else secrets for node in range(nodes)}
    _serve(dict.fromkeys(active, upload), shares, keys, server)
    sent = [*keys[0], *ciphertexts.values(), *upload, *answer.values()]
    return sum(len(part) for part in sent)


def check_flower(meter: Callable[[], Meter], nodes: int = 5, size: int = 1000) -> None:
    """Raise RuntimeError unless these functions give the right mean when every node is real."""
    threshold, active = 2 * nodes // 3 + 1, list(range(nodes - 1))
    updates = np.random.default_rng(1).standard_normal((nodes, size)).astype(np.float32)
    states = _states(nodes)
    for state in states.values():
        _setup(state, nodes, threshold)
    keys = {node: (state.pk1, state.pk2) for node, state in states.items()}
    sent = {node: _share_keys(state, keys) for node, state in states.items()}
    uploads = {}
    for node in active:
        received = {other: sent[other][node] for other in sent if other != node}
        uploads[node] = _upload(states[node], received, updates[node])
    answers = [_unmask(states[node], active, nodes) for node in active]
    shares = {node: [answer[node] for answer in answers] for node in states}
    mean = _serve(uploads, shares, keys, meter())
    error = np.abs(mean - updates[active].mean(axis=0)).max()
    if error > nodes * 2 * CLIP / LEVELS:
        raise RuntimeError(f"Flower's mean is off by {error}: its functions are driven wrongly")


# --- a client's stages ----------------------------------------------------------------------------
def _states(nodes: int) -> dict[int, Any]:
    logging.getLogger("flwr").setLevel(logging.ERROR)
    states = {node: mod.SecAggPlusState() for node in range(nodes)}
    for node, state in states.items():
        state.nid = node
    return states


def _setup(state: Any, nodes: int, threshold: int) -> None:
    settings = {
        Key.SAMPLE_NUMBER: nodes,
        Key.SHARE_NUMBER: nodes,
        Key.THRESHOLD: threshold,
        Key.CLIPPING_RANGE: CLIP,
        Key.TARGET_RANGE: LEVELS,
        Key.MOD_RANGE: RING,
        Key.MAX_WEIGHT: LARGEST_WEIGHT,
    }
    mod._setup(state, settings)


def _share_keys(state: Any, keys: PublicKeys) -> dict[int, bytes]:
    """Node to what this one encrypts for it."""
    reply = mod._share_keys(state, {str(node): pair for node, pair in keys.items()})
    return dict(zip(reply[Key.DESTINATION_LIST], reply[Key.CIPHERTEXT_LIST], strict=True))


def _upload(state: Any, received: Mapping[int, bytes], update: Floats) -> list[bytes]:
    settings = {Key.SOURCE_LIST: list(received), Key.CIPHERTEXT_LIST: list(received.values())}
    reply = mod._collect_masked_vectors(state, settings, WEIGHT, ndarrays_to_parameters([update]))
    vectors: list[bytes] = reply[Key.MASKED_PARAMETERS]
    return vectors


def _unmask(state: Any, active: list[int], nodes: int) -> dict[int, bytes]:
    """Node to this one's share of its seed or key."""
    dead = [node for node in range(nodes) if node not in active]
    reply = mod._unmask(state, {Key.ACTIVE_NODE_ID_LIST: active, Key.DEAD_NODE_ID_LIST: dead})
    return dict(zip(reply[Key.NODE_ID_LIST], reply[Key.SHARE_LIST], strict=True))


def _stand_in(sender: Any, receiver: Any) -> bytes:
    """What ``sender`` would encrypt, with the receiver's own shares in place of real ones."""
    key = generate_shared_key(bytes_to_private_key(sender.sk2), bytes_to_public_key(receiver.pk2))
    own = receiver.rd_seed_share_dict[receiver.nid], receiver.sk1_share_dict[receiver.nid]
    return encrypt(key, share_keys_plaintext_concat(sender.nid, receiver.nid, *own))


# --- the server -----------------------------------------------------------------------------------
def _serve(uploads: Uploads, shares: Shares, keys: PublicKeys, meter: Meter) -> Floats:
    """What Flower's workflow does with uploads and shares; gives the mean."""
    total: list[NDArray[Any]] | None = None
    with meter:
        for vectors in uploads.values():
            arrays = [bytes_to_ndarray(data) for data in vectors]
            total = arrays if total is None else parameters_addition(total, arrays)
        assert total is not None
        total = parameters_mod(total, RING)
        for node, parts in shares.items():
            total = _remove_masks(total, node, node in uploads, combine_shares(parts), keys)
        factor, words = factor_extract(parameters_mod(total, RING))
        (mean,) = dequantize(words, CLIP, LEVELS)
        mean += -(len(uploads) - 1) * CLIP
        mean *= LEVELS / factor
    return mean


def _remove_masks(
    total: list[NDArray[Any]], node: int, uploaded: bool, secret: bytes, keys: PublicKeys
) -> list[NDArray[Any]]:
    shapes = get_parameters_shape(total)
    if uploaded:
        return parameters_subtraction(total, pseudo_rand_gen(secret, RING, shapes))
    for other, (public, _) in keys.items():
        if other == node:
            continue
        shared = generate_shared_key(bytes_to_private_key(secret), bytes_to_public_key(public))
        mask = pseudo_rand_gen(shared, RING, shapes)
        combine = parameters_addition if node > other else parameters_subtraction
        total = combine(total, mask)
    return total
