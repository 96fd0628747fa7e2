"""Studies of statistics over one standing network, one after the other: seconds each.

    python -m benchmarks.network_statistics [--quick] [--json PATH]

A server and three hospitals are processes of their own on loopback; sums are masked. Each study
asks for principal components of two columns in three steps, is approved by rules, and its package
comes to every hospital. ``alone``: each is submitted when the one before is delivered. ``queued``:
fifteen are open at a time, and two run side by side.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from wardround.common.transport.only_tls13 import hold_to_tls13  # isort: skip

hold_to_tls13()

from benchmarks.report import Row, arguments, emit
from tests.deployment.network import StandingNetwork, standing

ASKED = """
[procedure]
name = "statistics"
[[procedure.analyses]]
name = "parts"
kind = "pca"
columns = ["first", "second"]
"""
OPEN = 15
"""Studies that wait or run at a time: a network takes 20 of a researcher."""
RULES = 'procedures = ["train", "statistics"]\n'


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__ or "")
    alone, queued = (4, 10) if options.quick else (20, 100)
    with tempfile.TemporaryDirectory() as folder, standing(Path(folder) / "network") as made:
        for name in made.names:
            rules = made.kit(name) / "site.toml"
            rules.write_text(RULES + rules.read_text())
        made.start()
        made.delivered(_submit(made, "masked-first"))  # all are there, all is imported
        each = [_timed(made, f"masked-a{number}") for number in range(alone)]
        start = time.perf_counter()
        ids: list[str] = []
        for number in range(queued):
            if number >= OPEN:
                made.delivered(ids[number - OPEN], patience_s=600)
            ids.append(_submit(made, f"masked-q{number}"))
        made.delivered(*ids, patience_s=600)
        together = (time.perf_counter() - start) / queued
        made.stop()
    rows = [
        Row(
            "statistics",
            f"alone: seconds each, median of {alone}",
            statistics.median(each),
            "lower",
        ),
        Row("statistics", f"alone: slowest of {alone}", max(each), "lower"),
        Row("statistics", f"queued: seconds each, of {queued}", together, "lower"),
    ]
    emit("Studies of statistics over a network", rows, options.json)


def _submit(made: StandingNetwork, name: str) -> str:
    study = made.study(name, secure=True, more=ASKED)
    return made.submit(study)


def _timed(made: StandingNetwork, name: str) -> float:
    start = time.perf_counter()
    made.delivered(_submit(made, name))
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
