"""How a simulation ends when it is told to, when its disk is full, and when it is started twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wardround.common.durable.lock import take_lock
from wardround.common.errors import RunDirectoryError, TransportError
from wardround.server.observer import Observer
from wardround.simulations import parse_config, simulate
from wardround.simulations.executors.workers.shared_folder import SharedFolder, sweep

SHORT = ["federation.rounds=3", "simulation.clients=3", "simulation.baselines=false"]


class At(Observer):
    """Does something when a round is committed."""

    def __init__(self, server_round: int, do: object) -> None:
        self.server_round, self.do = server_round, do

    def round_committed(self, row: dict[str, object]) -> None:
        if row["round"] == self.server_round:
            self.do()  # type: ignore[operator]


def shared_folders(pid: int) -> set[Path]:
    """The folders in memory that this process holds; other tests have theirs meanwhile."""
    held = set()
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            held.add(Path(os.readlink(one)).parent)
    return {folder for folder in held if folder.name.startswith("wardround-")}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_workers_files_and_run_with_one_sentence(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Sent to the whole group, as a terminal and Slurm do, and twice, as people do."""
    command = [sys.executable, "-m", "wardround.common.process.main", "simulate"]
    settings = ["federation.rounds=100000", f"federation.runs={tmp_path}"]
    options = [part for text in settings for part in ("--set", text)]
    process = subprocess.Popen(
        [*command, "--executor", "processes", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end_s = time.monotonic() + 90
    while not list(tmp_path.glob("*/checkpoints/round-*[2-9]*")) and time.monotonic() < end_s:
        time.sleep(0.05)
    folders = shared_folders(process.pid)
    os.killpg(process.pid, number)
    time.sleep(0.05)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    (run,) = tmp_path.iterdir()
    assert process.returncode == 130
    assert errors == f"wardround: interrupted; go on with --resume {run}\n"
    assert folders and not any(folder.exists() for folder in folders)


def test_what_a_killed_simulation_left_in_memory_is_removed_by_the_next(tmp_path: Path) -> None:
    living = SharedFolder(tmp_path)
    (living.path / "request-1").write_bytes(b"x")
    dead = tmp_path / "wardround-dead"
    dead.mkdir()
    for name in ("lock", "request-1"):
        (dead / name).write_bytes(b"x")
    foreign = tmp_path / "wardround-without-lock"
    foreign.mkdir()
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([living.path, foreign])
    assert (living.path / "request-1").exists()
    living.remove()
    assert list(tmp_path.iterdir()) == [foreign]


def stop() -> None:
    raise KeyboardInterrupt


def test_a_run_is_gone_on_with_once_at_a_time(tmp_path: Path) -> None:
    config = parse_config("", [*SHORT, f"federation.runs={tmp_path}"])

    with pytest.raises(KeyboardInterrupt):
        simulate(config, observer=At(1, stop))
    (run,) = tmp_path.iterdir()
    with take_lock(run / "lock"):
        with pytest.raises(TransportError, match="already running"):
            simulate(resume=run)
    assert [row["round"] for row in simulate(resume=run).rounds] == [1, 2, 3]


def test_a_full_disk_is_one_sentence_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = simulate(parse_config("", [*SHORT, f"federation.runs={tmp_path / 'whole'}"]))
    config = parse_config("", [*SHORT, f"federation.runs={tmp_path / 'full'}"])
    sync = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(RunDirectoryError, match="No space left on device.*--resume") as caught:
        simulate(config, observer=At(1, lambda: monkeypatch.setattr(os, "fsync", full)))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(os, "fsync", sync)
    (run,) = (tmp_path / "full").iterdir()
    resumed = simulate(resume=run)
    assert (run / "model/model.safetensors").read_bytes() == (
        whole.run_directory / "model/model.safetensors"
    ).read_bytes()
    assert len(resumed.rounds) == 3


MOMENTUM = ('strategy.name="fedavgm"', "strategy.server_momentum=0.9")
"""Flower keeps it as a list, and a checkpoint's file has another order than the model."""
SCALES = ("compression.bits=8", "compression.first_scale=0.1")
"""Those of the next round follow from this one's."""


@pytest.mark.parametrize("own", [MOMENTUM, SCALES])
def test_what_goes_from_round_to_round_goes_on_with_its_layers(
    tmp_path: Path, own: tuple[str, ...]
) -> None:
    settings = [
        *SHORT,
        *own,
        'task.model.kind="mlp"',
        'task.model.norm="layer"',
        "task.model.hidden=[4]",
    ]
    whole = simulate(parse_config("", [*settings, f"federation.runs={tmp_path / 'whole'}"]))

    config = parse_config("", [*settings, f"federation.runs={tmp_path / 'stopped'}"])
    with pytest.raises(KeyboardInterrupt):
        simulate(config, observer=At(2, stop))
    (run,) = (tmp_path / "stopped").iterdir()
    simulate(resume=run)
    assert (run / "model/model.safetensors").read_bytes() == (
        whole.run_directory / "model/model.safetensors"
    ).read_bytes()


def test_who_has_spent_its_budget_is_known_after_a_stop(tmp_path: Path) -> None:
    """Else the next cohort is drawn with them, and other hospitals train than without the stop."""
    settings = [
        "federation.rounds=2",
        "federation.min_clients=2",
        "federation.clients_per_round=3",
        "simulation.clients=5",
        "simulation.baselines=false",
        "secure_aggregation.enabled=false",
        'privacy.unit="hospital"',
        "privacy.epsilon=30.0",
        "privacy.epsilon_limit=25.0",
    ]
    whole = simulate(parse_config("", [*settings, f"federation.runs={tmp_path / 'whole'}"]))

    config = parse_config("", [*settings, f"federation.runs={tmp_path / 'stopped'}"])
    with pytest.raises(KeyboardInterrupt):
        simulate(config, observer=At(1, stop))
    (run,) = (tmp_path / "stopped").iterdir()
    resumed = simulate(resume=run)
    assert [row["cohort"] for row in resumed.rounds] == [row["cohort"] for row in whole.rounds]
    assert not set(whole.rounds[0]["accepted"]) & set(whole.rounds[1]["accepted"])
