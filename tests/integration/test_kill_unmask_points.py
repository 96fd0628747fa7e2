"""kill -9 of a server at its durable writes: sums that it has written down are opened later."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SEEN, BLIND = 5, 10
"""Every so manieth write, of some sixty."""


def test_killed_at_any_durable_write_and_started_again(tmp_path: Path) -> None:
    """A blind server's hospitals end with one model, which it never had."""
    words = ["tests.integration.kill_unmask_points", tmp_path / "cases", str(SEEN), str(BLIND)]
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    check([case for case in cases if not case["blind"]], SEEN)
    check([case for case in cases if case["blind"]], BLIND)
    assert any(8 in case["trained"] for case in cases), "no round's keys were burnt"


def check(cases: list[dict[str, Any]], stride: int) -> None:
    """Each ends as the first one, which nothing disturbed."""
    whole, *killed, last = cases
    assert len(killed) > 60 // stride - 5 and not last["killed"]
    assert any(case["kept"] for case in killed)
    for case in killed:
        assert case["sha256"] == whole["sha256"]
        assert case["sums"] == case["sets"] == 5, "one survivor set for each sum"
        assert case["left"] == []
        for number in (1, 2):
            if f"train-{number}.journal" in case["kept"]:
                assert case["trained"][number - 1] == 4, "trained once"
