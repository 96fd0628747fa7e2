"""What each test costs: ``python -m pytest -p tests.costs tests/FOLDER`` prints the dearest.

Processor seconds of this process and of all that it started, also of those that still run, which a
busy machine lengthens little; seconds by the clock also have what was waited for.
"""

from __future__ import annotations

import os
import resource
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

SHOWN = 30
_TICKS = os.sysconf("SC_CLK_TCK")
_costs: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])


def _running(process: int) -> float:
    """Processor seconds of a process's descendants, and of theirs that have ended."""
    total = 0.0
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = [int(word) for word in file.read_text().split()]
        except OSError:
            continue
        for child in children:
            try:
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15])) / _TICKS + _running(child)
    return total


def _now() -> tuple[float, float]:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = time.process_time() + ended.ru_utime + ended.ru_stime + _running(os.getpid())
    return spent, time.monotonic()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test with what its fixtures cost."""
    before = _now()
    found = yield
    for place, (start, end) in enumerate(zip(before, _now(), strict=True)):
        _costs[item.nodeid][place] += end - start
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("processor s, clock s")
    for name, (spent, passed) in sorted(_costs.items(), key=lambda one: -one[1][0])[:SHOWN]:
        terminalreporter.write_line(f"{spent:8.2f} {passed:8.2f} {name}")
