"""What both sides work out or sign, and messages made by hand: their bytes, from fixed contents.

Each entry is a few lines of text; keys are made of fixed secrets, vectors have no masks on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict

from tests.protocol.capture import Capture
from tests.secagg.driver import asked_for
from tests.stage_two import stage_two
from wardround.client.requests.compressed import in_words, with_ratios
from wardround.client.secagg.masking import finish_private, finish_training, sums_shapes
from wardround.client.secagg.party import SecureClient
from wardround.client.secagg.upload import PendingUpload
from wardround.common.compression.scales import record_layout
from wardround.common.compression.writing import Writing
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.flower.arrays import Arrays, ArraySpec, encode_arrays
from wardround.common.flower.content import encode_content
from wardround.common.flower.hosting import become_server
from wardround.common.manifest.leaves import preparation_leaves, training_leaves
from wardround.common.manifest.manifest import Manifest, Versions
from wardround.common.privacy.claims import Claim
from wardround.common.protocol.leaf import Leaf
from wardround.common.protocol.model import SentModel
from wardround.common.protocol.results import StudyEnded, StudyFile, StudyReply
from wardround.common.protocol.statistics import StatisticsRequest
from wardround.common.protocol.totals import Totals
from wardround.common.protocol.train import PrivacyTerms, TrainReply, TrainRequest
from wardround.common.results.package import Listed, Package
from wardround.common.secagg.content import descriptor, training_layout
from wardround.common.secagg.encoding import Encoding
from wardround.common.secagg.graph import complete_graph
from wardround.common.secagg.messages import TaskRequest
from wardround.common.transport.frames import (
    Bye,
    Chunk,
    Done,
    Drop,
    Failed,
    Frame,
    Got,
    Have,
    Heads,
    Hello,
    Ping,
    Refused,
    Start,
    Welcome,
)
from wardround.common.trust.description import Description, shared_toml
from wardround.common.trust.identity import Identity
from wardround.server.gathering.requests import as_layout_queries, complete, queries
from wardround.server.members.member import Member
from wardround.server.reception.manifest import preparation_manifest

KEY = Identity.from_bytes(bytes(range(32)))
LAYOUT = {
    "0.weight": ArraySpec((4, 3), "float32"),
    "0.mean": ArraySpec((3,), "float32"),
    "0.count": ArraySpec((), "int64"),
}
PARAMETERS = ["0.weight"]
CONTROL = {"control": {"0.weight": LAYOUT["0.weight"]}}
_PRIVATE = "[privacy]\nunit = '{unit}'\nnoise = '{noise}'\nepsilon = 3.0\n"
_PLAIN = "[secure_aggregation]\nenabled = false\n"
_STEP = "[training]\nlocal_steps = 1\n"
_SMALL = "[compression]\nbits = 8\n"
_ADAPTIVE = "clipping = 'adaptive'\n"
CONFIGS = {
    "masked": "",
    "masked, 16 bits": "[secure_aggregation]\nbits = 16\nthreads = 2\nmin_cohort = 4\n",
    "masked scaffold": "[strategy]\nname = 'scaffold'\n",
    "plain": _PLAIN,
    "plain scaffold, drawn": (
        f"{_PLAIN}[strategy]\nname = 'scaffold'\n[federation]\nrounds = 7\nclients_per_round = 2\n"
    ),
    "plain, own limit": (
        _PLAIN + _PRIVATE.format(unit="hospital", noise="local") + "epsilon_limit = 8.0\n"
    ),
    "masked, small": _SMALL,
    "plain, small": _PLAIN + _SMALL,
    "masked, a text task": "[task]\nname = 'text'\nkind = 'entities'\n",
} | {
    f"{place}, {unit}, {noise}{', adaptive' if adaptive else ''}": text
    + _PRIVATE.format(unit=unit, noise=noise)
    + adaptive
    + (_STEP if unit != "hospital" and noise != "local" else "")
    for place, text in (("plain", _PLAIN), ("masked", ""))
    for unit in ("example", "patient", "hospital")
    for noise in ("local", "distributed", "central")
    for adaptive in ("", _ADAPTIVE)
    if (place, noise) != ("plain", "distributed")
}


def made() -> dict[str, list[str]]:
    """Lines of text by name."""
    become_server(1)
    return {**_leaves(), **_manifests(), **_frames(), **_signed(), **_requests(), **_replies()}


# --- what both sides work out ---------------------------------------------------------------------
def _leaves() -> dict[str, list[str]]:
    found = {}
    for name, text in CONFIGS.items():
        config = parse_config(text)
        secure, privacy = config.secure_aggregation, config.privacy
        bits = config.compression.bits
        records = CONTROL if "scaffold" in name else record_layout(1) if bits else {}
        first = preparation_leaves(secure, privacy, list(records), "text" not in name)
        second = training_leaves(secure, privacy, LAYOUT, PARAMETERS, records, bits)
        found[f"leaves of preparation: {name}"] = _leaf_lines(first)
        found[f"leaves of training: {name}"] = _leaf_lines(second)
    return found


def _leaf_lines(leaves: Iterable[Leaf]) -> list[str]:
    return [
        f"{x.message_type} {x.record}/{x.name} {x.shape} {x.dtype} {x.protection}" for x in leaves
    ]


def _description(config: Config) -> Description:
    keys = {f"h{number}": Identity.from_bytes(bytes([number] * 32)).public for number in range(3)}
    now, place = "2026-01-01T00:00:00+00:00", "localhost:8443"
    toml = shared_toml(config)
    until, name = "2026-01-31T00:00:00+00:00", config.federation.name
    return Description(name, 7, place, toml, KEY.public, keys, (5, 300), now, until)


def _manifests() -> dict[str, list[str]]:
    found = {}
    versions = Versions(wardround="0.1.0", flwr="1.41.0", torch="2.9.0")
    for name, text in CONFIGS.items():
        config = parse_config(text)
        found[f"descriptor: {name}"] = [descriptor(config).hex()]
        if "text" in name:
            continue
        described = _description(config)
        found[f"description: {name}"] = [described.digest().hex()]
        task, bits = make_task(config), config.compression.bits
        records = CONTROL if "scaffold" in name else record_layout(1) if bits else {}
        first = preparation_manifest(config, task, described, "golden-20260101-000000")
        first = first.model_copy(update={"versions": versions})
        second = stage_two(first, LAYOUT, PARAMETERS, records)
        found[f"manifest of preparation: {name}"] = _manifest_lines(first)
        found[f"manifest of training: {name}"] = _manifest_lines(second)
    return found


def _manifest_lines(manifest: Manifest) -> list[str]:
    head, _, _ = manifest.body().decode().partition('"leaves":')
    _, _, tail = manifest.body().decode().partition('],"model_family"')
    signed = _short(manifest.signed(KEY))
    return [f"{head}... {tail}", f"digest {manifest.digest().hex()}", f"signed {signed}"]


def _frames() -> dict[str, list[str]]:
    one, two = "1" * 32, "ab" * 32
    frames: Sequence[Frame | Chunk] = [
        Hello(
            wire=1,
            version="0.1.0",
            instance=one,
            description=3,
            issued="2026-01-01T00:00:00+00:00",
        ),
        Welcome(instance=one, heartbeat_s=15.0, lease_s=60.5, most_bytes=2**40),
        Welcome(instance=one, heartbeat_s=1.0, lease_s=2.0, most_bytes=5, description='{"ü": 1}'),
        Refused(code="twin", reason="two of it"),
        Start(number=1, id=two, kind="request", type="train", size_bytes=9, digest="cd" * 32),
        Start(number=2, id=two, kind="reply", type="train", reply_to="ef" * 32, size_bytes=2**62),
        Start(
            number=3, id=two, kind="error", type="evaluate", reply_to="ef" * 32, reason="no \u2013"
        ),
        Have(number=1, offset=1 << 20),
        Got(number=1, offset=3),
        Done(id=two),
        Failed(id=two, reason="damaged", again=True),
        Drop(id=two),
        Ping(),
        Heads(head="a line", countersigned="another", signature="0f" * 64),
        Heads(head="a line"),
        Bye(reason="done"),
        Chunk(7, 1 << 33, bytes(range(200, 220))),
    ]
    lines = [f"{type(frame).__name__} {frame.to_bytes()!r}" for frame in frames]
    return {"frames": lines}


def _signed() -> dict[str, list[str]]:
    files = (Listed(name="a", sha256="0f" * 32, size=3),)
    package = Package(network="f", study="", run="run-1", round=3, files=files)
    claim = Claim("f", "run-1", 3, "north", "hospital", "local", 0.5, 1e-5, 2.0, True, False)
    endless = Claim(
        "f", "run-1", 1, "n\u00f6", "patient", "central", 1.0, 0.125, float("inf"), False, True
    )
    return {
        "claims": [repr(one.signed(KEY)) for one in (claim, endless)],
        "files of results": [repr(package.signed(KEY))],
    }


# --- messages -------------------------------------------------------------------------------------
_TOTALS = {"sum of x": np.array([1.5, -2.0]), "rows": np.array([7.0]), "none": np.zeros((0, 2))}
_MODEL: Arrays = {
    "0.weight": np.arange(12, dtype=np.float32).reshape(4, 3) / 4,
    "0.mean": np.array([0.5, 0.25, -8.0], np.float32),
    "0.count": np.array(3),
}
_MEMBERS = [
    Member("north", 1, {"train": 3, "validation": 0, "test": 1}),
    Member("south", 2, {"train": 1, "validation": 1, "test": 0}),
]


def _requests() -> dict[str, list[str]]:
    totals = Totals.of(_TOTALS)
    phase = queries(StatisticsRequest(1, totals), _MEMBERS)
    model = SentModel(ArrayRecord(), 4, 0, ("1.weight", "1.bias"), "ab" * 32)
    terms = PrivacyTerms("golden-1", 9, 2, 0.125, 2.5, 0.75)
    request = TrainRequest(model, "scaffold", totals, terms)
    small = {"scales": encode_arrays({"scales": np.array([0.25])})}
    extra = {"control": encode_arrays({"0.weight": _MODEL["0.weight"]})}

    def strategys(*nodes: int) -> list[Message]:
        shared = ConfigRecord({"server-round": 4, "proximal-mu": 0.5})
        records: dict[str, Any] = {"arrays": encode_arrays(_MODEL), "config": shared}
        return [Message(RecordDict(dict(records)), node, "train") for node in nodes]

    with_control = replace(request, records=extra)
    each = complete(strategys(2, 1), [[one] for one in _MEMBERS], with_control, {"south": 3})
    group = complete(strategys(1), [_MEMBERS], request, {"north": 2})
    plain = replace(request, algorithm="plain", records=small)
    written = complete(strategys(2, 1), [[one] for one in _MEMBERS], plain, {"south": 3})
    piece, study = StudyFile("ab" * 32, "model/m", 3, b"abc"), "cd" * 32
    ends = StudyEnded(study, "aborted", "why"), StudyEnded(study, "complete", "", b"{}")
    return {
        "request: query.statistics": _messages(phase),
        "request: train": _messages(each),
        "request: train, small": _messages(written),
        "request: train, of a group": _messages(group),
        "request: query.layout": _messages(as_layout_queries(each)),
        "request: query.study_file": _lines(piece.to_records()),
        "request: query.study_ended": [x for one in ends for x in _lines(one.to_records())],
    }


def _replies() -> dict[str, list[str]]:
    control = {"control": {"0.weight": -_MODEL["0.weight"]}}
    quantile = {"quantile": {"quantile": np.array([0.5], np.float32)}}
    plain = TrainReply(_MODEL, 7, 12, 0.375, control).to_records()
    private = TrainReply(_MODEL, 1, 1, None, quantile, b"a claim").to_records()
    shapes = sums_shapes({"test/ä": (2, 3), "test/a": (1,), "x": ()})
    trained = {name: value + value.dtype.type(1) for name, value in _MODEL.items()}
    masked = finish_training(
        _pending(32, False, CONTROL),
        _hospital(),
        _MODEL,
        TrainReply(trained, 7, 12, 0.5, control),
    )
    whole = {
        "arrays/0.weight": np.arange(-6, 6).reshape(4, 3),
        "quantile/quantile": np.array([1 << 20]),
    }
    records = {"quantile": {"quantile": ArraySpec((1,), "float32")}}
    fine = finish_private(_pending(32, True, records), _hospital(), _MODEL, whole, b"a claim")
    short = finish_training(
        _pending(16, False, {}),
        _hospital(),
        _MODEL,
        TrainReply(trained, 2, 3, None, claim=b"a claim"),
    )
    config = parse_config(_SMALL)
    writing = Writing.of(config, 4, ["0.weight"], np.array([0.5]))
    one = with_ratios(TrainReply(trained, 2, 3, 0.5), _MODEL, writing)
    small = finish_training(_pending(8, False, record_layout(1)), _hospital(), _MODEL, one, writing)
    words = in_words(one, _MODEL, writing, _hospital())
    return {
        "reply: train, masked, 8 bits": _lines(small),
        "reply: train, in words": _lines(words.to_records()),
        "reply: query.study_file": _lines(StudyReply().to_records()),
        "reply: train": _lines(plain),
        "reply: train, private": _lines(private),
        "reply: query.layout": _lines(shapes),
        "reply: train, masked, without its masks": _lines(masked),
        "reply: train, masked, whole numbers": _lines(fine),
        "reply: train, masked, 16 bits": _lines(short),
    }


def _hospital() -> Any:
    return SimpleNamespace(name="north", simulated=True, config=parse_config(""))


def _pending(bits: int, fine: bool, records: dict[str, Any]) -> PendingUpload:
    """An upload of three hospitals, whose masks are zeros."""
    layout = training_layout(LAYOUT, PARAMETERS, records)
    task = TaskRequest(b"g" * 32, 5, "train 4", bits, 8.0, 4 if not fine else 1, int(fine))
    nobody = SimpleNamespace(name="north", mark_uploaded=lambda task, asked: None)

    encoding: Encoding = task.encoding(3)
    return PendingUpload(
        cast(SecureClient, nobody),
        task,
        layout,
        encoding,
        complete_graph(3, 0.667),
        asked_for(task.to_bytes()),
        tuple,
    )


def _messages(messages: Sequence[Message]) -> list[str]:
    return [
        line
        for message in messages
        for line in (
            f"{message.metadata.message_type} to {message.metadata.dst_node_id}",
            *_lines(message.content),
        )
    ]


def _lines(content: RecordDict) -> list[str]:
    """The content's lines, with every byte: nothing here varies."""
    body = encode_content(content)
    data = body.read(0, body.size_bytes)
    size = int.from_bytes(data[:4])
    capture = Capture(exact=True)
    blobs = data[4 + size :]
    return [*capture.lines("", content), data[4 : 4 + size].decode(), blobs.hex()]


def _short(data: bytes) -> str:
    return f"{len(data)} bytes sha256 {sha256(data).hexdigest()}"
