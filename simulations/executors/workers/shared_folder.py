"""A simulation's folder of shared memory, and the end of folders whose simulation died.

A folder belongs to whoever holds the lock of its ``lock`` file: the simulation and its forks. What
a killed one left behind (up to a model per message) is removed by the next simulation that makes a
folder. A lock, not a process number, says who lives: containers may share the memory and count
their processes each from 1.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from wardround.common.durable.lock import try_lock

_PREFIX = "wardround-"
_LOCK = "lock"


class SharedFolder:
    """``path`` is a new folder, in memory where the system has a place for it."""

    def __init__(self, place: Path | None = None) -> None:
        place = place or _place()
        sweep(place)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
            with contextlib.suppress(FileNotFoundError):  # swept by another, before it was locked
                if (lock := try_lock(self.path / _LOCK, with_forks=True)) is not None:
                    self._lock = lock
                    return

    def remove(self) -> None:
        """The folder and all in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def sweep(place: Path) -> None:
    """Remove folders whose simulation is gone. What isn't ours to open stays."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if (lock := try_lock(folder / _LOCK, make=False)) is not None:
                with lock:
                    shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())
