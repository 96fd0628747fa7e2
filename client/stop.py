"""The kill switch: ends a hospital's process from outside, and keeps it from starting.

Imports nothing heavy, so that it acts at once.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from wardround.common.errors import ProvisionError
from wardround.common.locks import lock_holder

STOPPED = "stopped"
"""The mark in a kit's ``state/`` that keeps the hospital from starting."""
LOCK = "lock"
_KILL_AFTER_S = 0.6


def stop_hospital(kit: Path, undo: bool, kill: Callable[[int, int], None] = os.kill) -> str:
    """The kill switch: within a second nothing leaves, and nothing starts until it is undone.

    Gives a line that says what was done. Raises ProvisionError if the folder is no kit.
    """
    state = kit / "state"
    if not (kit / "client.pem").is_file():
        raise ProvisionError(f"{kit}: not a start-up kit (it has no client.pem)")
    state.mkdir(mode=0o700, exist_ok=True)
    mark = state / STOPPED
    if undo:
        mark.unlink(missing_ok=True)
        return f"{kit}: may be started again"
    mark.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    pid = lock_holder(state / LOCK)
    if pid is None:
        return f"{kit}: was not running; it won't start until `--undo`"
    try:
        kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _KILL_AFTER_S
        while time.monotonic() < deadline:
            if lock_holder(state / LOCK) is None:
                return f"{kit}: stopped; it won't start until `--undo`"
            time.sleep(0.02)
        kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return f"{kit}: killed; it won't start until `--undo`"
