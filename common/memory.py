"""How much memory there is, and how this process takes it from the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import cache
from pathlib import Path

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


@cache
def most_bytes() -> int:
    """The memory of this machine, or of its container where that has less."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):  # another system
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):  # none, or 'max'
        limits.append(int(_CONTAINER.read_text()))
    return min(limits, default=2**63)


def one_arena() -> None:
    """Let all threads allocate from one arena; to be called before there are many threads.

    glibc gives each thread an arena of its own, and keeps in each what was freed there: with a
    thread or two per hospital that is much more than what is in use. Does nothing where there is
    no glibc, or where ``MALLOC_ARENA_MAX`` is set.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
