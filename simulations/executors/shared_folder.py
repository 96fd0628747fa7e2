"""A simulation's folder of shared memory, and the end of folders whose simulation died.

A folder belongs to whoever holds the lock of its ``lock`` file: the simulation and its forks. What
a killed one left behind (up to a model per message) is removed by the next simulation that makes a
folder. A lock, not a process number, says who lives: containers may share the memory and count
their processes each from 1.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "wardround-"
_LOCK = "lock"


class SharedFolder:
    """``path`` is a new folder, in memory where the system has a place for it."""

    def __init__(self, place: Path | None = None) -> None:
        place = place or _place()
        sweep(place)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            if _taken(self._lock):
                return
            os.close(self._lock)  # swept by another, between the last two lines

    def remove(self) -> None:
        """The folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep(place: Path) -> None:
    """Remove folders whose simulation is gone. What isn't ours to open stays."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR)
            try:
                if _taken(lock):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _place() -> Path:
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
