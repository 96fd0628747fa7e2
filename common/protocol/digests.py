"""What a request brings, by digests: SHA-256 of each record of arrays, and of its settings.

Of the bytes as they came, never of decoded values. What differs between the hospitals of a step by
design (the round that one remembers, whom one message is for) is left out.
"""

from __future__ import annotations

import hashlib

from flwr.app import ArrayRecord, ConfigRecord

from wardround.common.protocol import names as m
from wardround.common.protocol.message import Content
from wardround.common.protocol.model import CLIENTS, STATE_ROUND
from wardround.common.protocol.statistics import PHASE


def record_digests(content: Content) -> dict[str, bytes]:
    """By the names of the records of arrays, each 32 bytes."""
    records = m.records_of(content, ArrayRecord)
    return {name: _record_digest(record) for name, record in sorted(records.items())}


def settings_digest(content: Content) -> bytes:
    """Of the settings that all hospitals of a step get alike: 32 bytes; of none, of an empty
    list."""
    shared = [one for one in _settings(content).items() if one[0] not in _OWN]
    return hashlib.sha256(repr(sorted(shared)).encode()).digest()


def phase_of(content: Content) -> int | None:
    """The phase of the preparation that a request is of; None where it names none."""
    return PHASE.kind.take(_settings(content).get(PHASE.key))


_OWN = (STATE_ROUND.key, CLIENTS.key)


def _settings(content: Content) -> dict[str, object]:
    config = content.get(m.CONFIG)
    return dict(config.items()) if isinstance(config, ConfigRecord) else {}


def _record_digest(record: ArrayRecord) -> bytes:
    """Of a record's arrays, whatever their order: names, types, shapes and bytes."""
    state = hashlib.sha256()
    for key, array in sorted(record.items()):
        form = (str(key), str(array.dtype), tuple(array.shape), len(array.data))
        state.update(repr(form).encode())
        state.update(array.data)
    return state.digest()
