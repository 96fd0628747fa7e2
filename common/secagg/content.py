"""What is agreed between hosts of secure aggregation: settings, content, layouts of vectors."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from wardround.common.bfloat16 import is_float
from wardround.common.config.covers import covered
from wardround.common.config.load import Config
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import ArraySpec, Layout
from wardround.common.flower.stored import array_bytes, data_pieces
from wardround.common.procedures.words import Words
from wardround.common.protocol import names as m
from wardround.common.protocol.model import STATE_ROUND
from wardround.common.secagg.encoding import OWN_NAMES, VectorLayout
from wardround.common.secagg.messages import SumsLayout
from wardround.common.secagg.ring import RINGS
from wardround.common.settings import BUFFERED, OWN_PRIVACY, OWN_TRAINING, without_folders
from wardround.common.trust.identity import digest, encode_parts

LOSS, STEPS = "loss", "steps"
CHECK = "check"
"""With ``secure_aggregation.blind``, under the mask that only hospitals take off: 1 and the
hospital's weight. In a sum that they read with the right key, of the same model, the first is how
many they are."""
OPEN = len(OWN_NAMES) + 2
"""Exact coordinates of such a vector that the server reads: ``OWN_NAMES``, loss and steps."""
MOST_ELEMENTS = 10_000_000
_LOCAL_CONFIG = {STATE_ROUND.key}
"""Keys of a request that differ between clients, by design."""
_OTHERS = ("simulation", "evaluation", "server", "network", "study", "needs", "card", "tracking")
_EXACT = ArraySpec((1,), "float64")


def descriptor(config: Config) -> bytes:
    """Digest of the settings that all parties must share."""
    values = json.dumps(shared_settings(config), sort_keys=True, allow_nan=False)
    return digest("descriptor", values.encode())


def shared_settings(config: Config) -> dict[str, Any]:
    """The settings that all parties must share, by table.

    Left out is what a hospital decides for itself: paths, how its machine computes, its policy.
    """
    tables: dict[str, Any] = config.model_dump(mode="json")
    for table in _OTHERS:
        del tables[table]
    if config.cohort is None:  # as it was before there were cohorts
        del tables["cohort"]
    if config.judgement is None:  # likewise
        del tables["judgement"]
    if not config.compression.enabled:  # likewise
        del tables["compression"]
    del tables["teacher"]
    if config.teacher is not None:
        tables["teacher"] = config.teacher.shared()
    if config.procedure.trains:  # what most do, as it was before there was anything else
        del tables["procedure"]
    else:
        tables["procedure"] = config.procedure.shared()
    shared = ["name", "seed"]
    if config.training.has_horizon:  # else a run may have other rounds than were provisioned
        shared.append("rounds")
    if config.federation.buffered:
        shared += BUFFERED
    initial = tables["federation"]["initial"]
    tables["federation"] = {key: tables["federation"][key] for key in shared}
    if initial:  # else every hospital makes the first model itself
        tables["federation"]["initial"] = re.split(r"[/\\]", initial)[-1]
    del tables["data"]["path"]
    for key in OWN_TRAINING:
        del tables["training"][key]
    own = ["min_cohort", "threads"]
    if config.privacy.noise != "distributed":  # else it decides how much noise each one adds
        own.append("colluding")
    if not config.secure_aggregation.blind:  # as it was before it could be
        own.append("blind")
    if config.secure_aggregation.scheme == "masks":  # likewise
        own += ["scheme", "degree"]
    for key in own:
        del tables["secure_aggregation"][key]
    for key in OWN_PRIVACY:
        del tables["privacy"][key]
    if config.privacy.enabled:  # what is noised, in full: what follows from the other settings too
        tables["privacy"]["covers"] = list(covered(config))
    else:  # as it was before there was anything to cover
        del tables["privacy"]["covers"], tables["privacy"]["shares"]
    name = PurePath(config.task.name).name  # the folder differs, the file not
    tables["task"] = without_folders(config.task.name, tables["task"]) | {"name": name}
    return tables


@dataclass(frozen=True)
class Digests:
    """What a request brings, by digests of 32 bytes.

    records : of each record of arrays by its name: names, types, shapes and bytes of its arrays
    content : of all of it and of the settings, but for ``state-round``, which is each client's own:
        what every client of an aggregation must have received
    settings : of these settings alone
    """

    records: Mapping[str, bytes]
    content: bytes
    settings: bytes = b""

    @property
    def data(self) -> bytes:
        """Of all arrays together: model, totals, the strategy's records."""
        return _of_records(self.records)

    @property
    def model(self) -> bytes:
        """Of the model's arrays; empty where the request brings none."""
        return self.records.get(m.ARRAYS, b"")

    @property
    def totals(self) -> bytes:
        """Of the summed preparation; empty where the request brings none."""
        return self.records.get(m.TOTALS, b"")


def digests_of(content: RecordDict) -> Digests:
    """The digests of a request as it came: raw, not as decoded."""
    before = _kept
    if before is not None and before[0]() is content:
        return before[1]
    arrays = m.records_of(content, ArrayRecord)
    records = {name: record_digest(one) for name, one in sorted(arrays.items())}
    config, shared = content.get(m.CONFIG), ""
    if isinstance(config, ConfigRecord):
        kept = {key: value for key, value in config.items() if key not in _LOCAL_CONFIG}
        shared = repr(sorted(kept.items()))
    whole = digest("content", _of_records(records), shared.encode())
    return Digests(records, whole, digest("settings", shared.encode()))


def keep_digests(content: RecordDict) -> Digests:
    """``digests_of``, kept for who asks for those of this very request next: a hospital hashes a
    model once, for its audit log and for its masks. The request must not change any more."""
    global _kept
    found = digests_of(content)
    _kept = (weakref.ref(content), found)
    return found


_kept: tuple[weakref.ref[RecordDict], Digests] | None = None


def content_digest(content: RecordDict) -> bytes:
    """``digests_of(content).content``."""
    return digests_of(content).content


def record_digest(record: ArrayRecord) -> bytes:
    """Of a record's arrays, whatever their order: names, types, shapes and bytes; 32 bytes."""
    state = hashlib.sha256()
    for key, array in sorted(record.items()):
        shape = struct.pack(f">{len(array.shape)}Q", *array.shape)
        state.update(encode_parts(key.encode(), array.dtype.encode(), shape))
        state.update(struct.pack(">Q", array_bytes(array)))
        for piece in data_pieces(array):
            state.update(piece)
    return state.digest()


def sums_digest(totals: bytes) -> bytes:
    """``Digests.data`` of a request that brings nothing but these totals (their digest)."""
    return _of_records({m.TOTALS: totals})


def _of_records(records: Mapping[str, bytes]) -> bytes:
    parts = [part for name, one in sorted(records.items()) for part in (name.encode(), one)]
    return digest("records", *parts)


def training_layout(
    shared: Layout,
    parameters: Iterable[str],
    records: Mapping[str, Layout],
    blind: bool = False,
) -> VectorLayout:
    """Of a training reply: what optimisers move is quantised, all else (buffers) is exact.

    Parameters
    ----------
    shared : the model's shared arrays
    parameters : names of trainable parameters
    records : the strategy's further records; each client's counts the same
    blind : whether a mask of the hospitals' lies on all but the first ``OPEN`` exact coordinates
    """
    moved = set(parameters)
    # sorted: a model read from a checkpoint has its arrays in another order
    arrays = {f"{m.ARRAYS}/{name}": spec for name, spec in sorted(shared.items())}
    update = {
        f"{m.ARRAYS}/{name}": spec
        for name, spec in sorted(shared.items())
        if name in moved and is_float(spec.dtype)
    }
    exact = {name: spec for name, spec in arrays.items() if name not in update}
    weighted = frozenset(update)
    for record, layout in sorted(records.items()):
        update |= {f"{record}/{name}": spec for name, spec in sorted(layout.items())}
    check = {CHECK: ArraySpec((2,), "float64")} if blind else {}
    return VectorLayout.of(update, {LOSS: _EXACT, STEPS: _EXACT} | check | exact, weighted)


def sums_layout(data: bytes) -> VectorLayout:
    """Of named sums: the SumsLayout in ``data``. Raises ProtocolRefused."""
    layout = SumsLayout.from_bytes(data)
    if len(layout.names) != len(layout.shapes) or len(set(layout.names)) != len(layout.names):
        raise ProtocolRefused("the layout of the sums is not one shape for each name")
    if sum(math.prod(shape) for shape in layout.shapes) > MOST_ELEMENTS:
        raise ProtocolRefused("the layout of the sums holds too many numbers")
    words = set(layout.words)
    if list(layout.words) != sorted(words & set(layout.names)) or bool(words) != bool(layout.bits):
        raise ProtocolRefused("the layout's words are not some of its sums, in their order")
    if words and layout.bits not in RINGS:
        raise ProtocolRefused(f"the layout's words have {layout.bits} bits")
    exact, update = {}, {}
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        if name in words:
            update[name] = ArraySpec(tuple(shape), f"int{layout.bits}")
        else:
            exact[name] = ArraySpec(tuple(shape), "float64")
    return VectorLayout.of(update, exact, word_bits=layout.bits)


def encode_sums_layout(shapes: Mapping[str, tuple[int, ...]], words: Words | None = None) -> bytes:
    """The SumsLayout of these arrays, ordered by name.

    words : those of them that are added as words; names that aren't summed are left out
    """
    names = tuple(sorted(shapes))
    narrow = tuple(name for name in names if words is not None and name in words.names)
    bits = words.bits if words is not None and narrow else 0
    return SumsLayout(names, tuple(shapes[name] for name in names), bits, narrow).to_bytes()
