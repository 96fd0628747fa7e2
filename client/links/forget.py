"""A person forgets a link: the files go at once, the audit log has a line of it.

The audit log is written by the running client alone, so what is to stand in it waits beside the
links, and is taken by the client, or by the command where no client runs:

    state/links/forgotten.jsonl   a line for each link that was forgotten
    state/links/forgotten.noting  the same while it is written into the audit log

Each is noted at least once; a crash between the two writes notes one twice.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from wardround.client.links.kept import Kept, Record
from wardround.client.links.store import EVENT, Lines, alone
from wardround.common.durable.files import append_lines, sync
from wardround.common.durable.private import read_public
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError

_LINES, _NOTING = "forgotten.jsonl", "forgotten.noting"
_FORMAT = Format("forgotten link for the audit log", f"move {_LINES} away (the audit log lacks it)")


def forget(folder: Path, name: str, who: str, when: str) -> Record | None:
    """Forget a link, durably; gives what it was, None where there is none.

    who, when : for the audit log

    Raises ProvisionError.
    """
    if not folder.is_dir():
        return None
    with alone(folder):
        kept = Kept(folder)
        record = kept.find(name)
        if record is None:
            return None
        fields = {"link": record.name, "digest": record.digest, "who": who, "when": when}
        line = json.dumps(_FORMAT.seal(fields)) + "\n"
        try:
            append_lines(folder / _LINES, line.encode(), private=True)
        except OSError as error:
            raise ProvisionError(f"{folder}: can't be written ({error.strerror})") from None
        return kept.remove(name)


def note_forgotten(folder: Path, audit: Lines) -> int:
    """Write what waits into the audit log; how many lines. Raises ProvisionError, AuditError."""
    waiting, noting = folder / _LINES, folder / _NOTING
    if not waiting.exists() and not noting.exists():
        return 0
    with alone(folder):
        if not noting.exists():
            if not waiting.exists():
                return 0
            os.replace(waiting, noting)
        found = [_read(noting, raw) for raw in read_public(noting, _FORMAT.mend).splitlines()]
        for one in found:
            if one:
                audit.append(EVENT, what="forgotten", **one)
        noting.unlink()
        sync(folder)
    return sum(map(bool, found))


def _read(path: Path, raw: bytes) -> dict[str, Any]:
    """A line's fields; none of one that a crash tore."""
    try:
        stored = json.loads(raw)
    except ValueError:
        return {}
    return _FORMAT.read(stored, ProvisionError, str(path))
