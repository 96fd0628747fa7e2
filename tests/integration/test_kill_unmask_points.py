"""kill -9 of a server at its durable writes: sums that it has written down are opened later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STRIDE = os.environ.get("KILL_STRIDE", "5")


@pytest.mark.parametrize("more", [(), ("blind",)], ids=["masks", "blind"])
def test_killed_at_any_durable_write_and_started_again(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    """A blind server's hospitals end with one model, which it never had."""
    stride = str(2 * int(STRIDE)) if more else STRIDE
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.integration.kill_unmask_points"),
            *(tmp_path / "cases", stride, *more),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, *killed, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(killed) > 60 // int(stride) - 5 and not last["killed"]
    assert any(case["kept"] for case in killed)
    assert more or any(8 in case["trained"] for case in killed)
    for case in killed:
        assert case["sha256"] == whole["sha256"]
        assert case["sums"] == case["sets"] == 5, "one survivor set for each sum"
        assert case["left"] == []
        for number in (1, 2):
            if f"train-{number}.journal" in case["kept"]:
                assert case["trained"][number - 1] == 4, "trained once"
