"""The ``wardround`` command. Each command is a thin skin over a function that Python can call."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from wardround.client.process.cli import register as register_client
from wardround.common.audit.cli import register as register_audit
from wardround.common.durable.private import denied
from wardround.common.errors import ConfigError, Interrupted, ProvisionError, WardroundError
from wardround.common.process.command_help import Commands
from wardround.common.process.signals import interrupt_once
from wardround.server.process.cli import register as register_server
from wardround.server.provision.cli import register as register_provision
from wardround.simulations.privacy.cli import privacy
from wardround.simulations.search.cli import is_sweep, run_sweep
from wardround.simulations.search.cli import register as register_search

app = typer.Typer(
    name="wardround",
    cls=Commands,
    help="Federated learning for hospitals: the patients stay, the model travels.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A federation.toml. Default: ./federation.toml if it exists, else the built-in "
        "example (breast cancer data, five unequal hospitals).",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable."),
]


app.add_typer(privacy)
register_provision(app)
register_server(app)
register_client(app)
register_audit(app)
register_search(app)


@app.callback()
def root() -> None:
    """Federated learning for hospitals: the patients stay, the model travels."""


@app.command()
def simulate(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    task: Annotated[
        str | None, typer.Option(metavar="FILE.py:CLASS", help="Your own task; sets task.name.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with a run, or a sweep, that was stopped."),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="auto|sequential|cohort|processes|processes-sequential|ray",
            help="How clients are run; sets simulation.executor.",
        ),
    ] = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="TABLE.KEY=VALUE,VALUE,...",
            help="Run every combination of these values; repeatable.",
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Run each combination with these seeds.")
    ] = None,
) -> None:
    """Run a whole federation on this machine and compare it with local and pooled training.

    With `--sweep` or `--seeds`: many of them, compared with each other.
    """
    if resume is None and config is None and Path("federation.toml").is_file():
        config = Path("federation.toml")
    sets = list(overrides or [])
    if task is not None:
        sets.append(f'task.name="{_task_path(task)}"')
    if executor is not None:
        sets.append(f"simulation.executor={executor}")
    interrupt_once()
    if sweeps or seeds or is_sweep(resume):
        run_sweep(config, sets, sweeps or [], seeds, resume)
    else:
        _simulate_once(config, sets, resume)


def _simulate_once(config: Path | None, sets: list[str], resume: Path | None) -> None:
    """One run, with a live display and the comparison at the end."""
    from wardround.common.config.task import make_task
    from wardround.server.display.console import Progress, comparison_table, shown_path
    from wardround.simulations.run.simulate import load
    from wardround.simulations.run.simulate import simulate as run_simulation

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    settings = load(config, sets, resume)
    primary = make_task(settings).figure_table().primary
    progress = Progress(console, settings.federation.rounds, primary, settings.privacy.unit)
    try:
        with progress:
            if resume is not None:
                result = run_simulation(overrides=sets, resume=resume, observer=progress)
            else:
                result = run_simulation(settings, observer=progress)
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    if result.comparison:
        console.print(comparison_table(result.comparison, primary))
    console.print(Text(f"run directory: {shown_path(result.run_directory)}"))
    console.print(Text(f"report:        {shown_path(result.run_directory / 'report.html')}"))


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("federation.toml"),
) -> None:
    """Write a commented federation.toml to start from."""
    from wardround.simulations.run.simulate import default_config_text

    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(default_config_text())
    except FileExistsError:
        raise ConfigError(f"{path}: exists already; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from None
    print(f"wrote {path}; try: wardround simulate {path}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
) -> None:
    """Write a run's report.html again."""
    from wardround.common.run.directory import RunDirectory
    from wardround.common.run.report import report_run

    print(report_run(RunDirectory.open(run)))


@app.command()
def doctor(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="KIT|FEDERATION_TOML", help="A hospital's kit, or the server's.", readable=False
        ),
    ] = Path("federation.toml"),
    data: Annotated[
        Path | None, typer.Option(metavar="SHARD", help="Also hold this data against the task.")
    ] = None,
) -> None:
    """Check clock, certificates, reachability, proxy, GPU, disk and data, at either end."""
    from wardround.client.process.doctor import examine as examine_hospital
    from wardround.common.process.checks import worst
    from wardround.server.process.doctor import examine as examine_server

    console, findings = Console(highlight=False), []
    styles = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in examine_hospital(place, data) if place.is_dir() else examine_server(place, data):
        findings.append(finding)
        mark = Text(f"{finding.state:<8}", style=styles[finding.state])
        console.print(mark + Text(f"{finding.what}: {finding.text}"))
    raise typer.Exit(worst(findings))


@app.command()
def version() -> None:
    """Print the version."""
    print(f"wardround {importlib.metadata.version('wardround')}")


def main() -> None:
    """Entry point: one line and a non-zero exit for a user's mistake, never a traceback."""
    try:
        app()
    except WardroundError as error:
        print(f"wardround: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except PermissionError as error:
        print(f"wardround: {denied(error)}", file=sys.stderr)
        sys.exit(ProvisionError.exit_code)  # a person must mend it: services don't try again
    except KeyboardInterrupt as error:
        print(f"wardround: {error or 'interrupted'}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def _task_path(task: str) -> str:
    """``--task`` is meant from where the user stands, not from the configuration's folder."""
    file, colon, name = task.rpartition(":")
    return f"{Path(file).resolve()}{colon}{name}" if colon else task


if __name__ == "__main__":
    main()
