"""Failures that the server doesn't see: how many there were, in which runs, and the last reasons.

A masked answer of zeros tells no one that this hospital failed (``client/secagg/failing.py``). So
it is counted here, before the answer leaves; a hospital that failed too often stops taking part
until a person has looked: model or data are wrong, or a server asks what it shouldn't. All runs
count together: that a hospital stops is an answer, and a new run is the server's to begin.

    state/failures.json   counts by run, and the last reasons; its owner's alone
"""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

from wardround.common.durable.private import read_private, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError, StoppedAfterFailures
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")
_FILE = "failures.json"
_FORMAT = Format("count of failures", f"move {_FILE} away (it begins at none)")
_MOST_REASONS, _MOST_RUNS = 20, 50
_OLDER = ""
"""Stands for all runs before the last ones."""


class Failures:
    """Of one hospital, whose studies may fail side by side. Raises ProvisionError for a file that
    can't be read.

    folder : the kit's ``state``
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._unwritten, self._turn = 0, threading.Lock()

    def count(self) -> int:
        """How often it failed since a person looked, in all runs together."""
        counts: dict[str, int] = self._read()["runs"]
        return sum(counts.values()) + self._unwritten

    def reasons(self) -> list[str]:
        """The last ones as lines, oldest first."""
        return [
            f"{one['time']} run '{one['run']}', {one['purpose']}: {one['reason']}"
            for one in self._read()["reasons"]
        ]

    def note(self, run: str, purpose: str, reason: str) -> None:
        """One more. Never raises: what fails here must not show in the answer; it is counted for as
        long as this process lasts then."""
        with self._turn:
            self._note(run, purpose, reason)

    def _note(self, run: str, purpose: str, reason: str) -> None:
        try:
            values = self._read()
            runs = values["runs"]
            count = runs.pop(run, 0) + 1  # to the end: the oldest ones are put together
            known = [*runs.items(), (run, count)]
            older = sum(number for _, number in known[:-_MOST_RUNS])
            values["runs"] = ({_OLDER: older} if older else {}) | dict(known[-_MOST_RUNS:])
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            row = {"time": now, "run": run, "purpose": purpose, "reason": one_line(reason, 500)}
            values["reasons"] = [*values["reasons"], row][-_MOST_REASONS:]
            write_private(self._path, json.dumps(_FORMAT.seal(values)).encode())
        except ProvisionError as error:
            self._unwritten += 1
            log.error("a failure can't be kept: %s", error)

    def check(self, most: int) -> None:
        """Raise StoppedAfterFailures, in words that depend on the setting alone, where it failed
        ``most`` times since a person looked."""
        if self.count() >= most:
            raise StoppedAfterFailures(
                f"this hospital has stopped taking part after {most} "
                f"failure{'s' if most > 1 else ''}; a person there must look: "
                "`wardround client resume KIT`"
            )

    def clear(self) -> None:
        """A person has looked: counts and reasons go. Raises ProvisionError if they can't."""
        write_private(self._path, json.dumps(_FORMAT.seal({"runs": {}, "reasons": []})).encode())

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {"runs": {}, "reasons": []}
        data = read_private(self._path, _FORMAT.mend)
        try:
            values = _FORMAT.read(json.loads(data), ProvisionError, str(self._path))
            runs, reasons = dict(values["runs"]), list(values["reasons"])
        except (ValueError, KeyError, TypeError):
            raise ProvisionError(f"{self._path}: is damaged; {_FORMAT.mend}") from None
        return {"runs": runs, "reasons": reasons}


def resume(state: Path) -> list[str]:
    """Show why the hospital failed, and let it take part again: lines for the person who looks."""
    failures = Failures(state)
    reasons = failures.reasons()
    if not reasons:
        return ["no failure is kept: there is nothing to resume from"]
    failures.clear()
    return [*reasons, "the count is cleared: the hospital takes part again when it is asked"]
