"""One process's share of a party's points: ``many.py`` starts it, and it ends with its pipe.

It is told on its standard input what to do and by which scalar, and then given pieces, one by one;
each is answered before the next. So nothing stands on a command line, in a file or in the
environment, and whoever started it may be killed at any time.
"""

from __future__ import annotations

import sys
from typing import IO

from wardround.common.linkage.points import SCALAR_BYTES, NotOnCurve, hidden, raised

HIDE, RAISE = b"h", b"r"
WORK = {HIDE: hidden, RAISE: raised}
GOOD, BAD = b"+", b"-"


def serve(given: IO[bytes], answers: IO[bytes]) -> None:
    """Answer pieces until there are no more: each is its length (4 bytes, big-endian) and its
    points; an answer is GOOD and as many points, or BAD."""
    work = WORK[given.read(1)]
    scalar = given.read(SCALAR_BYTES)
    while len(head := given.read(4)) == 4:
        piece = given.read(int.from_bytes(head, "big"))
        try:
            answers.write(GOOD + work(piece, scalar))
        except NotOnCurve:
            answers.write(BAD)
        answers.flush()


if __name__ == "__main__":
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
