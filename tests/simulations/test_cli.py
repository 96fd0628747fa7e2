"""The command line: one line and a non-zero exit for a mistake, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wardround.simulations import cli


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["wardround", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    found = capsys.readouterr()
    return code, found.out, found.err


def test_simulate_prints_rounds_the_table_and_the_run(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = run(capsys, monkeypatch, "simulate", "--set", "federation.rounds=2")
    assert code == 0
    assert "round 2/2  hospitals 5/5" in out and "auc" in out and "pooled" in out
    (directory,) = (tmp_path / "runs").iterdir()
    assert f"run directory: runs/{directory.name}" in out
    (directory / "report.html").unlink()
    code, out, _ = run(capsys, monkeypatch, "report", str(directory))
    assert code == 0 and (directory / "report.html").exists()


def test_init_writes_a_file_that_runs_and_never_overwrites(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(capsys, monkeypatch, "init")[0] == 0
    text = Path("federation.toml").read_text()
    code, _, err = run(capsys, monkeypatch, "init")
    assert code == 2 and "exists already" in err
    assert Path("federation.toml").read_text() == text
    Path("federation.toml").write_text(text.replace('"breast-cancer"', '"mine"'))
    code, out, _ = run(capsys, monkeypatch, "simulate", "--set", "federation.rounds=1")
    assert code == 0 and "runs/mine-" in out, "./federation.toml is the default"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["simulate", "none.toml"], 2, "none.toml: no such file"),
        (["simulate", "--set", "training.lr=-1"], 2, "--set training.lr: input should be greater"),
        (["simulate", "--set", "task.columns.target=x"], 3, "no column 'x'; it has"),
        (["simulate", "--set", "task.kindd=binary"], 2, "task.kindd: unknown key; did you mean"),
        (["simulate", "--task", "none.py:X"], 4, "none.py: no such file"),
        (
            [
                "simulate",
                "--set",
                "strategy.name=krum",
            ],
            5,
            "compares single updates, but secure aggregation shows the server only their sum",
        ),
        (
            ["simulate", "--set", "simulation.clients=2", "--set", "federation.min_clients=2"],
            2,
            "secure_aggregation.min_cohort: 2 hospitals take part",
        ),
        (["simulate", "--resume", "nothing"], 8, "not a run directory"),
        (
            ["simulate", "--set", "federation.min_clients=6"],
            2,
            "federation.min_clients: is 6, and there are 5 hospitals; lower it",
        ),
        (["report", "nothing"], 8, "not a run directory"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch, arguments, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, monkeypatch, *arguments)
    assert found == code
    assert message in err and err.startswith("wardround: ") and err.count("\n") == 1


def test_help_and_version(capsys, monkeypatch) -> None:
    assert "--resume" in run(capsys, monkeypatch, "simulate", "--help")[1]
    assert run(capsys, monkeypatch, "version")[1].startswith("wardround 0.")


def test_an_own_task_needs_no_packaging(tmp_path, capsys, monkeypatch) -> None:
    task = Path(__file__).parents[2] / "examples" / "own_task" / "task.py"
    assert len(task.read_text().splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "federation.toml"
    config.write_text("[federation]\nrounds = 1\n[simulation]\nbaselines = false\n")
    code, out, err = run(capsys, monkeypatch, "simulate", "--task", f"{task}:Digits")
    assert code == 0, err
    assert "accuracy" in out


def test_the_command_line_answers_without_loading_what_computes() -> None:
    """`wardround client stop` must act at once."""
    code = (
        "import sys\nimport wardround.simulations.cli, wardround.client.site.stop\n"
        "print([name for name in ('torch', 'flwr', 'grpc', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
