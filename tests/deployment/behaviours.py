"""What tests make a process do: die at a named point, lie, be slow. Called in the zygote's child.

Each function replaces something of the product in this process only.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _owner(place: str) -> tuple[Any, str]:
    """'package.module:Class.method' as the object that has it, and its name there."""
    module, _, path = place.partition(":")
    owner = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def wrap(place: str, around: Callable[..., Any]) -> None:
    """Replace a function by ``around(original, *arguments)``."""
    owner, name = _owner(place)
    original = getattr(owner, name)

    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        return around(original, *args, **kwargs)

    setattr(owner, name, call)


def die(place: str, when: str = "before", count: int = 1, once: str = "", has: str = "") -> None:
    """SIGKILL this process at the ``count``-th call of ``place``.

    once : a file that is made then; where it exists nothing happens, so that a process that is
        started again with the same patches lives
    has : counts only calls whose arguments' text has this
    """
    calls = 0

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        if has and has not in repr((args, kwargs)):
            return original(*args, **kwargs)
        calls += 1
        if calls != count or (once and Path(once).exists()):
            return original(*args, **kwargs)
        if when == "after":
            original(*args, **kwargs)
        if once:
            Path(once).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    wrap(place, around)


def slow(place: str, seconds: float) -> None:
    """Sleep before every call of ``place``."""

    def around(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        time.sleep(seconds)
        return original(*args, **kwargs)

    wrap(place, around)


def constant(place: str, value: Any) -> None:
    """Replace a module's or class's value."""
    owner, name = _owner(place)
    setattr(owner, name, value)


def version(text: str) -> None:
    """A hospital that says it has another version."""
    import wardround.client.transport.connection as connection

    connection.own_version = lambda: text  # type: ignore[assignment]


def record_unmasking(file: str) -> None:
    """Write down every survivor set that this hospital opened a sum for, and with which shares."""
    from wardround.client.secagg import SecureClient
    from wardround.common.secagg.messages import Shares, UnmaskRequest

    original = SecureClient.unmask

    def unmask(self: SecureClient, data: bytes) -> bytes:
        answer = original(self, data)
        request, shares = UnmaskRequest.from_bytes(data), Shares.from_bytes(answer)
        line = {
            "group": request.group.hex(),
            "index": request.index,
            "survivors": list(request.survivors),
            "shares": [share.hex() for share in shares.shares],
        }
        with open(file, "a", encoding="ascii") as output:
            output.write(json.dumps(line) + "\n")
        return answer

    SecureClient.unmask = unmask  # type: ignore[method-assign]
