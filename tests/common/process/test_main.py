"""The command line: one line and a non-zero exit for a mistake, never a traceback."""

from __future__ import annotations

import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from wardround.common.durable.files import write_atomically
from wardround.common.process import main as cli
from wardround.common.process.table import COMMANDS


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
            "federation.min_clients: is 6, secure_aggregation.min_cohort 3, and there are 5 "
            "hospitals (simulation.clients = 5); lower it",
        ),
        (["report", "nothing"], 8, "not a run directory"),
        (["client", "kit"], 10, "kit: no such folder; a start-up kit has it: ask the coordinator"),
        (["client", "kit", "--data", ".", "--example-data"], 3, "give one of them, not both"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch, arguments, code, message) -> None:
    monkeypatch.chdir(tmp_path)
    found, _, err = run(capsys, monkeypatch, *arguments)
    assert found == code
    assert message in err and err.startswith("wardround: ") and err.count("\n") == 1


def test_a_full_disk_that_nothing_else_tells_of_is_one_line(tmp_path, capsys, monkeypatch) -> None:
    """Of a real one: no file of this process may grow beyond so much."""
    rows = tmp_path / "rows.csv"
    monkeypatch.setattr(cli, "app", lambda **_: write_atomically(rows, bytes(40_001)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        found, _, err = run(capsys, monkeypatch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handled)
    assert found == 8 and err.count("\n") == 1
    assert f"{rows}: can't be written (File too large); make room or mend its rights" in err
    assert not list(tmp_path.iterdir())


def test_help_and_version(capsys, monkeypatch) -> None:
    assert "--resume" in run(capsys, monkeypatch, "simulate", "--help")[1]
    assert run(capsys, monkeypatch, "version")[1].startswith("wardround 0.")


def test_an_own_task_needs_no_packaging(tmp_path, capsys, monkeypatch) -> None:
    task = Path(__file__).parents[3] / "examples" / "own_task" / "task.py"
    assert len(task.read_text().splitlines()) < 60
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "federation.toml"
    config.write_text("[federation]\nrounds = 1\n[simulation]\nbaselines = false\n")
    code, out, err = run(capsys, monkeypatch, "simulate", "--task", f"{task}:Digits")
    assert code == 0, err
    assert "accuracy" in out


HEAVY = ("torch", "flwr", "grpc", "numpy", "pydantic", "fastapi", "plotly", "jinja2", "sklearn")


def loaded_by(*arguments: str) -> tuple[set[str], str]:
    """What a process has imported once a command has answered, and what it said."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('MODULES', *sys.modules))\n"
        f"sys.argv = ['wardround', *{arguments!r}]\n"
        "from wardround.common.process.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said, _, modules = done.stdout.rpartition("MODULES")
    return set(modules.split()), said + done.stderr


@pytest.mark.parametrize(
    ("arguments", "never"),
    [
        ([], ("client", "server", "simulations")),
        (["--help"], ("client", "server", "simulations")),
        (["client", "stop", "nowhere"], ("server", "simulations")),
        (["client", "--help"], ("server", "simulations")),
        (["server", "--help"], ("client", "simulations")),
        (["audit", "show", "--help"], ("client", "server", "simulations")),
        (["simulate", "--help"], ("client",)),
    ],
    ids=" ".join,
)
def test_a_command_loads_neither_other_sides_nor_what_computes(arguments, never) -> None:
    """`wardround client stop` must act at once."""
    found, said = loaded_by(*arguments)
    assert said, "it answered"
    parts = {name.split(".")[1] for name in found if name.startswith("wardround.")}
    assert "common" in parts and not parts & set(never)
    heavy = HEAVY if "nowhere" not in arguments else HEAVY[:1]  # a kit is looked for
    assert found.isdisjoint(heavy)


def whole(command: Any = None, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by how it is called."""
    command = command or get_command(cli.app)
    if not hasattr(command, "commands"):
        yield path.strip(), command
        return
    for name in command.list_commands(None):
        yield from whole(command.get_command(None, name), f"{path} {name}")


def test_the_help_lists_every_command_in_the_group_of_whom_it_is_for(capsys, monkeypatch) -> None:
    _, out, _ = run(capsys, monkeypatch, "--help")
    places = [out.index(f" {panel} ") for panel in ("Hospital", "Coordinator", "Researcher")]
    assert places == sorted(places) and out.index(" Anyone ") > places[-1]
    for one in COMMANDS:
        assert f"{one.name} " in out
        loaded = get_command(cli.app).get_command(None, one.name)
        text = loaded.help.split("\n\n")[0].replace("\n", " ").rstrip(".")
        assert one.text.rstrip(".").split(",")[0] in text, "the table says what the command says"


@pytest.mark.parametrize(("path", "command"), list(whole()), ids=[name for name, _ in whole()])
def test_every_help_ends_with_an_example_that_is_understood(path: str, command: Any) -> None:
    shown = CliRunner().invoke(cli.app, [*path.split(), "--help"], env={"COLUMNS": "200"}).output
    (line,) = shown.rstrip().splitlines()[-1:]
    program, *words = shlex.split(line.strip().removeprefix("Example: "))
    assert program == "wardround"
    above = path.split()
    if words[: len(above)] != above:  # `wardround client KIT` is `wardround client run KIT`
        assert above.pop() == "run"
    command.make_context(path, words[len(above) :])


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("cl", {"client"}),
        ("client st", {"stop"}),
        ("simulate --executor p", {"processes", "processes-sequential"}),
        ("simulate --set training.l", {"training.lr=", "training.local_epochs="}),
        ("server --set strategy.name=fedad", {"strategy.name=fedadam"}),
    ],
)
def test_a_shell_completes_names(typed: str, offered: set[str], monkeypatch) -> None:
    environment = {
        "_WARDROUND_COMPLETE": "complete_zsh",
        "_TYPER_COMPLETE_ARGS": f"wardround {typed}",
    }
    done = CliRunner().invoke(cli.app, [], prog_name="wardround", env=environment)
    assert offered <= set(re.findall(r'"([^"]+)"', done.output)), done.output


def test_completing_a_command_loads_none() -> None:
    code = (
        "import os, sys, atexit\n"
        "os.environ.update(_WARDROUND_COMPLETE='complete_bash', COMP_WORDS='wardround s',"
        " COMP_CWORD='1')\n"
        "atexit.register(lambda: print(*[n for n in sys.modules if n.endswith('.cli')]))\n"
        "from wardround.common.process.main import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["serve", "server", "study", "simulate"]


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("server", "prometheus_client", "server"),
        ("simulate", "plotly.graph_objects", "simulate"),
        ("report", "jinja2", "simulate"),
        ("client", "sklearn.datasets", "simulate"),
    ],
)
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    capsys, monkeypatch, command: str, module: str, extra: str
) -> None:
    def missing(one: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr(cli, "_load", missing)
    code, _, err = run(capsys, monkeypatch, command, "x")
    assert (code, err.count("\n")) == (2, 1)
    assert (
        f"wardround {command} needs {module.partition('.')[0]}: pip install 'wardround[{extra}]'"
        in err
    )


def test_what_a_command_lacks_only_when_it_works_is_named_too(capsys, monkeypatch) -> None:
    def works(run: Path, **options: object) -> None:
        raise ModuleNotFoundError("No module named 'plotly'", name="plotly")

    command = get_command(cli.app).get_command(None, "report")
    monkeypatch.setattr(command, "callback", works)
    monkeypatch.setattr(cli, "_load", lambda one: command)
    code, _, err = run(capsys, monkeypatch, "report", "x")
    assert code == 2 and "wardround report needs plotly: pip install" in err


def test_a_module_that_no_extra_brings_is_no_users_mistake(monkeypatch) -> None:
    def missing(one: object) -> None:
        raise ModuleNotFoundError("No module named 'wardround.gone'", name="wardround.gone")

    monkeypatch.setattr(cli, "_load", missing)
    done = CliRunner().invoke(cli.app, ["server"])
    assert isinstance(done.exception, ModuleNotFoundError)
