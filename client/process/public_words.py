"""What a hospital was told in public by a request, in the same words at every hospital.

A field of the audit line ``received``, worked out from the request as it came, before anything is
done with it: cohort, keys, model, totals, settings, task and survivor set. An honest server tells
all hospitals of a step the same, so their logs, held against each other, show one that doesn't
(``common/audit/compare.py``). What differs between hospitals by design (what one remembers, the
shares that are encrypted for it) has no word here. Nothing in it is of a patient.

| message           | words                                                                       |
|-------------------|-----------------------------------------------------------------------------|
| all               | run                                                                         |
| query.hello       | session                                                                     |
| query.group       | session, group, first, count, degree, threshold, least, members             |
| query.keys        | group, transcript                                                           |
| query.unmask      | group, aggregation, survivors                                               |
| all others        | settings, phase, model, totals, records (all other arrays together); with   |
|                   | secure aggregation the TaskRequest's fields, and the sums' ``layout``       |

Digests are SHA-256, hexadecimal.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from wardround.common.audit.lines import decode_line, raw_lines
from wardround.common.protocol import names as m
from wardround.common.protocol.masked import KeyRequest, MaskedTask
from wardround.common.protocol.message import REQUEST, Came, Content
from wardround.common.protocol.statistics import PHASE
from wardround.common.protocol.sums import STEP
from wardround.common.secagg import messages as wire
from wardround.common.secagg.content import keep_digests
from wardround.common.secagg.context import group_id, transcript_digest

log = logging.getLogger("wardround.client")
MOST_NAMES = 1000
"""A longer list of hospitals is told by its length and digest: a line has a largest size."""
_MOST_GROUPS = 64
_MOST_WHOLE = 2**63


class PublicWords:
    """Remembers the members of groups, so that survivors have names.

    path : the audit log, where groups of before a restart are found again
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._groups: dict[str, list[str]] = {}

    def of(self, run: str, message_type: str, content: Content) -> dict[str, Any]:
        """The words of one request; ``run`` is the one whose plan is accepted, '' for none.

        Of a request that can't be read, which is refused later, ``unreadable``.
        """
        try:
            return {"run": run, **self._of(message_type, content)}
        except Exception:  # whatever a server sends must get its line
            log.debug("a request has no words", exc_info=True)
            return {"run": run, "unreadable": True}

    def _of(self, message_type: str, content: Content) -> dict[str, Any]:
        if message_type == m.MANIFEST:
            return {}  # the line of what became of it says which
        if message_type not in (m.HELLO, m.GROUP, m.KEYS, m.UNMASK):
            return _of_work(message_type, content)
        data = KeyRequest.from_records(content).message
        match message_type:
            case m.HELLO:
                return {"session": wire.HelloRequest.from_bytes(data).session.hex()}
            case m.GROUP:
                return self._of_group(data)
            case m.KEYS:
                keys = wire.KeysRequest.from_bytes(data)
                transcript = transcript_digest(keys.group, keys.digests)
                return {"group": keys.group.hex(), "transcript": transcript.hex()}
        return self._of_unmasking(wire.UnmaskRequest.from_bytes(data))

    def _of_group(self, data: bytes) -> dict[str, Any]:
        request, group = wire.GroupRequest.from_bytes(data), group_id(data).hex()
        names = [member.name for member in request.members]
        self._remember(group, names)
        return {
            "session": request.session.hex(),
            "group": group,
            "first": request.first,
            "count": request.count,
            "degree": request.degree,
            "threshold": request.threshold,
            "least": request.survivors,
            "members": _listed(names),
        }

    def _of_unmasking(self, request: wire.UnmaskRequest) -> dict[str, Any]:
        group = request.group.hex()
        if group not in self._groups:
            self._remember(group, next(_groups_told(self._path, group), []))
        names = self._groups[group]
        known = all(position < len(names) for position in request.survivors)
        survivors = [names[one] if known else str(one) for one in request.survivors]
        return {"group": group, "aggregation": request.index, "survivors": _listed(survivors)}

    def _remember(self, group: str, names: list[str]) -> None:
        while len(self._groups) >= _MOST_GROUPS:
            del self._groups[next(iter(self._groups))]
        self._groups[group] = names


def _of_work(message_type: str, content: Content) -> dict[str, Any]:
    found = keep_digests(content)
    others = sorted(set(found.records) - {m.ARRAYS, m.TOTALS})
    words: dict[str, Any] = {"settings": found.settings.hex()}
    if found.model:
        words["model"] = found.model.hex()
    if found.totals:
        words["totals"] = found.totals.hex()
    if others:  # named by the strategy; a server may name any number, in any way
        words["records"] = _text_digest((name, found.records[name]) for name in others)
    if message_type in (m.STATISTICS, m.LAYOUT) and m.CONFIG in content:
        phase = Came(content, REQUEST).find(PHASE)
        words |= {} if phase is None else {"phase": phase}
    if message_type == m.SUMS and m.CONFIG in content:
        step = Came(content, REQUEST).find(STEP)
        words |= {} if step is None else {"step": step}
    masked = MaskedTask.read(content)
    if masked is not None:
        task = wire.TaskRequest.from_bytes(masked.message)
        for field in fields(task):
            key = "aggregation" if field.name == "index" else field.name
            words[key] = _plain(getattr(task, field.name))
        if masked.layout is not None:
            words["layout"] = hashlib.sha256(masked.layout).hexdigest()
    return words


def _text_digest(items: Iterable[Any]) -> str:
    return hashlib.sha256(repr(sorted(items)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A field as a line can hold it: a server may send any number."""
    if isinstance(value, bytes):
        return value.hex()
    wide = isinstance(value, int) and abs(value) >= _MOST_WHOLE
    if wide or (isinstance(value, float) and not math.isfinite(value)):
        return str(value)
    return value


def _listed(names: Sequence[str]) -> list[str] | dict[str, Any]:
    if len(names) <= MOST_NAMES:
        return list(names)
    return {"count": len(names), "sha256": _text_digest(names)}


def _groups_told(path: Path, group: str) -> Iterator[list[str]]:
    """The members of a group, as a line of the log has them from when its keys were made."""
    mark = group.encode()
    for raw in raw_lines(path):
        if mark in raw and (line := decode_line(raw)) and line.sound:
            told = line.values.get("told")
            if isinstance(told, dict) and told.get("group") == group:
                if isinstance(members := told.get("members"), list):
                    yield members
