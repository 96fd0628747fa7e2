"""What an interrupt doesn't cut in two: something on the disk and what is known of it in memory.

SIGTERM and Ctrl-C raise KeyboardInterrupt in the main thread, between any two of its steps
(``common/process/signals.py``). A process that ends by one still writes a few lines: one that
forgot that it had just written a line of its audit log would write its next one in the same place
of the chain. Within ``whole`` an interrupt waits for the end of the block.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Interrupts:
    """Of the main thread, which alone gets them."""

    def __init__(self) -> None:
        self.depth, self.waits = 0, False


_INTERRUPTS = _Interrupts()


@contextmanager
def whole() -> Iterator[None]:
    """What is in here is done or not begun, whenever an interrupt comes. Keep it short. Raises
    KeyboardInterrupt at its end where one came meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _INTERRUPTS.depth += 1
    try:
        yield
    finally:
        _INTERRUPTS.depth -= 1
        if _INTERRUPTS.waits and not _INTERRUPTS.depth:
            interrupt()


def interrupt() -> None:
    """Raise KeyboardInterrupt, at the end of ``whole`` if the main thread is in one."""
    _INTERRUPTS.waits = _INTERRUPTS.depth > 0
    if not _INTERRUPTS.waits:
        raise KeyboardInterrupt
