"""Points by several processes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from wardround.common.errors import WardroundError
from wardround.common.linkage import many
from wardround.common.linkage.points import NotOnCurve, hidden, raised, scalar_of
from wardround.common.linkage.work import HIDE, RAISE

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
SCALAR = scalar_of(b"1" * 32, b"run")
DIGESTS = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(50))


def children(process: int | None = None) -> set[str]:
    """Processes of this one, those that have ended and weren't waited for among them."""
    found: set[str] = set()
    for task in Path(f"/proc/{process or os.getpid()}/task").iterdir():
        with suppress(OSError):  # a thread that has just ended
            found |= {*(task / "children").read_text().split()}
    return found


def works(process: str) -> bool:
    """Whether it hasn't ended; whoever inherits it may take its time to notice."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(done: Callable[[], bool]) -> None:
    for _ in range(400):
        if done():
            return
        time.sleep(0.05)
    raise AssertionError("waited for 20 s")


def test_several_processes_give_what_one_gives_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PIECE", 32 * 8)
    before = children()
    tokens = many.spread(HIDE, SCALAR, DIGESTS, 2)
    assert tokens == hidden(DIGESTS, SCALAR)
    other = scalar_of(b"2" * 32, b"run")
    assert many.spread(RAISE, other, tokens, 2) == raised(tokens, other)
    off = (1).to_bytes(32, "big")  # 1 - 3 + b is no square: no point has this x
    with pytest.raises(NotOnCurve):
        many.spread(RAISE, other, tokens[:-32] + off, 2)
    assert children() == before


def test_a_process_that_is_killed_is_said() -> None:
    before, long = children(), DIGESTS * 2000

    def kill() -> None:
        until(lambda: bool(children() - before))
        os.kill(int(min(children() - before)), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WardroundError, match="points of the linkage ended; start again"):
        many.spread(HIDE, SCALAR, long, 2)
    killer.join()
    assert children() == before


def test_processes_end_with_the_one_that_started_them() -> None:
    code = (
        "from wardround.common.linkage.many import spread\n"
        "from wardround.common.linkage.work import HIDE\n"
        "spread(HIDE, bytes(31) + bytes([1]), bytes(32 * 1_000_000), 2)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        until(lambda: len(children(parent.pid)) == 2)
        started = children(parent.pid)
        parent.kill()
    until(lambda: not any(map(works, started)))
