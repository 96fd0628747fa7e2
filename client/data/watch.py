"""Whether a hospital's data is still what was read: looked at when a run begins, or goes on.

A client stays up for months, and its file may be cut, replaced or removed meanwhile. What changed
is read again, what is gone refuses the run. The digest stands in the hospital's own audit log and
never leaves it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from wardround.client.data.hospital import Hospital
from wardround.common.durable.private import read_public, why, write_private
from wardround.common.durable.versioned import Format, Values
from wardround.common.errors import DataError, ProvisionError

log = logging.getLogger("wardround.client")

_CHUNK_BYTES = 1 << 20
_Form = tuple[tuple[str, int, int], ...]


def _named(pair: list[str]) -> Values:
    """Version 1 was a list of two."""
    run, digest = pair
    return {"run": run, "digest": digest}


_FORMAT = Format("digest of the data", "let this run write it anew", (_named,))


class Lines(Protocol):
    """Where lines of the audit log are written."""

    def append(self, event: str, **fields: Any) -> object:
        """Write a line, durably."""


class DataWatch:
    """The shard of a hospital's process.

    Parameters
    ----------
    shard : gives the file or folder; None for a task's own example data, which doesn't change
    kept : a file that remembers which data a run began with
    """

    def __init__(
        self,
        shard: Callable[[], Path | None],
        hospital: Callable[[], Hospital],
        audit: Lines,
        kept: Path,
    ) -> None:
        self._shard, self._hospital, self._audit, self._kept = shard, hospital, audit, kept
        at = shard()
        self._read_form = _form(at) if at is not None else ()
        self._told = ("", "")

    def begin(self, run: str) -> None:
        """A run begins or goes on: read again what changed. Raises DataError if it is unusable."""
        shard = self._shard()
        if shard is None:
            return
        form = _form(shard)
        if form != self._read_form:
            self._hospital().forget()
            rows = sum(self._hospital().sizes().values())
            self._read_form = form
            log.warning("%s has changed and was read again: %d rows", shard, rows)
        digest = _digest(shard, form)
        if self._told == (run, digest):
            return
        before = self._before()
        if before[0] == run and before[1] != digest:
            log.warning("run %s goes on with other rows than it began with", run)
        sizes = self._hospital().sizes()
        self._audit.append("data", run=run, digest=digest, rows=sum(sizes.values()))
        write_private(self._kept, json.dumps(_FORMAT.seal({"run": run, "digest": digest})).encode())
        self._told = (run, digest)

    def _before(self) -> tuple[str, str]:
        if not self._kept.exists():
            return "", ""
        try:
            stored = json.loads(read_public(self._kept, _FORMAT.mend))
            values = _FORMAT.read(stored, ProvisionError, str(self._kept))
            return str(values["run"]), str(values["digest"])
        except (ProvisionError, ValueError, KeyError) as error:
            log.warning("which rows the last run began with isn't known: %s", error)
            return "", ""


def _form(shard: Path) -> _Form:
    """Names, sizes and times of a shard's files. Raises DataError if they can't be seen."""
    try:
        files = sorted(_files(shard)) if shard.is_dir() else [shard]
        found = [(file, file.stat()) for file in files]
    except OSError as error:
        raise DataError(f"{shard}: can't be read ({why(error, shard)})") from None
    return tuple((str(file), one.st_size, one.st_mtime_ns) for file, one in found)


def _files(folder: Path) -> list[Path]:
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def _digest(shard: Path, form: _Form) -> str:
    """SHA-256 of a file; of a folder, of its files' names and sizes and times."""
    if shard.is_dir():
        return hashlib.sha256(json.dumps(form).encode()).hexdigest()
    total = hashlib.sha256()
    try:
        with open(shard, "rb") as file:
            while data := file.read(_CHUNK_BYTES):
                total.update(data)
    except OSError as error:
        raise DataError(f"{shard}: can't be read ({why(error, shard)})") from None
    return total.hexdigest()
