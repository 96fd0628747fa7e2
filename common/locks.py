"""Locks of running processes: a second start is refused, and one can ask who runs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from wardround.common.errors import TransportError


def take_lock(path: Path) -> IO[str]:
    """An open, locked file with this process's number. Raises TransportError if one holds it."""
    file = open(path, "a+", encoding="ascii")
    os.chmod(path, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        holder = lock_holder(path)
        raise TransportError(
            f"{path}: already running (process {holder or 'unknown'}); stop that one first"
        ) from None
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid()}))
    file.flush()
    return file


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock; None if nobody does."""
    try:
        with open(path, "r+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return int(json.loads(file.read())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None
