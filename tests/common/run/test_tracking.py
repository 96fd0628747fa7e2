"""A run's figures in trackers: each round once, sums and means alone, a sentence where it fails."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wardround.common.errors import ConfigError
from wardround.common.run.cli import commands
from wardround.common.run.directory import RunDirectory
from wardround.common.run.tracking.track import bring, metrics_of


def line(number: int) -> dict[str, Any]:
    overall = {"test": {"auc": 0.7 + number / 100, "brier": float("nan"), "f1 of: x": 0.5}}
    return {
        "round": number,
        "train_loss": 1 / number,
        "overall": overall,
        "hospitals": {"canary": {"test": {"auc": 0.9}}, "other": {"test": {"auc": 0.8}}},
        "privacy": {"canary": {"epsilon": 1.5}},
        "bytes_up": 10,
        "bytes_down": 20,
        "seconds": {"total": 0.5},
    }


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunDirectory.create(tmp_path / "runs", "demo", "")
    made.update(name="demo", status="complete", chosen_round=2)
    for number in (1, 2):
        made.append_round(line(number))
    return made


def test_no_number_and_no_name_of_one_hospital_is_tracked() -> None:
    found = metrics_of(line(2))
    assert found == {
        **{"round": 2.0, "train/loss": 0.5, "test/auc": 0.72, "test/f1 of_ x": 0.5},
        **{"test/auc_mean": pytest.approx(0.85), "seconds": 0.5},
        **{"traffic/bytes_up": 10.0, "traffic/bytes_down": 20.0},
    }


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in tags}


def test_tensorboard_has_each_round_once(run: RunDirectory, tmp_path: Path) -> None:
    assert [bring(run, "tensorboard", str(tmp_path / "tb")) for _ in range(2)] == [2, 0]
    run.append_round(line(3))
    assert bring(run, "tensorboard", str(tmp_path / "tb")) == 1
    found = scalars(tmp_path / "tb" / run.path.name)
    assert [step for step, _ in found["test/auc"]] == [1, 2, 3]
    assert [value for _, value in found["test/auc"]] == pytest.approx([0.71, 0.72, 0.73])
    assert not any("canary" in tag or "epsilon" in tag for tag in found)


def test_wandb_stays_in_its_folder_and_names_nobody(run: RunDirectory, tmp_path: Path) -> None:
    place = tmp_path / "files"
    assert [bring(run, "wandb", str(place)) for _ in range(2)] == [2, 0]
    (written,) = place.rglob("*.wandb")
    told = written.read_bytes()
    assert b"test/auc" in told and b"canary" not in told
    host = socket.gethostname().encode()  # as a record has a text: its length before it
    assert bytes([len(host)]) + host not in told and str(Path.home()).encode() not in told
    (place / f"{run.path.name}.wandb.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged.*all rounds are written again"):
        bring(run, "wandb", str(place))


def test_what_fails_is_a_sentence(run: RunDirectory, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(ConfigError, match="can't be written to.*--uri"):
        bring(run, "tensorboard", str(blocked / "below"))
    for given in (["--uri", "x"], ["--to", "mlflow"]):
        found = CliRunner().invoke(commands, [str(run.path), *given])
        assert isinstance(found.exception, ConfigError) and "--uri" in str(found.exception)


# --- a real server --------------------------------------------------------------------------------
SERVER = os.environ.get("WARDROUND_MLFLOW") or ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [SERVER, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    # a tracking server alone: no workers for jobs, which take longer to start and end than it does
    env = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    env |= {"MLFLOW_DISABLE_TELEMETRY": "true"}
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, stdout=quiet, stderr=quiet, env=env, start_new_session=True
    ) as process:
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
        os.killpg(process.pid, signal.SIGKILL)  # itself and its worker: nothing of it is kept


@pytest.mark.skipif(
    shutil.which(SERVER) is None,
    reason="no MLflow server: python -m venv V && V/bin/pip install 'mlflow==3.17.*', "
    "WARDROUND_MLFLOW=V/bin/mlflow",
)
def test_an_mlflow_server_has_each_round_once(run: RunDirectory, server: str) -> None:
    from mlflow import MlflowClient

    assert [bring(run, "mlflow", server) for _ in range(2)] == [2, 0]
    run.append_round(line(3))
    assert bring(run, "mlflow", server) == 1
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    (one,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(one.info.run_id, "test/auc")
    assert [(m.step, round(m.value, 2)) for m in history] == [(1, 0.71), (2, 0.72), (3, 0.73)]
    assert one.data.tags["wardround.status"] == "complete" and "canary" not in str(one.data)
