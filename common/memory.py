"""How much memory there is, and how this process takes it from the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""
_GROUPS = Path("/sys/fs/cgroup")
_LIMITS = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))
"""Of control groups version 2 and 1: the folder of their tree, and the file with the limit."""
_KNOWN = Path("/proc/meminfo")


@cache
def most_bytes() -> int:
    """The memory of this machine, or of the container or control group of this process where that
    has less."""
    limits = list(_group_limits())
    with contextlib.suppress(AttributeError, OSError, ValueError):  # another system
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=2**63)


def available_bytes() -> int:
    """How much of it could be had now without swapping, as far as the system tells."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in _KNOWN.read_text().splitlines())
        return min(most_bytes(), int(lines.get("MemAvailable", "").split()[0]) * 1024)
    return most_bytes()


def _group_limits() -> Iterator[int]:
    """What this process's control groups, from its own up to the root of what it sees, may use."""
    groups = [""]
    with contextlib.suppress(OSError):  # another system
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        groups += [line.split(":", 2)[2] for line in lines if line.count(":") >= 2]
    for group in groups:
        for tree, name in _LIMITS:
            folder = _GROUPS / tree
            place = folder / group.lstrip("/")
            for one in (place, *(p for p in place.parents if p.is_relative_to(folder))):
                with contextlib.suppress(OSError, ValueError):  # none, or 'max'
                    yield int((one / name).read_text())


def one_arena() -> None:
    """Let all threads allocate from one arena; to be called before there are many threads.

    glibc gives each thread an arena of its own, and keeps in each what was freed there: with a
    thread or two per hospital that is much more than what is in use. Does nothing where there is
    no glibc, or where ``MALLOC_ARENA_MAX`` is set.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
