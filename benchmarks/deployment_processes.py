"""Processes that a benchmark starts, and what /proc says of their memory (Linux)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType

KB = 1024


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(pid: int) -> dict[str, int]:
    """Sizes in bytes from /proc/PID/status (VmHWM, VmRSS, RssAnon ...); empty once it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * KB for name, size, _ in pairs}


class MemoryWatch(threading.Thread):
    """The most memory that processes have together, from ``begin`` on; looks every 20 ms.

    Parameters
    ----------
    pids : gives the processes
    """

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        super().__init__(daemon=True)
        self._pids, self._over = pids, threading.Event()
        self._base: dict[str, int] = {}
        self._peak: dict[str, int] = {}

    def begin(self) -> None:
        """What is there now is the base; peaks of before are forgotten."""
        for pid in self._pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._base = self._total()
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            for name, size in self._total().items():
                self._peak[name] = max(self._peak.get(name, 0), size)
            self._over.wait(0.02)

    def above_base_mb(self, name: str = "VmHWM") -> float:
        """The peak above the base in MB; ends the watch. VmHWM misses nothing between two looks."""
        self._over.set()
        base = self._base["VmRSS" if name == "VmHWM" else name]
        return (self._peak.get(name, base) - base) / 1e6

    def _total(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for pid in self._pids():
            for name, size in status_of(pid).items():
                total[name] = total.get(name, 0) + size
        return total


class Processes:
    """Processes of one measurement, in one folder, each with a log; all are ended at the end.

    Each computes with one thread: they share the cores. A process that detaches itself is found
    again by the mark in its environment.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._mark = f"BENCHMARK_FOLDER={folder}"
        own = {"OMP_NUM_THREADS": "1", "BENCHMARK_FOLDER": str(folder)}
        self._environment = {**os.environ, **(environment or {}), **own}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, name: str, command: list[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one; its output goes to NAME.log."""
        with open(self.folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self._environment, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        """What a process has said so far."""
        return (self.folder / f"{name}.log").read_text("utf-8", errors="replace")

    def wait_for(self, name: str, reached: Callable[[], bool], timeout_s: float) -> None:
        """Until ``reached``. Raises RuntimeError, with the log's end, if the time is over."""
        deadline = time.monotonic() + timeout_s
        while not reached():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} took over {timeout_s:g} s:\n{self.log(name)[-2000:]}")
            time.sleep(0.02)

    def everyone(self) -> dict[int, str]:
        """Command lines of all processes that come from here, by id."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                if self._mark.encode() in environment:
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(folder.name)] = command.decode(errors="replace")
            except OSError:
                continue
        return found

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.everyone():
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + 2
            while self.everyone() and time.monotonic() < deadline:
                for process in self._started:
                    process.poll()
                time.sleep(0.05)
        for process in self._started:
            process.wait()
