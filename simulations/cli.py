"""``wardround simulate`` and ``wardround init``: where a researcher begins."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from wardround.common.command_line import (
    ConfigArgument,
    SetOption,
    example,
    here,
    new_commands,
    new_console,
)
from wardround.common.errors import ConfigError, Interrupted
from wardround.common.process.main import main as main  # where older environments look for it
from wardround.common.process.signals import interrupt_once
from wardround.server.members.member import Member
from wardround.server.observer import Observer
from wardround.simulations.search.cli import is_sweep, run_sweep

commands = new_commands()
_SECONDS = 2.0
"""Between two lines of progress where no line can change."""


def _executors(incomplete: str) -> list[str]:
    from wardround.common.config.completion import words_of

    return [one for one in words_of("simulation.executor") if one.startswith(incomplete)]


SeedsOption = Annotated[
    str | None, typer.Option(metavar="N,N,...", help="Run each combination with these seeds.")
]
LeaveOneOutOption = Annotated[
    bool,
    typer.Option(
        "--leave-one-out",
        help="A run without each hospital in turn, evaluated at the one that it lacks.",
    ),
]


@commands.command(
    epilog=example("wardround simulate federation.toml --set training.lr=0.1 --seeds 1,2,3")
)
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
            autocompletion=_executors,
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
    seeds: SeedsOption = None,
    leave_one_out: LeaveOneOutOption = False,
) -> None:
    """Run a whole federation on this machine and compare it with local and pooled training.

    With `--sweep` or `--seeds`: many of them, compared with each other.
    """
    if resume is None:
        config = here(config)
    sets = list(overrides or [])
    if task is not None:
        sets.append(f'task.name="{_task_path(task)}"')
    if executor is not None:
        sets.append(f"simulation.executor={executor}")
    interrupt_once()
    if leave_one_out or sweeps or seeds or is_sweep(resume):
        run_sweep(config, sets, sweeps or [], seeds, resume, leave_one_out)
    else:
        _simulate_once(config, sets, resume)


def _simulate_once(config: Path | None, sets: list[str], resume: Path | None) -> None:
    """One run, with a live display and the comparison at the end."""
    from wardround.common.config.task import make_task
    from wardround.server.display.console import Progress, comparison_table, shown_path
    from wardround.simulations.run.simulate import load
    from wardround.simulations.run.simulate import simulate as run_simulation

    console = new_console()
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


class _Lines(Observer):
    """Steps in a line that changes; where none can, in one now and then."""

    def __init__(self, console: Console, show: Callable[[str], None]) -> None:
        self._console, self._show, self._last = console, show, -math.inf

    def begins(self, lines: list[str]) -> None:
        self.warnings(lines)

    def progress(self, text: str) -> None:
        self._show(text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last >= _SECONDS:
            self._last = now
            self._console.print(Text(text))

    def members(self, members: list[Member], refused: list[dict[str, str]]) -> None:
        self.warnings([f"note: {line}" for member in members for line in member.warnings])
        self.warnings([f"{row['hospital']} can't take part: {row['reason']}" for row in refused])

    def replied(self, hospital: str, step: str, reason: str | None) -> None:
        if reason:
            self._console.print(Text(f"{hospital} refused ({step}): {reason}"))

    def warnings(self, lines: list[str]) -> None:
        for line in lines:
            self._console.print(Text(line))


@commands.command(epilog=example("wardround analyse federation.toml"))
def analyse(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Go on with one that was stopped."),
    ] = None,
) -> None:
    """Describe the data of all hospitals, or what else `procedure.name` asks, simulated here.

    Between machines: submit a study with `[procedure] name = "describe"`, `"statistics"`,
    `"linkage"`, `"vertical"`, ...
    """
    from wardround.common.linkage.procedure import TOLD as LINKAGE
    from wardround.common.linkage.procedure import sentence
    from wardround.common.procedures.statistics.procedure import FILE
    from wardround.common.vertical.page import text as vertical_text
    from wardround.common.vertical.told import TOLD as VERTICAL
    from wardround.server.display.answers import answers
    from wardround.server.display.console import shown_path
    from wardround.simulations.run.analyse import analyse as run_analysis

    interrupt_once()
    console, path = new_console(), here(config) if resume is None else None

    with console.status("") as status:
        found = run_analysis(
            path,
            overrides=list(overrides or []),
            resume=resume,
            observer=_Lines(console, status.update),
        )
    for text in answers(found.published[FILE], console.width) if FILE in found.published else ():
        console.print(text)
    if LINKAGE in found.published:
        console.print(Text(sentence(found.published[LINKAGE])))
    if VERTICAL in found.published:
        console.print(Text(vertical_text(found.published[VERTICAL])))
    for name in found.published:
        console.print(Text(f"{name}: {shown_path(found.run_directory / name)}"))
    console.print(Text(f"report: {shown_path(found.run_directory / 'report.html')}"))


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER|FILE",
        help="Look at these tables, images or texts, and write a file that runs with them: a "
        "folder with a file or folder for each hospital, or one data set.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option("--target", metavar="COLUMN", help="With --data: the column to predict."),
]
PositiveOption = Annotated[
    list[str] | None,
    typer.Option(
        "--positive",
        metavar="TEXT",
        help="With --data: a text of the target, or a class, that means 1; repeatable.",
    ),
]
DialectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--dialect",
        metavar="KEY=VALUE",
        help="With --data: a key of [task.dialect], as decimal=, where files can be read in two "
        "ways; repeatable.",
    ),
]


@commands.command(epilog=example("wardround init --data hospitals --target died"))
def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path("federation.toml"),
    data: DataOption = None,
    target: TargetOption = None,
    positive: PositiveOption = None,
    dialect: DialectOption = None,
    network: Annotated[
        bool,
        typer.Option(
            "--network", help="Write network.toml and study.toml instead, into PATH's folder."
        ),
    ] = False,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            help="With --data: write a study of statistics instead, for `wardround analyse`; "
            "--target is then the outcome.",
        ),
    ] = False,
) -> None:
    """Write a commented federation.toml to start from, or the files of a network and a study.

    With `--data` it is made for these data: types, units, identifiers, spellings of categories and
    what doesn't fit between hospitals are told, and the file is tried before it is written.
    """
    from wardround.simulations.default import default_config_text

    if data is None and (target or positive or dialect or statistics):
        raise ConfigError(
            "--target, --positive, --dialect and --statistics go with --data FOLDER-OR-FILE"
        )
    if data is not None:
        if network:
            raise ConfigError("--data and --network don't go together; choose one")
        _init_data(path, data, target, positive or [], dialect or [], statistics)
    elif network:
        _init_network(path)
    else:
        _write(path, default_config_text())
        print(f"wrote {path}; try: wardround simulate {path}")


def _init_network(path: Path) -> None:
    from wardround.simulations.default import network_texts

    texts = {path.parent / name: text for name, text in network_texts().items()}
    for file in texts:  # none of them, or all
        if file.exists():
            raise ConfigError(f"{file}: exists already; write into another folder")
    for file, text in texts.items():
        _write(file, text)
    first, second = texts
    print(f"wrote {first} and {second}; try: wardround simulate {second}")
    print(f"next: wardround provision {first}")


def _init_data(
    path: Path,
    data: Path,
    target: str | None,
    positive: list[str],
    dialect: list[str],
    statistics: bool,
) -> None:
    """Look, decide, try, write, and show why."""
    from wardround.common.text import one_line
    from wardround.simulations.beginning.start import start

    if path.exists():
        raise ConfigError(f"{path}: exists already; name another file")
    print(f"looking at {data}, and trying what is found: up to a minute where that reads a model")
    begun = start(path, data, target, positive, dialect, statistics)
    _write(path, begun.text)
    console = new_console(100)
    for table in begun.tables:
        console.print(table)
    next_ = "analyse" if statistics else "simulate"
    for line in begun.lines:
        print(f"- {one_line(line, limit=2000)}")
    print(f"wrote {path}, and tried it on these data; next: wardround {next_} {path}")


def _write(path: Path, text: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already; name another file") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from None


def _task_path(task: str) -> str:
    """``--task`` is meant from where the user stands, not from the configuration's folder."""
    file, colon, name = task.rpartition(":")
    return f"{Path(file).resolve()}{colon}{name}" if colon else task
