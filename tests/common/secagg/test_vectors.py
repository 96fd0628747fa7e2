"""Frozen vectors: today's bytes of every primitive and message, so that no change goes unseen.

They say what the protocol *is*, for other implementations too; that it is right is what the other
files here test. After a deliberate change of the protocol, write them again with

    python tests/common/secagg/test_vectors.py

In the file, bytes are {"hex": ...}, float64 numbers {"float64": 16 hex digits, big-endian}, and
messages {"message": class, "fields": ...}; arrays are their bytes, little-endian.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardround.common.flower.arrays import ArraySpec, Layout
from wardround.common.secagg import context, graph, keys, messages, ring, shamir
from wardround.common.secagg.encoding import Encoding, VectorLayout, encode_exact
from wardround.common.secagg.rounding import quantise
from wardround.common.trust import identity as parties

FILE = Path(__file__).parents[2] / "vectors" / "secagg.json"
Vector = dict[str, Any]


# --- JSON -----------------------------------------------------------------------------------------
def freeze(value: Any) -> Any:
    """A value as JSON."""
    match value:
        case bytes():
            return {"hex": value.hex()}
        case float():
            return {"float64": struct.pack(">d", value).hex()}
        case messages.Message():
            fields = {name: freeze(getattr(value, name)) for name in value._SPEC}
            return {"message": type(value).__name__, "fields": fields}
        case list() | tuple():
            return [freeze(item) for item in value]
        case dict():
            return {name: freeze(item) for name, item in value.items()}
    assert isinstance(value, str | int), value
    return value


def thaw(value: Any) -> Any:
    """The value that JSON stands for; every list as a tuple."""
    match value:
        case {"hex": digits}:
            return bytes.fromhex(digits)
        case {"float64": digits}:
            return struct.unpack(">d", bytes.fromhex(digits))[0]
        case {"message": kind, "fields": fields}:
            return getattr(messages, kind)(**{name: thaw(item) for name, item in fields.items()})
        case list():
            return tuple(thaw(item) for item in value)
        case dict():
            return {name: thaw(item) for name, item in value.items()}
    return value


# --- from inputs to outputs -----------------------------------------------------------------------
def identity(secret: bytes, message: bytes) -> Vector:
    one = parties.Identity.from_bytes(secret)
    return {"public": one.public, "signature": one.sign(message)}


def exchange(secret: bytes, other: bytes) -> Vector:
    one = keys.ExchangeKey(secret)
    return {"public": one.public, "shared": one.shared(other)}


def key_chain(link: bytes, first: int, index: int, threshold: int, points: tuple[int]) -> Vector:
    chain = keys.KeyChain(link, first)
    chain.advance(index)
    own = chain.secrets()
    return {
        "link": chain.link,
        "round key": own.round_key,
        "public key": own.exchange_key().public,
        "self mask": own.self_mask,
        "shares": own.shares(threshold, list(points)),
    }


def shamir_split(secret: bytes, coefficients: tuple[bytes], points: tuple[int]) -> list[bytes]:
    factors = [keys.to_number(factor) for factor in coefficients]
    shares = shamir.split(keys.to_number(secret), factors, points)
    assert shamir.combine(dict(zip(points, shares, strict=True))) == keys.to_number(secret)
    return [keys.to_bytes(share) for share in shares]


def key_stream(seed: bytes, count: int) -> bytes:
    return ring.key_stream(seed, count).tobytes()


def masked(bits: int, update: int, exact: int, masks: tuple[tuple[bytes, bytes, int]]) -> bytes:
    vector = ring.RingVector(bits, update, exact)
    vector.add_masks([(ring.MaskSeeds(one, two), sign) for one, two, sign in masks])
    return bytes(vector.data())


def quantised(encoding: tuple[Any], share: float, rounding_key: bytes, values: bytes) -> Vector:
    """``values``: float32."""
    how = Encoding(*encoding)
    numbers = np.frombuffer(values, "<f4")
    words = np.zeros(len(numbers), ring.word_type(how.bits))
    clipped = quantise(numbers, share, how, rounding_key, words)
    return {
        "levels": how.levels,
        "parameters": how.to_bytes(),
        "clipped": clipped,
        "words": words.tobytes(),
    }


def exact_limbs(values: tuple[float], clients: int) -> bytes:
    return encode_exact(np.array(values), clients).tobytes()


def vector_layout(update: tuple[Any], exact: tuple[Any], weighted: tuple[str]) -> VectorLayout:
    """From (name, shape, dtype)."""

    def section(arrays: tuple[Any]) -> Layout:
        return {name: ArraySpec(tuple(shape), dtype) for name, shape, dtype in arrays}

    return VectorLayout.of(section(update), section(exact), frozenset(weighted))


def layout_digest(layout: tuple[Any]) -> bytes:
    return vector_layout(*layout).digest()


def session_id(descriptor: bytes, roster: tuple[tuple[str, bytes]], nonce: bytes) -> bytes:
    return context.session_id(descriptor, dict(roster), nonce)


def aggregation_context(
    transcript: bytes, task: messages.TaskRequest, clients: int, layout: tuple[Any], content: bytes
) -> bytes:
    return context.aggregation_context(transcript, task, clients, vector_layout(*layout), content)


def seeds_of(make: Callable[[bytes, bytes], ring.MaskSeeds]) -> Callable[..., Vector]:
    def seeds(secret: bytes, bound: bytes) -> Vector:
        made = make(secret, bound)
        return {"update": made.update, "exact": made.exact}

    return seeds


def mask_graph(names: tuple[str], degree: int, seed: bytes) -> Vector:
    near = graph.neighbours(names, degree, seed)
    return {
        "order": graph.ring_order(names, seed),
        "neighbours": [near[i] for i in range(len(names))],
    }


def default_thresholds(clients: int) -> list[int]:
    found = graph.thresholds(clients)
    return [found.degree, found.threshold, found.survivors, found.window]


RECIPES: dict[str, Callable[..., Any]] = {
    "encode_parts": lambda parts: parties.encode_parts(*parts),
    "digest": lambda purpose, parts: parties.digest(purpose, *parts),
    "derive": lambda key, purpose, info, length: keys.derive(key, purpose, *info, length=length),
    "roster_digest": lambda roster: parties.roster_digest(dict(roster)),
    "identity": identity,
    "exchange": exchange,
    "seal": keys.seal,
    "key_chain": key_chain,
    "shamir_split": shamir_split,
    "commitment": keys.commitment,
    "key_stream": key_stream,
    "masked": masked,
    "quantised": quantised,
    "exact_limbs": exact_limbs,
    "layout_digest": layout_digest,
    "session_id": session_id,
    "group_id": context.group_id,
    "transcript_digest": context.transcript_digest,
    "aggregation_context": aggregation_context,
    "pair_seeds": seeds_of(context.pair_seeds),
    "self_seeds": seeds_of(context.self_seeds),
    "share_binding": context.share_binding,
    "mask_graph": mask_graph,
    "default_thresholds": default_thresholds,
    "message": lambda message: message.to_bytes(),
    "signed": lambda message: message.body(),
    "bundle_digest": lambda message: message.digest(),
    "hello_signed": messages.Hello.signed,
    "ciphertexts_digest": messages.Bundle.digest_of,
}


# --- the inputs, needed only to write the file again ----------------------------------------------
def some(label: str, size: int = 32) -> bytes:
    """Bytes that look random and never change."""
    return hashlib.shake_128(label.encode()).digest(size)


def inputs() -> dict[str, list[Vector]]:
    """For each recipe its calls."""
    return _key_inputs() | _ring_inputs() | _context_inputs() | _message_inputs()


def _key_inputs() -> dict[str, list[Vector]]:
    public = keys.ExchangeKey(some("exchange b")).public
    # Some number below the prime: its first byte is no 255.
    numbers = [b"\x7f" + some(f"number {i}", 31) for i in range(3)]
    return {
        "encode_parts": [{"parts": []}, {"parts": [b""]}, {"parts": [b"a", b"", b"bc"]}],
        "digest": [{"purpose": "", "parts": []}, {"purpose": "p", "parts": [b"a", b"bc"]}],
        "derive": [
            {"key": some("key"), "purpose": "p", "info": [], "length": 32},
            {"key": some("key"), "purpose": "p", "info": [b"a", b"bc"], "length": 80},
        ],
        "roster_digest": [{"roster": [["b", some("b")], ["Köln", some("k")], ["a", some("a")]]}],
        "identity": [{"secret": some("identity"), "message": b"a message"}],
        "exchange": [{"secret": some("exchange a"), "other": public}],
        "seal": [{"key": some("k"), "index": 7, "plaintext": some("p", 64), "bound": b"bound"}],
        "key_chain": [
            {"link": some("link"), "first": 3, "index": 3, "threshold": 1, "points": [1]},
            {"link": some("link"), "first": 3, "index": 5, "threshold": 3, "points": [1, 2, 4]},
            {"link": some("link"), "first": 0, "index": 1, "threshold": 120, "points": [9]},
        ],
        "shamir_split": [
            {"secret": numbers[0], "coefficients": numbers[1:], "points": [1, 2, 65_535]},
            {"secret": keys.to_bytes(shamir.PRIME - 1), "coefficients": [], "points": [5]},
        ],
        "commitment": [
            {"group": some("g"), "name": "Köln", "index": 9, "self_mask": some("self")},
        ],
    }


def _ring_inputs() -> dict[str, list[Vector]]:
    masks = [[some("u1"), some("e1"), 1], [some("u2"), some("e2"), -1]]
    values = np.float32([0, 0.5, -0.5, 1, -1, 3, -3, 1e-3, -1e-3, 0.123, -2.5, 2.4999]).tobytes()
    how = {"share": 1.0, "rounding_key": some("rounding", 16), "values": values}
    return {
        "key_stream": [
            {"seed": some("seed"), "count": 40},
            {"seed": some("seed", 16) + b"\xff" * 16, "count": 33},
        ],
        "masked": [
            {"bits": 16, "update": 5, "exact": 2, "masks": masks},
            {"bits": 32, "update": 5, "exact": 2, "masks": masks},
        ],
        "quantised": [
            {"encoding": [16, 2.5, 10, 100], **how},
            {"encoding": [32, 2.5, 10, 100], **how},
            {"encoding": [32, 2.5, 1000, 100], **how, "share": 0.37},
        ],
        "exact_limbs": [
            {"values": [0.0, 1.0, -1.0, 1 / 3, -1e20, 2.0**-96, -(2.0**-97), 1e-30], "clients": 9},
            {"values": [2.0**94, -(2.0**94)], "clients": 1},
        ],
    }


LAYOUT = [
    [["w", [3, 5], "float32"], ["b", [], "float64"]],
    [["loss", [2], "float64"]],
    ["w"],
]


def _context_inputs() -> dict[str, list[Vector]]:
    roster = [["b", some("b")], ["a", some("a")]]
    seven = [f"hospital {i}" for i in range(7)]
    task = messages.TaskRequest(some("g"), 8, "train 3", 16, 2.5, 1000, 0)
    return {
        "layout_digest": [{"layout": LAYOUT}, {"layout": [[], [], []]}],
        "session_id": [{"descriptor": some("d"), "roster": roster, "nonce": some("n")}],
        "group_id": [{"request": some("request", 50)}],
        "transcript_digest": [{"group": some("g"), "digests": [some("a"), some("b")]}],
        "aggregation_context": [
            {
                "transcript": some("t"),
                "task": task,
                "clients": 10,
                "layout": LAYOUT,
                "content": some("content"),
            }
        ],
        "pair_seeds": [{"secret": some("shared"), "bound": some("context")}],
        "self_seeds": [{"secret": some("self"), "bound": some("context")}],
        "share_binding": [{"group": some("g"), "sender": "Köln", "receiver": "b"}],
        "mask_graph": [
            {"names": seven, "degree": 6, "seed": some("group")},
            {"names": seven, "degree": 4, "seed": some("group")},
            {"names": seven, "degree": 2, "seed": some("other group")},
        ],
        "default_thresholds": [{"clients": n} for n in (2, 3, 10, 64, 65, 100, 1000)],
    }


def _message_inputs() -> dict[str, list[Vector]]:
    g, signature = some("g"), some("signature", 64)
    hello = messages.Hello(some("s"), "Köln", some("x"), signature)
    other = messages.Hello(some("s"), "b", some("y"), signature)
    blocks = some("public keys", 64), some("commitments", 64)
    bundle = messages.BundleKeys(g, "Köln", *blocks, some("c"), signature)
    ciphertexts = some("c1", 160), some("c2", 160)
    examples: list[messages.Message] = [
        messages.HelloRequest(some("n"), some("s")),
        hello,
        messages.GroupRequest(some("s"), 7, 2, 9, 6, 5, 3, (hello, other)),
        bundle,
        messages.Bundle(bundle, ciphertexts),
        messages.KeysRequest(g, (some("a"), some("b")), (bundle,)),
        messages.Accepted(g, "Köln", some("t")),
        messages.TaskRequest(g, 8, "train 3", 32, 8.0, 1000, 0),
        messages.Upload(g, 8, "Köln"),
        messages.UnmaskRequest(g, 8, (0, 2, 513), (some("u", 80), some("v", 80))),
        messages.Shares(g, 8, "Köln", (some("one"), b"", some("two"))),
        messages.SumsLayout(("loss", "Köln"), ((2, 3), ()), 0, ()),
        messages.DealRequest(some("s"), (hello, other)),
        messages.Deal(some("s"), (hello, other), some("t"), (some("k", 48),), signature),
        messages.Dealt(some("key"), "Köln", signature),
        messages.Blind(3, 2, some("key"), some("context"), 4, ("Köln", "b"), 1000, 1),
        messages.Held("Köln", 3, some("digest")),
    ]
    return {
        "message": [{"message": message} for message in examples],
        "signed": [{"message": bundle}],
        "bundle_digest": [{"message": bundle}],
        "hello_signed": [{"session": some("s"), "name": "Köln", "exchange": some("x")}],
        "ciphertexts_digest": [{"ciphertexts": ciphertexts}],
    }


def generated() -> dict[str, list[Vector]]:
    """What the file holds, made anew."""
    return {
        name: [
            {"in": freeze(call), "out": freeze(RECIPES[name](**thaw(freeze(call))))}
            for call in calls
        ]
        for name, calls in inputs().items()
    }


# --- tests ----------------------------------------------------------------------------------------
FROZEN: dict[str, list[Vector]] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}


@pytest.mark.parametrize("name", RECIPES)
def test_the_bytes_are_those_of_the_frozen_vectors(name) -> None:
    assert FROZEN[name]
    for vector in FROZEN[name]:
        assert freeze(RECIPES[name](**thaw(vector["in"]))) == vector["out"]


def test_the_file_holds_every_vector_and_no_other() -> None:
    """So that one can neither be lost nor left behind, and writing it again changes no input."""
    expected = {name: [freeze(call) for call in calls] for name, calls in inputs().items()}
    assert {name: [one["in"] for one in FROZEN[name]] for name in FROZEN} == expected
    assert set(FROZEN) == set(RECIPES)
    shown = {one["in"]["message"]["message"] for one in FROZEN["message"]}
    assert shown == {kind.__name__ for kind in messages.Message.__subclasses__()}


def test_every_frozen_message_is_read_as_what_it_was_written_from() -> None:
    for vector in FROZEN["message"]:
        message, data = thaw(vector["in"]["message"]), thaw(vector["out"])
        assert type(message).from_bytes(data) == message


def test_what_is_frozen_thaws_to_itself() -> None:
    for calls in inputs().values():
        for call in calls:
            assert freeze(thaw(freeze(call))) == freeze(call)


def as_text(vectors: dict[str, list[Vector]]) -> str:
    """JSON with one line for each vector, so that a difference shows which one changed."""
    parts = [
        f"{json.dumps(name)}: [\n"
        + ",\n".join(json.dumps(one, ensure_ascii=False) for one in calls)
        + "\n]"
        for name, calls in vectors.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(as_text(generated()), "utf-8")
    print(f"wrote {FILE}")
