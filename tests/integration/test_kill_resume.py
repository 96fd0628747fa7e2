"""kill -9 at many moments, then --resume: the very model of an uninterrupted run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TASK = ROOT / "examples" / "own_task" / "task.py"
STRATEGIES = {
    "clients' and the server's memory": "name = 'scaffold'\npersonal_layers = ['4.*']",
    "noise, norms and moments": (
        "name = 'fedadam'\n[privacy]\nunit = 'hospital'\nnoise = 'distributed'\n"
        "clipping = 'adaptive'\nnoise_multiplier = 1.0"
    ),
}


def test_killed_at_any_durable_write_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    for name, strategy in STRATEGIES.items():
        (tmp_path / f"{name}.toml").write_text(
            f"[federation]\nname = 'kill'\nrounds = 3\nclients_per_round = 5\n"
            "round_attempts = 9\n[secure_aggregation]\nthreshold = 0.5\n"
            f"[task]\nname = '{TASK}:Digits'\nchannels = 2\n"
            f"[training]\nlocal_steps = 2\n[strategy]\n{strategy}\n"
            "[simulation]\nclients = 6\nbaselines = false\npartition = 'dirichlet'\n"
            "dropout = 0.2\nmin_examples = 30\n"
        )
    files = [str(tmp_path / f"{name}.toml") for name in STRATEGIES]
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.kill_points", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    for name in STRATEGIES:
        whole, *killed = [case for case in cases if case["config"] == name]
        assert whole["case"] == "uninterrupted"
        assert len(killed) == 4, "a kill point was not reached"
        assert not [case for case in killed if case["sha256"] != whole["sha256"]]
