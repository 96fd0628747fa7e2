"""Starts Wardround's real processes quickly: everything is imported once, then each is a fork.

A child has its own session, files and signals, and runs ``wardround``'s own command line; killing
it is killing a real process. Reads one JSON object per line on standard input:

    {"id": 1, "argv": [...], "cwd": "...", "log": "...", "env": {...},
     "patches": [["behaviours function", {...}], ...]}

and writes {"id": 1, "pid": ...}, later {"id": 1, "status": wait status}. Patches are functions of
``behaviours.py``, called in the child: there is no hook for tests in the product.
"""

from __future__ import annotations

from wardround.common.transport.only_tls13 import hold_to_tls13  # isort: skip

hold_to_tls13()

import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import tempfile
import types
from multiprocessing import forkserver, reduction, resource_tracker
from pathlib import Path
from typing import Any

import pandas  # noqa: F401 - pyarrow looks for it when it is first given a list
import tensorboard.backend.event_processing.event_accumulator
import tensorboard.summary.writer.event_file_writer  # noqa: F401

import wardround.client.process.cli
import wardround.client.process.doctor
import wardround.client.process.main
import wardround.common.run.report
import wardround.server.dashboard.app
import wardround.server.network.standing  # noqa: F401
import wardround.server.process.main  # noqa: F401
from tests.deployment import behaviours
from wardround.client.process.child_work import work
from wardround.common.process.main import main as wardround_main
from wardround.common.run.report import page


def run(job: dict[str, Any]) -> None:
    """In the child: become the process that was asked for."""
    os.setsid()
    descriptor = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    empty = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, empty), (1, descriptor), (2, descriptor)):
        os.dup2(source, target)
    os.chdir(job["cwd"])
    os.environ.update(job["env"])
    share_forkserver()
    sys.argv = ["wardround", *job["argv"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, arguments in job["patches"]:
        getattr(behaviours, name)(**arguments)
    wardround_main()


def _received(sock: socket.socket, size: int) -> list[int]:
    """What a process that wants a child sends. One that is killed while it asks ends nobody: a
    forkserver passes over a connection that was broken, and stops at one that ends."""
    try:
        return _RECEIVE(sock, size)
    except EOFError:
        raise ConnectionAbortedError(errno.ECONNABORTED, "who asked was killed") from None


_RECEIVE = reduction.recvfds


def start_forkserver() -> int:
    """The process that hospitals fork their computing children from; its number. In use each has
    one of its own; here they share one that is a fork of this process, which has imported all."""
    address = str(Path(tempfile.mkdtemp(prefix="fork-")) / "listener")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    alive, keep = os.pipe()
    resource_tracker.ensure_running()
    sys.modules["__main__"] = types.ModuleType("__main__")  # children needn't import this file
    child = os.fork()
    if not child:
        os.close(keep)
        reduction.recvfds = _received
        forkserver.main(listener.fileno(), alive, [work.__module__])
        os._exit(0)
    listener.close()
    os.close(alive)
    shared: Any = forkserver._forkserver
    shared._forkserver_address, shared._forkserver_alive_fd = address, keep
    return child


def share_forkserver() -> None:
    """In a child: the server that is there is used, whose parent this process isn't."""
    shared: Any = forkserver._forkserver
    shared.ensure_running = lambda: None


def spawn(job: dict[str, Any]) -> int:
    """Fork; the child never returns."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        run(job)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def say(**values: Any) -> None:
    """One line of JSON to the tests."""
    os.write(1, json.dumps(values).encode() + b"\n")


def main() -> None:
    """Until standard input ends; then kill whatever is left."""
    children: dict[int, int] = {}
    buffer = b""
    page._template()  # compiled once for all reports
    gc.collect()
    gc.freeze()  # else each child looks at all of torch again, and so copies its pages
    forker = start_forkserver()
    say(ready=True)
    while True:
        readable, _, _ = select.select([0], [], [], 0.02)
        if readable:
            data = os.read(0, 1 << 16)
            if not data:
                break
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                job = json.loads(line)
                pid = spawn(job)
                children[pid] = job["id"]
                say(id=job["id"], pid=pid)
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid in children:
                say(id=children.pop(pid), status=status)
    for pid in (*children, forker):
        os.kill(pid, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
