"""Locks of running processes: a second start is refused, and one can ask who runs."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from wardround.common.durable.private import hand_over, why
from wardround.common.errors import TransportError


def take_lock(path: Path) -> IO[str]:
    """An open, locked file with this process's number. Raises TransportError if one holds it, or
    this user may not."""
    try:
        file = open(path, "a+", encoding="ascii", opener=_private)
    except OSError as error:
        raise TransportError(f"{path}: can't be locked ({why(error, path)})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        holder = lock_holder(path)
        raise TransportError(
            f"{path}: already running (process {holder or 'unknown'}); stop that one first"
        ) from None
    hand_over(path)
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid()}))
    file.flush()
    return file


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock; None if nobody does. Raises TransportError if this user can't
    know."""
    try:
        with open(path, encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(json.loads(file.read())["pid"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TransportError(f"{path}: can't be read ({why(error, path)})") from None
    except (ValueError, KeyError, TypeError):
        return None
    return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
