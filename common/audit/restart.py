"""Begin an audit log anew after damage, so that the party can work and nothing is hidden.

The damaged file is kept under another name. The new one goes on with the next number, and its first
line holds the old head's hash and the damaged file's name, size, digest and first problem. So a
peer sees one rising series of numbers, countersigns the restart with the next head, and who
verifies is told of it for ever. ``audit.heads`` goes on; lines in it that nobody signed are left
out, and the file with them is kept too.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wardround.common.audit.chain import ReadLog, read_log
from wardround.common.audit.lines import (
    BEGAN,
    FORMAT,
    NO_HASH,
    Head,
    SignedHead,
    encode_line,
    heads_path,
    read_records,
)
from wardround.common.audit.log import lock_log
from wardround.common.audit.verify import check_log
from wardround.common.durable.files import sync
from wardround.common.durable.private import why, write_private
from wardround.common.errors import AuditError
from wardround.common.names import HOSPITAL_NAME


def restart_log(
    path: Path,
    party: str | None = None,
    after: int = 0,
    clock: Callable[[], float] = time.time,
) -> Path | None:
    """Put a new log in the place of a damaged one; returns where the damaged one is kept.

    party : whose log it is, where the file doesn't tell any more
    after : the new numbers come after this one too: a peer's memory of a log that was lost

    Raises AuditError for an intact log (unless ``after`` is beyond it), for one that is being
    written, or if it can't be done.
    """
    try:
        with lock_log(path):
            return _restart(path, party, after, clock)
    except OSError as error:
        raise AuditError(f"{path}: can't be begun anew ({why(error, path)})") from None


def _restart(path: Path, party: str | None, after: int, clock: Callable[[], float]) -> Path | None:
    heads = heads_path(path)
    data = heads.read_bytes() if heads.exists() else b""
    records, bad = read_records(data)
    if not path.exists() and not records:
        raise AuditError(f"{path}: there is no such log, nor heads of one")
    log = read_log(path) if path.exists() else ReadLog(path)
    reason = _reason(path, log)
    if not reason and after <= log.last:
        raise AuditError(f"{path}: is intact; there is nothing to begin anew")
    party = party or log.party or _party_of([record.head for _, record in records])
    if party is None or not HOSPITAL_NAME.fullmatch(party):
        raise AuditError(f"{path}: doesn't tell whose it is; add: --party NAME")
    bad += [n for n, record in records if party not in (record.head.party, record.by)]
    own = [record.head for _, record in records if record.head.party == party]
    head = max([_last(log), *(Head(one.seq, one.hash) for one in own)])
    kept = _keep(path) if path.exists() else None
    previous: dict[str, Any] = {"file": None, "bytes": 0, "sha256": None}
    if kept:
        content = kept.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        previous = {"file": kept.name, "bytes": len(content), "sha256": digest}
    previous |= {"seq": head.seq, "hash": head.hash, "reason": (reason or "begun anew")[:1000]}
    if bad or not data.endswith(b"\n"):
        _mend_heads(heads, data, bad)
    fields = {"format": FORMAT, "party": party, "public": log.public, "previous": previous}
    number = max(head.seq, after) + 1
    # the log last: after a crash before this the damaged one is still in its place, to begin again
    line, _ = encode_line(number, clock(), BEGAN, fields, head.hash)
    write_private(path, line)
    return kept


def _reason(path: Path, log: ReadLog) -> str:
    """The first problem; empty for an intact log. Sets ``log.last``."""
    if not path.exists():
        return "the file was lost"
    report = check_log(path)
    log.last = report.log.last
    return report.problems[0].words() if report.problems else ""


def _party_of(heads: list[SignedHead]) -> str | None:
    """The one party whose heads are countersigned by others, if it is clear."""
    parties = {head.party for head in heads}
    return parties.pop() if len(parties) == 1 else None


def _last(log: ReadLog) -> Head:
    """The highest number that the file states, and its hash; a gap stays a gap."""
    lines = [line for _, line in log.lines if line]
    sound = [Head(line.seq, line.hash) for line in lines if line.sound]
    return max(sound or [Head(line.seq, line.hash) for line in lines] or [Head(0, NO_HASH)])


def _keep(path: Path) -> Path:
    """The file under a free name too, so that a crash leaves the old log in its place."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    try:
        os.link(path, kept)
    except OSError:  # a file system without hard links
        shutil.copy2(path, kept)
        sync(kept)
    sync(path.parent)
    return kept


def _mend_heads(heads: Path, data: bytes, bad: list[int]) -> None:
    if not data:
        return
    _keep(heads)
    lines = data.split(b"\n")[:-1]
    good = [line for number, line in enumerate(lines, 1) if number not in bad]
    write_private(heads, b"".join(line + b"\n" for line in good))
