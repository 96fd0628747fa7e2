"""What Ctrl-C and SIGTERM do to a command: end it once, in order.

``timeout``, Slurm and ``docker stop`` send SIGTERM, people press Ctrl-C, often twice. Both end a
command the same way, and what follows at once changes nothing: a second exception in the middle of
the first one's cleaning up would leave workers, files and the sentence on how to go on behind.
"""

from __future__ import annotations

import signal
import time
from types import FrameType

from wardround.common.durable.whole import interrupt

GRACE_S = 3.0
"""So long after the first signal others are not heard; later ones are, should the end hang."""


def interrupt_once() -> None:
    """From now on SIGINT and SIGTERM raise KeyboardInterrupt in the main thread, the first at once
    (or at the end of what is done ``whole``) and another one only after ``GRACE_S``. Call it in the
    main thread."""
    last_s = -GRACE_S

    def heard(number: int, frame: FrameType | None) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        if now_s - last_s >= GRACE_S:
            last_s = now_s
            interrupt()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, heard)
