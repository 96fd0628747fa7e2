"""The kill switch: ends a hospital's process from outside, and keeps it from starting.

Imports nothing heavy, so that it acts at once.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

from wardround.common.durable.files import hand_over
from wardround.common.durable.lock import lock_holder
from wardround.common.durable.private import private_folder, why
from wardround.common.errors import ProvisionError, TransportError

STOPPED = "stopped"
"""The mark in a kit's ``state/`` that keeps the hospital from starting."""
LOCK = "lock"
_KILL_AFTER_S = 0.6
_MARK_SEEN_S = 1.5
"""A running client looks for the mark twice a second."""


def is_stopped(state: Path) -> bool:
    """Whether the mark is there. Who can't look is stopped: nothing is done against a mark that is
    only hidden."""
    try:
        os.stat(state / STOPPED)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    return True


def stop_hospital(kit: Path, undo: bool, kill: Callable[[int, int], None] = os.kill) -> str:
    """The kill switch: within a second nothing leaves, and nothing starts until it is undone.

    Gives a line that says what was done. Raises ProvisionError if the folder is no kit, or if this
    user can't do or see all of that: the line says what was done all the same, and who can.
    """
    state = _state(kit)
    mark = state / STOPPED
    if undo:
        try:
            mark.unlink(missing_ok=True)
        except OSError as error:
            raise ProvisionError(f"{mark}: can't be removed ({why(error, mark)})") from None
        return f"{kit}: may be started again"
    unmarked = _set(mark)  # before the process ends: what starts it again must find the mark
    try:
        ended = _end(state / LOCK, kill)
    except ProvisionError as error:
        raise ProvisionError(f"{kit}: {unmarked or 'the mark is set'}; {error}") from None
    except TransportError as error:
        seen = "" if unmarked else "; one that runs sees the mark and ends within a second"
        raise ProvisionError(
            f"{kit}: {unmarked or 'the mark is set'}; whether a client runs can't be seen from "
            f"here{seen} ({error})"
        ) from None
    if unmarked:
        raise ProvisionError(f"{kit}: {ended}, but it may be started again: {unmarked}")
    return f"{kit}: {ended}; it won't start until `--undo`"


def _state(kit: Path) -> Path:
    """The kit's ``state/``. Raises ProvisionError if there is no kit, or it can't be seen."""
    try:
        if not stat.S_ISREG(os.stat(kit / "client.pem").st_mode):
            raise FileNotFoundError
    except (FileNotFoundError, NotADirectoryError):
        raise ProvisionError(f"{kit}: not a start-up kit (it has no client.pem)") from None
    except OSError as error:
        raise ProvisionError(f"{kit}: can't be looked into ({why(error, kit)})") from None
    return kit / "state"


def _set(mark: Path) -> str:
    """Set the mark; why it couldn't be, or ''."""
    try:
        private_folder(mark.parent)
        mark.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        hand_over(mark)
    except OSError as error:
        return f"{mark} can't be set ({why(error, mark)})"
    except ProvisionError as error:
        return str(error)
    return ""


def _end(lock: Path, kill: Callable[[int, int], None]) -> str:
    """End the process that holds the lock, and say how. Raises ProvisionError if it may live on,
    TransportError if this user can't know."""
    pid = lock_holder(lock)
    if pid is None:
        return "was not running"
    try:
        kill(pid, signal.SIGTERM)
        if _is_free_within(lock, _KILL_AFTER_S):
            return "stopped"
        kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        if _is_free_within(lock, _MARK_SEEN_S):
            return "stopped"
        raise ProvisionError(
            f"process {pid} is another user's and can't be ended from here; run this as that user"
        ) from None
    return "killed"


def _is_free_within(lock: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if lock_holder(lock) is None:
            return True
        time.sleep(0.02)
    return False
