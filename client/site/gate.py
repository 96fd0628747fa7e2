"""The way out: what isn't in the accepted run manifest doesn't leave the hospital.

Every reply is held against the manifest's leaves: records, names, shapes, types, sizes in bytes,
exactly. The gate stands behind all that computes, so a mistake or a stranger in there can't send
more than was accepted. What it can't know is whether a value of the right form is what it claims to
be: that a number carries its noise, that a vector is masked, that a sum's name isn't a patient's.

What each check keeps from riding along: a record, name or value that isn't listed; a listed one in
plain that was promised inside a masked vector; a record with a telling name and nothing in it;
bytes behind an array, or in its header; a number or flag of another type; a byte string that isn't
exactly its message; a long text, or one with characters that nobody sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from wardround.common.errors import PlanRefused, PolicyRefused, ProtocolRefused
from wardround.common.flower.arrays import ALLOWED_DTYPES, is_npy
from wardround.common.manifest.manifest import Manifest
from wardround.common.protocol import names as m
from wardround.common.protocol import train
from wardround.common.protocol.leaf import ANY, Leaf
from wardround.common.protocol.masked import MOST_CLAIM_BYTES
from wardround.common.protocol.totals import MOST_SUM_NUMBERS, MOST_SUMS, is_sum_name
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import MOST_ELEMENTS
from wardround.common.secagg.encoding import OWN_NAMES
from wardround.common.secagg.ring import EXACT_BYTES
from wardround.common.text import one_line

_BEFORE_MODEL = {
    m.DESCRIBE,
    m.HELLO,
    m.GROUP,
    m.KEYS,
    m.LAYOUT,
    m.LETTERS,
    m.STATISTICS,
    m.SUMS,
    m.UNMASK,
    m.DEAL,
    m.DEALT,
}
_MESSAGES: dict[str, type[wire.Message]] = {
    m.HELLO: wire.Hello,
    m.GROUP: wire.Bundle,
    m.KEYS: wire.Accepted,
    m.LAYOUT: wire.SumsLayout,
    m.UNMASK: wire.Shares,
    m.DEAL: wire.Deal,
    m.DEALT: wire.Dealt,
    m.MODEL: wire.Held,
    m.TAKE: wire.Held,
    m.STATISTICS: wire.Upload,
    m.SUMS: wire.Upload,
    m.TRAIN: wire.Upload,
    m.EVALUATE: wire.Upload,
}
_SEALED_MORE = 1 << 20
"""Bytes of a sealed model that are no numbers: names, shapes, a tag."""
_VALUES = {
    ArrayRecord: ALLOWED_DTYPES,
    MetricRecord: {"int", "float"},
    ConfigRecord: {"bytes", "text", "texts"},
}

Place = tuple[str, str, str]
"""Message type, record, name."""


class Gate:
    """Holds requests and replies against the manifest that the hospital accepted.

    Parameters
    ----------
    manifest : None before one was accepted: then only errors leave
    """

    def __init__(self, manifest: Manifest | None = None) -> None:
        self.manifest = manifest
        leaves = self._listed = manifest.leaves if manifest else ()
        self._types = {leaf.message_type for leaf in leaves}
        self._leaves = {leaf.place: leaf for leaf in leaves if not leaf.inside}
        self._inside = {leaf.place for leaf in leaves if leaf.inside}

    # --- requests -------------------------------------------------------------------------------
    def may_begin(self, message_type: str, request: RecordDict | None = None) -> None:
        """Raise PolicyRefused unless the manifest has replies to such a request; where the request
        is given, also unless it asks for no more than the plan."""
        if self.manifest is None:
            raise PlanRefused("no run manifest was accepted: nothing but errors leaves")
        if message_type not in self._types:
            raise PlanRefused(f"the accepted manifest has no {one_line(message_type, 40)}")
        if self.manifest.stage == 1 and message_type not in _BEFORE_MODEL:
            raise PlanRefused(
                f"{message_type}: the manifest that was accepted doesn't name the model's arrays; "
                "the server must send the second one first"
            )
        if request is not None and message_type in (m.TRAIN, m.BEGIN, m.EVALUATE):
            config = request.get(m.CONFIG)
            if not isinstance(config, ConfigRecord):
                raise PlanRefused(f"the request has no '{m.CONFIG}' record")
            _check_plan(config, self.manifest, message_type)

    # --- replies ----------------------------------------------------------------------------------
    def check(self, message_type: str, content: RecordDict) -> list[Leaf]:
        """The leaves that this reply consists of. A reply may lack what the manifest lists: less
        than was accepted may leave, never more.

        Raises PolicyRefused, naming what it is, if anything in it isn't in the manifest.
        """
        self.may_begin(message_type)
        leaves: list[Leaf] = []
        for record_name, record in content.items():
            allowed = _VALUES.get(type(record), set())
            for name, value in record.items():
                place = (message_type, record_name, name)
                leaf = self._leaf(place)
                if leaf.dtype not in allowed:
                    kind = type(record).__name__
                    raise PolicyRefused(
                        f"{_where(place)} is in a {kind}, the manifest has {leaf.dtype}"
                    )
                if message_type == m.GIVE:
                    self._check_sealed(value, place)
                _check_value(leaf, value, place)
                leaves.append(leaf)
            if not record and not self._has_record(message_type, record_name):
                raise PolicyRefused(f"{_where((message_type, record_name, ''))} {_NOT_LISTED}")
        _check_sums(message_type, content, leaves)
        return leaves

    def _check_sealed(self, value: Any, place: Place) -> None:
        """A model and its optimiser's two moments have so many bytes at most, in float64."""
        model = [one for one in self._listed if one.place[:2] == (m.TRAIN, m.ARRAYS)]
        numbers = sum(math.prod(leaf.shape or ()) for leaf in model)
        if isinstance(value, bytes) and len(value) > 24 * numbers + _SEALED_MORE:
            raise PolicyRefused(f"{_where(place)} has {len(value)} bytes, more than a model has")

    @staticmethod
    def error(reason: str | None) -> str:
        """What may leave of an error's reason: one short line."""
        return one_line(reason)

    def _leaf(self, place: Place) -> Leaf:
        every = (*place[:2], ANY)
        leaf = self._leaves.get(place) or self._leaves.get(every)
        if leaf is not None:
            return leaf
        if place in self._inside or every in self._inside:
            raise PolicyRefused(
                f"{_where(place)} was promised inside the masked vector and stands in plain: it "
                "doesn't leave"
            )
        raise PolicyRefused(f"{_where(place)} {_NOT_LISTED}")

    def _has_record(self, message_type: str, record: str) -> bool:
        return any(place[:2] == (message_type, record) for place in self._leaves)


_NOT_LISTED = "isn't in the accepted manifest: it doesn't leave"


def _where(place: Place) -> str:
    message_type, record, name = place
    value = f"{record}/{name}" if name else record
    return f"'{one_line(value, 120)}' of {one_line(message_type, 40)}"


def _check_plan(config: ConfigRecord, manifest: Manifest, message_type: str) -> None:
    """A training or evaluation request within the plan: no round beyond it, no other number of
    rounds or cohort than it can have, no other run or algorithm.

    Who is drawn most often is drawn for rounds x cohort / hospitals at least: with everyone in
    each round for all of them. Fewer would mean less noise. Of buffered rounds the fastest may be
    in all.
    """
    rounds, cohort = manifest.rounds, manifest.cohort
    buffered = any(leaf.message_type == m.BEGIN for leaf in manifest.leaves)
    fewest = rounds if buffered else -(-rounds * cohort // len(manifest.roster))
    for key, least, most in (
        (m.ROUND, 1, rounds),
        (train.PLANNED_ROUNDS.key, fewest, rounds),
        (train.COHORT.key, 1, cohort),
    ):
        value = config.get(key)
        if key != m.ROUND and value is None:
            continue  # only private runs have it, and privacy checks that they do
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise PlanRefused(
                f"{message_type}: the request's {key} is {_short(value)}, the accepted manifest "
                f"plans {least} to {most}"
            )
    run = config.get(train.RUN.key)
    if run is not None and run != manifest.run:
        raise PlanRefused(
            f"{message_type}: the request is of run {_short(run)}, accepted was '{manifest.run}'"
        )
    algorithm = config.get(train.ALGORITHM.key)
    if message_type in (m.TRAIN, m.BEGIN) and algorithm not in manifest.algorithms:
        accepted = ", ".join(manifest.algorithms)
        raise PlanRefused(
            f"{message_type}: the request is for algorithm {_short(algorithm)}, accepted was "
            f"{accepted}"
        )


def _short(value: object) -> str:
    return one_line(repr(value), 60)


# --- single values -------------------------------------------------------------------------------
def _check_value(leaf: Leaf, value: Any, place: Place) -> None:
    if isinstance(value, Array):
        _check_array(leaf, value, place)
    elif leaf.dtype in ("int", "float"):
        kind = int if leaf.dtype == "int" else float
        if type(value) is not kind:
            raise PolicyRefused(
                f"{_where(place)} is {_kind(value)}, the manifest has one {leaf.dtype}"
            )
    elif leaf.dtype == "bytes":
        if not isinstance(value, bytes):
            raise PolicyRefused(f"{_where(place)} is {_kind(value)}, the manifest has bytes")
        _check_bytes(leaf, value, place)
    else:
        _check_texts(leaf, value, place)


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _check_array(leaf: Leaf, array: Array, place: Place) -> None:
    """Shape and type as listed; and its bytes are those of exactly such an array, no more."""
    shape = tuple(array.shape)
    if leaf.shape is not None and shape != leaf.shape or array.dtype != leaf.dtype:
        listed = f"{leaf.dtype}{'' if leaf.shape is None else list(leaf.shape)}"
        raise PolicyRefused(
            f"{_where(place)} is {array.dtype}{list(shape)}, the manifest has {listed}"
        )
    if array.stype != "numpy.ndarray":
        raise PolicyRefused(
            f"{_where(place)} is serialised as '{one_line(array.stype, 40)}', not numpy"
        )
    if not is_npy(array):
        raise PolicyRefused(
            f"{_where(place)}: its {len(array.data)} bytes are not just an array of {array.dtype}"
            f"{list(shape)}"
        )


def _check_bytes(leaf: Leaf, value: bytes, place: Place) -> None:
    if leaf.protection == "sealed" and leaf.shape is not None:  # no more, as a letter's size varies
        if len(value) > leaf.shape[0]:
            raise PolicyRefused(
                f"{_where(place)} has {len(value)} bytes, the manifest has {leaf.shape[0]} at most"
            )
    elif leaf.shape is not None:
        if len(value) != leaf.shape[0]:
            raise PolicyRefused(
                f"{_where(place)} has {len(value)} bytes, the manifest has {leaf.shape[0]}"
            )
    elif leaf.name == m.VECTOR:  # of sums whose names were agreed only now
        fewest, most = len(OWN_NAMES), len(OWN_NAMES) + MOST_ELEMENTS
        numbers, odd = divmod(len(value), EXACT_BYTES)
        words = leaf.message_type == m.SUMS  # they may have fewer bytes each
        if (odd and not words) or not fewest <= numbers <= most:
            raise PolicyRefused(
                f"{_where(place)} has {len(value)} bytes, which no masked sums have"
            )
    elif leaf.message_type == m.GIVE:
        pass  # its size was held against the model's (``_check_sealed``)
    elif leaf.name == m.CLAIM:
        if len(value) > MOST_CLAIM_BYTES:
            raise PolicyRefused(f"{_where(place)} has {len(value)} bytes, no claim has so many")
    else:
        try:
            _MESSAGES[leaf.message_type].from_bytes(value)
        except (ProtocolRefused, KeyError) as error:
            raise PolicyRefused(
                one_line(f"{_where(place)} is not the message it must be: {error}")
            ) from None


def _check_texts(leaf: Leaf, value: Any, place: Place) -> None:
    lines = value if leaf.dtype == "texts" else [value]
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise PolicyRefused(f"{_where(place)} is {_kind(value)}, the manifest has {leaf.dtype}")
    shape = leaf.shape or (0,)
    most_lines = shape[0] if leaf.dtype == "texts" else 1
    if len(lines) > most_lines or any(len(line) > shape[-1] for line in lines):
        raise PolicyRefused(
            f"{_where(place)} is longer than {most_lines} lines of {shape[-1]} characters"
        )
    if not all(line.isprintable() for line in lines):
        raise PolicyRefused(f"{_where(place)} holds characters that don't belong in a line of text")


def _check_sums(message_type: str, content: Mapping[str, Any], leaves: list[Leaf]) -> None:
    """Bounds for arrays whose names and shapes aren't listed one by one."""
    if not any(leaf.name == ANY for leaf in leaves):
        return
    arrays = content[m.ARRAYS]
    elements = sum(math.prod(array.shape) for array in arrays.values())
    if len(arrays) > MOST_SUMS or elements > MOST_SUM_NUMBERS:
        raise PolicyRefused(f"'{m.ARRAYS}' of {message_type} holds too many sums")
    for name in arrays:
        if not is_sum_name(name):
            place = (message_type, m.ARRAYS, name)
            raise PolicyRefused(f"{_where(place)}: a sum's name is a printable line of at most 256")
