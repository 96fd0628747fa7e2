"""The table of all fields that a server sends, from their declarations: for ``docs/reference.py``.

Values and records of arrays are declared where they are defined, in ``common/protocol``; fields of
secure aggregation's messages, of frames and of the run manifest in the ``sent.py`` of their rooms.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import NamedTuple

from wardround.common import protocol
from wardround.common.decided import Decided
from wardround.common.manifest import sent as of_manifest
from wardround.common.protocol.message import SentArrays, SentValues, Value
from wardround.common.secagg import sent as of_secagg
from wardround.common.transport import sent as of_frames

REQUESTS = {
    "manifest": "query.manifest",
    "describe": "query.describe",
    "statistics": "query.statistics",
    "sums": "query.sums",
    "totals": "all with a preparation",
    "model": "train, evaluate",
    "train": "train",
    "kept": "train",
    "strategy": "train",
    "evaluate": "evaluate",
    "masked": "with secure aggregation",
    "letters": "query.letters",
    "results": "query.study_file, query.study_ended",
}
"""The messages that what is declared in a module of ``common/protocol`` stands in."""


class Sent(NamedTuple):
    """A field that a server sends."""

    message: str
    field: str
    decided: Decided


def requests() -> Iterator[Sent]:
    """Fields of requests."""
    seen: set[int] = set()
    names = {info.name for info in pkgutil.iter_modules(protocol.__path__)}
    for name in (*REQUESTS, *sorted(names - set(REQUESTS))):
        module = importlib.import_module(f"{protocol.__name__}.{name}")
        for one in vars(module).values():
            sent = isinstance(one, Value | SentArrays | SentValues)
            if not sent or one.decided is None or id(one) in seen:
                continue
            seen.add(id(one))
            key = f"/{one.key}" if isinstance(one, Value) else "/*"
            yield Sent(REQUESTS.get(name, name), f"{one.record}{key}", one.decided)


def masked() -> Iterator[Sent]:
    """Fields of the messages of secure aggregation."""
    for kind, fields in of_secagg.SENT.items():
        yield from (Sent(kind.__name__, name, one) for name, one in fields.items())


def frames() -> Iterator[Sent]:
    """Fields of frames."""
    for kind, fields in of_frames.SENT.items():
        yield from (Sent(kind.__name__, name, one) for name, one in fields.items())


def manifest() -> Iterator[Sent]:
    """Fields of the run manifest."""
    yield from (Sent("run manifest", name, one) for name, one in of_manifest.SENT.items())


TABLES = {
    "sent requests": requests,
    "sent messages": masked,
    "sent manifest": manifest,
    "sent frames": frames,
}


def table(name: str) -> str:
    """One of ``TABLES``, as a page has it."""
    lines = ["| message | field | who decides | what the hospital checks | where |\n"]
    lines.append("|---|---|---|---|---|\n")
    for message, field, one in TABLES[name]():
        place = f"`{one.by}`" if one.by else ""
        lines.append(f"| {message} | `{field}` | {one.sort} | {one.check} | {place} |\n")
    return "".join(lines)
