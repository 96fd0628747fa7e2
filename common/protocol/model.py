"""What a request for training or evaluation says of the model that it carries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord

from wardround.common.decided import bound, derived, keys, position
from wardround.common.decided import data as given
from wardround.common.flower.arrays import Arrays, Layout, decode_arrays
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import MaskedTask
from wardround.common.protocol.message import (
    Came,
    Content,
    Records,
    SentArrays,
    Value,
    as_request,
    data,
    text,
    texts,
    values,
    whole,
    wholes,
)
from wardround.common.protocol.totals import DIGEST, Totals

MODEL = SentArrays(
    m.ARRAYS,
    given(
        "names, shapes, types and size of the values are its own model's; with masks all got the "
        "same bytes, the first is the plan's, and each round has one, also in repeated attempts",
        "client.secagg.contributions.Contributions.upload",
    ),
)
ROUND = Value(
    m.CONFIG,
    m.ROUND,
    whole(),
    decided=position(
        "from 1 to the plan's rounds; with masks one sum of each is opened, in their order",
        "client.secagg.contributions.Contributions.check",
    ),
)
STATE_ROUND = Value(
    m.CONFIG,
    "state-round",
    whole(),
    decided=position(
        "which of the (at most two) states that it keeps is gone on from; another one is none",
        "client.state.ClientState.load",
    ),
)
LOCAL_KEYS = Value(
    m.CONFIG,
    "local-keys",
    texts(said="a list of names"),
    decided=bound("equal to its settings'", "client.requests.received.receive"),
)
FROZEN = Value(
    m.CONFIG,
    "frozen",
    text(128),
    decided=derived(
        "equal to the digest of those that it made itself, where it is there; tells that versions "
        "of torch or files differ, nothing of rows",
        "client.requests.received.receive",
    ),
)
CLIENTS = Value(
    m.CONFIG,
    "clients",
    wholes(),
    decided=bound("not there, outside a simulation", "client.requests.settings.check_settings"),
)
BLIND = Value(
    m.CONFIG,
    "blind",
    data(),
    decided=keys(
        "there just where its settings have `blind`; a sum read with another round, key, model "
        "before or set of hospitals is random in two numbers that are held against what they must "
        "be",
        "client.secagg.blind.BlindModels.arrived",
    ),
)
_SHARED: tuple[Value[Any], ...] = (ROUND, STATE_ROUND, LOCAL_KEYS, FROZEN, CLIENTS, DIGEST, BLIND)


@dataclass(frozen=True)
class SentModel:
    """The shared model and whose round it is for.

    arrays : of the global model without personal entries, in the model's own dtypes; not decoded
    server_round : from 1
    state_round : the round whose reply was last accepted from this client; 0: none. What it
        remembers of that round belongs to this request
    local_keys : names of the entries that stay at each hospital
    frozen : SHA-256 (hex) of the entries that every party makes by itself, so that all have the
        same; '' where there are none
    blind : a ``Blind``, with ``secure_aggregation.blind``: the arrays are a sum that the server
        can't read, or the first model; b'' in other runs
    clients : node ids of all whom one message is for, where one process runs them all (a
        simulation's; it is sent to the first); () for a message to one hospital
    """

    arrays: ArrayRecord
    server_round: int
    state_round: int = 0
    local_keys: tuple[str, ...] = ()
    frozen: str = ""
    clients: tuple[int, ...] = ()
    blind: bytes = b""

    def decoded(self, layout: Layout) -> Arrays:
        """The arrays, checked and decoded: views of the message's bytes.

        Raises RequestRefused, by name, unless they are of ``layout``, finite and in bounds.
        """
        with as_request():
            return decode_arrays(self.arrays, layout)

    @classmethod
    def read(cls, came: Came) -> SentModel:
        """From a request."""
        came.config()
        return cls(
            came.arrays(MODEL),
            came.take(ROUND),
            came.take(STATE_ROUND),
            came.find(LOCAL_KEYS) or (),
            came.find(FROZEN) or "",
            came.find(CLIENTS) or (),
            came.find(BLIND) or b"",
        )

    def of_entries(self) -> dict[str, Any]:
        """Settings about entries that the arrays don't hold."""
        return values(
            (LOCAL_KEYS, self.local_keys or None),
            (FROZEN, self.frozen or None),
            (BLIND, self.blind or None),
        )

    def of_client(self) -> dict[str, Any]:
        """Settings that differ from client to client."""
        return values((STATE_ROUND, self.state_round), (CLIENTS, self.clients or None))


def further(settings: Mapping[str, Any], *known: Value[Any]) -> dict[str, Any]:
    """Settings that a strategy has added: all that aren't the protocol's own."""
    own = {value.key for value in (*_SHARED, *known)}
    return {key: one for key, one in settings.items() if key not in own}


def round_of(content: Content) -> int:
    """The round that any request is of; 0 where it names none."""
    record = content.get(m.CONFIG)
    number = ROUND.kind.take(record.get(ROUND.key)) if isinstance(record, ConfigRecord) else None
    return number or 0


def model_content(
    model: SentModel,
    config: dict[str, Any],
    totals: Totals | None,
    masked: MaskedTask | None,
    first: Iterable[str],
) -> Content:
    """A request's records. ``first``: settings that stand before all others, in this order."""
    records = Records()
    if totals is not None:
        totals.add_to(records, config)
    ordered = {key: config[key] for key in first if key in config} | config
    content = Content({m.ARRAYS: model.arrays, m.CONFIG: ConfigRecord(ordered), **records})
    if masked is not None:
        masked.add_to(content)
    return content
