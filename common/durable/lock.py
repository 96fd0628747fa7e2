"""Locks of running processes: a second start is refused, and one can ask who runs.

Flock on a file that stays where it is (a lock on a file that was removed keeps nobody out of the
next one of that name), let go by the system whatever becomes of its process. The library filelock
has no way to ask who holds a lock without waiting for it, and none to keep one in forks; both are
needed here.

A lock is its process's own. A fork has none of them (one that outlives its parent, because it
still computes, would keep the next start out, which would be told to stop a process that is
gone), but for those that are taken ``with_forks``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from wardround.common.durable.files import hand_over
from wardround.common.durable.private import why
from wardround.common.errors import TransportError


class Lock:
    """A lock that is held: close it to let go. One that nobody closes is held until the process
    ends, so losing sight of it lets nobody else in."""

    def __init__(self, descriptor: int, with_forks: bool = False) -> None:
        self._descriptor: int | None = descriptor
        if not with_forks:
            _OWN.add(self)

    def close(self) -> None:
        """Let go, as far as it is this process's; again does nothing."""
        _OWN.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_OWN: set[Lock] = set()
"""Held by this process, and by none that it forks."""


def _forget_in_a_fork() -> None:
    for lock in [*_OWN]:
        lock.close()


os.register_at_fork(after_in_child=_forget_in_a_fork)


def try_lock(path: Path, make: bool = True, with_forks: bool = False) -> Lock | None:
    """The lock of a file, which then has this process's number; None if another holds it.

    make : the file, with mode 0600, where there is none
    with_forks : it is held until this process's forks end, too

    Raises OSError where it can't be opened, or the file system has no locks.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if make else 0)
    lock = Lock(descriptor := os.open(path, flags, 0o600), with_forks)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hand_over(path)
    except BlockingIOError:
        lock.close()
        return None
    except BaseException:
        lock.close()
        raise
    with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)
    return lock


def take_lock(path: Path) -> Lock:
    """``try_lock``. Raises TransportError if a process holds it, or this user may not."""
    try:
        lock = try_lock(path)
    except OSError as error:
        raise TransportError(f"{path}: can't be locked ({why(error, path)})") from None
    if lock is None:
        raise TransportError(f"{path}: already running ({told_holder(path)}); stop that one first")
    return lock


def told_holder(path: Path) -> str:
    """'process 12', or 'another process' where its number can't be known."""
    try:
        holder = lock_holder(path)
    except TransportError:
        holder = None
    return f"process {holder}" if holder else "another process"


def lock_holder(path: Path) -> int | None:
    """The process that holds a lock; None if nobody does. Raises TransportError if this user can't
    know, or it is held and who holds it isn't written down: a full disk, or it has just begun."""
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
        raise TransportError(f"{path}: is held, but by whom isn't in it; try again") from None
    return None
