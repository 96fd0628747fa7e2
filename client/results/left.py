"""What left a hospital for one run, as its own audit log has it: ``left.json``.

    {"format": ..., "run": ..., "messages": [{time, kind, round, bytes, digest, protection}, ...],
     "by_protection": {"masked": bytes, ...}, "epsilon": ..., "head": {seq, hash}}

An answer belongs to the run whose plan was accepted when its request came. ``head`` is the last
line that was read, so that the log itself says whether all of it is here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wardround.common.audit.chain import read_log
from wardround.common.audit.lines import Line
from wardround.common.audit.verify import history
from wardround.common.durable.files import write_atomically
from wardround.common.durable.versioned import Format
from wardround.common.errors import ResultsRefused
from wardround.common.protocol import names as m
from wardround.common.text import to_json

LEFT = "left.json"
FORMAT = Format("list of what left", "read it out of the audit log: wardround audit show")
_OF_THE_PROCESS = (m.MANIFEST, m.STUDY_FILE, m.STUDY_ENDED)
_FIELDS = ("kind", "round", "bytes", "digest", "protection", "epsilon", "again")


@dataclass(frozen=True)
class Left:
    """What left.

    messages : in their order; ``time``, and fields of the audit log's line
    by_protection : bytes, by what protected them from the server
    epsilon : what the privacy ledger says is spent, by the last claim; None without privacy
    head : the log's last line when this was read, {seq, hash}
    """

    study: str
    run: str
    messages: list[dict[str, Any]]
    by_protection: dict[str, int]
    epsilon: float | None
    head: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """Of all messages."""
        return sum(self.by_protection.values())

    @property
    def took_part(self) -> bool:
        """Whether anything left but answers to plans, and to results of before."""
        return any(one.get("kind") not in _OF_THE_PROCESS for one in self.messages)


def what_left(audit: Path, study: str, run: str) -> Left:
    """Read it out of an audit log. Raises AuditError."""
    rows, by_protection, epsilon = [], dict[str, int](), None
    asked, head = set[str](), {"seq": 0, "hash": ""}
    for line in _lines(audit):
        head = {"seq": line.seq, "hash": line.hash}
        told, request = line.values.get("told"), line.values.get("request")
        if line.event == "received" and isinstance(told, dict) and told.get("run") == run:
            asked.add(str(request))
        elif line.event == "sent" and str(request) in asked:
            row = {"time": line.values["time"]}
            row |= {key: line.values[key] for key in _FIELDS if line.values.get(key) is not None}
            rows.append(row)
            size, by = line.values.get("bytes"), str(row.get("protection", "as before"))
            by_protection[by] = by_protection.get(by, 0) + (size if isinstance(size, int) else 0)
            epsilon = row.get("epsilon", epsilon)
    return Left(study, run, rows, by_protection, epsilon, head)


def _lines(audit: Path) -> Iterator[Line]:
    for log in history(read_log(audit)):
        for _, line in log.sound():
            yield line


def write_left(folder: Path, left: Left) -> None:
    """Write ``left.json``. Raises OSError."""
    text = to_json(FORMAT.seal(vars(left)), indent=1)
    write_atomically(folder / LEFT, text.encode(), private=True)


def read_left(folder: Path) -> Left:
    """What ``left.json`` says. Raises ResultsRefused."""
    try:
        stored = json.loads((folder / LEFT).read_text("utf-8"))
    except (OSError, ValueError):
        raise ResultsRefused(f"{LEFT} can't be read", who=str(folder), mend=FORMAT.mend) from None
    return FORMAT.make(Left, stored, ResultsRefused, str(folder))
