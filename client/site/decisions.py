"""Decisions on plans, in the order in which they were made, on their way into the audit log.

A person decides in another process than the one that writes the audit log, or while none runs:

    state/decisions.jsonl   a line for each decision, signed by the hospital's identity
    state/decisions.noted   how many bytes of that the audit log has

Each decision is noted at least once; a crash between the two writes notes one twice.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import append_lines
from wardround.common.durable.private import read_public, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError
from wardround.common.trust.identity import Identity, digest, verify

_LINES, _NOTED = "decisions.jsonl", "decisions.noted"
_FIELDS = ("manifest", "run", "stage", "accepted", "decided", "who", "reason")
_FORMAT = Format(
    "decision for the audit log",
    f"move {_LINES} and {_NOTED} away (decisions that the audit log doesn't have stay out of it)",
)
_MEND = "it holds what was decided on plans"


class Decisions:
    """The decisions in a kit's ``state``."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        self._path, self._noted_path, self._identity = folder / _LINES, folder / _NOTED, identity

    def append(self, **fields: Any) -> None:
        """Write a decision down, durably; ``fields`` are those of its audit line.

        Raises ProvisionError if it can't be written.
        """
        text = json.dumps({key: fields[key] for key in _FIELDS}, sort_keys=True)
        signature = self._identity.sign(digest("decision", text.encode())).hex()
        line = json.dumps(_FORMAT.seal({"decision": text, "signature": signature})) + "\n"
        try:
            append_lines(self._path, line.encode(), private=True)
        except OSError as error:
            raise ProvisionError(f"{self._path}: can't be written ({error.strerror})") from None

    def waiting(self) -> bool:
        """Whether there is a decision that the audit log doesn't have."""
        with contextlib.suppress(FileNotFoundError):
            return self._path.stat().st_size > self._noted()
        return False

    def note(self, audit: AuditLog) -> list[dict[str, Any]]:
        """Write what is new into the audit log; returns it. A line that isn't whole yet, or that
        this hospital didn't sign, is none.

        Raises ProvisionError if the files can't be read or written, AuditError.
        """
        if not self.waiting():
            return []
        data, start = read_public(self._path, _MEND), self._noted()
        end = data.rindex(b"\n") + 1 if b"\n" in data else 0
        found = [one for raw in data[start:end].splitlines() if (one := self._read(raw))]
        if found:
            audit.append_many([("approval", one) for one in found])
        write_private(self._noted_path, str(end).encode())
        return found

    def _noted(self) -> int:
        try:
            return int(read_public(self._noted_path, _MEND))
        except ValueError:
            return 0
        except ProvisionError:
            if self._noted_path.exists():
                raise
            return 0

    def _read(self, raw: bytes) -> dict[str, Any] | None:
        """A line's fields, if this hospital signed them. Raises ProvisionError for a newer one."""
        try:
            stored = json.loads(raw)
        except ValueError:
            return None
        if not isinstance(stored, dict):
            return None
        values = _FORMAT.read(stored, ProvisionError, str(self._path))
        try:
            text, signature = values["decision"], bytes.fromhex(values["signature"])
            if verify(self._identity.public, signature, digest("decision", text.encode())):
                fields: dict[str, Any] = json.loads(text)
                return fields
        except (ValueError, TypeError, KeyError, AttributeError):
            pass
        return None
