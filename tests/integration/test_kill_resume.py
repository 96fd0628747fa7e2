"""kill -9 at many moments, then --resume: the very model of an uninterrupted run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASK = ROOT / "examples" / "own_task" / "task.py"


@pytest.mark.parametrize(
    ("strategy", "stride"),
    [
        ("name = 'scaffold'", 13),
        ("name = 'fedadam'\npersonal_layers = ['4.*']", 17),
        (
            "name = 'fedadam'\n[privacy]\nunit = 'hospital'\nnoise = 'distributed'\n"
            "clipping = 'adaptive'\nnoise_multiplier = 1.0",
            16,
        ),
    ],
)
def test_killed_at_any_durable_write_and_resumed_is_the_same_run(
    tmp_path: Path, strategy: str, stride: int
) -> None:
    config = tmp_path / "federation.toml"
    config.write_text(
        f"[federation]\nname = 'kill'\nrounds = 3\nclients_per_round = 5\n"
        "round_attempts = 9\n[secure_aggregation]\nthreshold = 0.5\n"
        f"[task]\nname = '{TASK}:Digits'\nchannels = 2\n"
        f"[training]\nlocal_steps = 2\n[strategy]\n{strategy}\n"
        "[simulation]\nclients = 6\nbaselines = false\npartition = 'dirichlet'\ndropout = 0.2\n"
        "min_examples = 30\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.kill_points", config, tmp_path / "runs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        env=os.environ | {"KILL_STRIDE": str(stride)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    killed = [case for case in cases if case["case"].startswith("killed")]
    assert len(killed) >= 5, "too few kill points were reached to mean anything"
    assert cases[-1]["case"] == "uninterrupted again"
    different = [case for case in cases if case["sha256"] != cases[0]["sha256"]]
    assert not different
