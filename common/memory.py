"""How this process takes memory from the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import os

_M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def one_arena() -> None:
    """Let all threads allocate from one arena; to be called before there are many threads.

    glibc gives each thread an arena of its own, and keeps in each what was freed there: with a
    thread or two per hospital that is much more than what is in use. Does nothing where there is
    no glibc, or where ``MALLOC_ARENA_MAX`` is set.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with contextlib.suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
