"""A party's points by several processes: the same bytes as by one.

The processes are plain commands (``work.py``) that talk over their pipes, so a program that has no
``if __name__ == "__main__"``, or is itself such a process, may start them. They live for one call,
and end with this process, however it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from wardround.common.errors import WardroundError
from wardround.common.linkage.points import TOKEN_BYTES, NotOnCurve
from wardround.common.linkage.work import GOOD, WORK

PIECE = 2048 * TOKEN_BYTES
"""What a process is given at a time: about .15 s."""
_ENDED, _MEND = "a process that computes points of the linkage ended", "start again"


def spread(work: bytes, scalar: bytes, points: bytes, workers: int) -> bytes:
    """What ``work`` (HIDE or RAISE) makes of points, in their order.

    workers : processes at most; 1, or few points: this one

    Raises NotOnCurve; WardroundError if a process ended.
    """
    pieces = [points[at : at + PIECE] for at in range(0, len(points), PIECE)]
    workers = min(workers, len(pieces) // 2)
    if workers < 2 or not sys.executable:  # an interpreter within another program
        return b"".join([WORK[work](piece, scalar) for piece in pieces])
    team = _Team(work, scalar, pieces)
    threads = [threading.Thread(target=team.one, daemon=True) for _ in range(workers)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        team.end()
    if team.wrong is not None:
        raise team.wrong
    return b"".join(team.found)


class _Team:
    """Pieces that threads take from, each with a process of its own."""

    def __init__(self, work: bytes, scalar: bytes, pieces: list[bytes]) -> None:
        self._head, self._pieces = work + scalar, pieces
        self._left: Iterator[int] = iter(range(len(pieces)))
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.found: list[bytes] = [b""] * len(pieces)
        self.wrong: Exception | None = None
        self._over = False

    def one(self) -> None:
        """A thread's part."""
        try:
            process = self._start()
            given, answers = process.stdin, process.stdout
            assert given is not None and answers is not None
            given.write(self._head)
            while (number := self._next()) is not None:
                self.found[number] = _answer(given, answers, self._pieces[number])
            given.close()
            process.wait()
        except NotOnCurve as error:
            self.wrong = error
        except (OSError, ValueError):  # it ended, or `end` came while it was at work
            self.wrong = self.wrong or WardroundError(_ENDED, mend=_MEND)
        except Exception as error:  # no piece is missed in silence
            self.wrong = error

    def end(self) -> None:
        """No process is left."""
        with self._lock:
            self._over = True
            for process in self._processes:
                process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError, ValueError):
                        pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "wardround.common.linkage.work"]
        path = os.pathsep.join(part for part in sys.path if part)
        with self._lock:
            if self._over:
                raise OSError("over")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": path},
            )
            self._processes.append(process)
        return process

    def _next(self) -> int | None:
        with self._lock:
            return None if self._over or self.wrong is not None else next(self._left, None)


def _answer(given: IO[bytes], answers: IO[bytes], piece: bytes) -> bytes:
    given.write(len(piece).to_bytes(4, "big") + piece)
    given.flush()
    state = answers.read(1)
    if state and state != GOOD:
        raise NotOnCurve("not the x-coordinate of a point of the curve")
    found = answers.read(len(piece))
    if len(found) != len(piece):
        raise OSError("ended")
    return found
