"""``wardround server``: the coordinator's command."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.common.command_line import (
    LogOption,
    SetOption,
    example,
    new_commands,
    new_console,
)
from wardround.common.transport.only_tls13 import hold_to_tls13

if TYPE_CHECKING:  # every command would pay for the import
    from wardround.common.config.load import Config
    from wardround.common.figures.figure import Figure
    from wardround.server.display.board import Board
    from wardround.server.display.studies import StudiesBoard
    from wardround.server.observer import Observer
    from wardround.server.process.main import Coordinator

commands = new_commands()


@commands.command(
    epilog=example("wardround server federation.toml --dashboard 127.0.0.1:8080"),
)
def server(
    config: Annotated[
        Path, typer.Argument(help="The federation.toml that was provisioned.")
    ] = Path("federation.toml"),
    overrides: SetOption = None,
    new: Annotated[
        bool, typer.Option("--new", help="Begin another run, though the last isn't complete.")
    ] = False,
    dashboard: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Show the run, read-only, e.g. 127.0.0.1:8080."),
    ] = None,
    dashboard_open: Annotated[
        bool,
        typer.Option(
            "--dashboard-open",
            help="Let others than this machine reach the dashboard without signing in.",
        ),
    ] = False,
    logs: LogOption = "text",
) -> None:
    """Wait for the hospitals, run the rounds; started again, go on where a crash left off."""
    hold_to_tls13()  # before the imports below import grpc
    from wardround.common.config.load import load_config
    from wardround.common.config.task import make_task
    from wardround.common.process.logs import setup_logging
    from wardround.common.process.signals import interrupt_once
    from wardround.server.display.board import Board
    from wardround.server.process.main import Coordinator
    from wardround.server.process.running import ServerSetup
    from wardround.server.provision.kits import load_server_folder

    setup_logging(logs)
    settings = load_config(config, overrides or ())
    if settings.network is not None:
        return _network(settings, new, dashboard, dashboard_open)
    folder, task = load_server_folder(settings), make_task(settings)
    interrupt_once()
    with ExitStack() as stack:
        display = _display(logs, settings, task.figure_table().primary, stack)
        board = Board(forward=display)
        display.begins([settings.privacy.sentence, *settings.notes])
        if dashboard:
            display.progress(_dashboard(board, dashboard, dashboard_open, settings, stack))
        coordinator = Coordinator(
            ServerSetup(
                config=settings, task=task, folder=folder, board=board, say=display.progress
            )
        )
        _run(coordinator, new, display)


def _network(config: Config, new: bool, dashboard: str | None, open_to_all: bool) -> None:
    """Stand, until somebody stops it."""
    from wardround.common.errors import ConfigError, Interrupted
    from wardround.common.process.signals import interrupt_once
    from wardround.server.display.studies import StudiesBoard
    from wardround.server.network.standing import NetworkServer, NetworkSetup
    from wardround.server.provision.kits import load_server_folder

    if new:
        raise ConfigError("--new: a network's server begins no run; submit a study")
    folder, board = load_server_folder(config), StudiesBoard(config.federation.name)
    console = new_console()
    interrupt_once()
    with ExitStack() as stack:
        if dashboard:
            console.print(_dashboard(board, dashboard, open_to_all, config, stack))
        server = NetworkServer(
            NetworkSetup(config=config, folder=folder, board=board, say=console.print)
        )
        try:
            server.run()
        except KeyboardInterrupt:
            raise Interrupted("stopped; started again, the server goes on") from None


def _run(coordinator: Coordinator, new: bool, display: Observer) -> None:
    """Run to the end, whatever ends it, and write the report."""
    from wardround.common.errors import Interrupted

    try:
        coordinator.run(new)
    except KeyboardInterrupt:
        raise Interrupted("stopped; started again, the server goes on") from None
    finally:
        if coordinator.run_path is not None:
            _report(coordinator.run_path, display)


def _dashboard(
    shown: Board | StudiesBoard,
    address: str,
    open_to_all: bool,
    config: Config,
    stack: ExitStack,
) -> str:
    """Serve a run, or a network's studies, until the stack ends; a line that says where."""
    from wardround.server.dashboard.app import serve_dashboard
    from wardround.server.dashboard.sign_in.setup import open_sign_in

    sign_in = open_sign_in(config)
    page = serve_dashboard(
        shown,
        address,
        settings=config.server.dashboard,
        sign_in=sign_in,
        open_to_all=open_to_all,
        also=config.server.dashboard_hosts,
        folder=config.folder,
    )
    stack.callback(page.stop)
    return f"dashboard: {page.url}{' (people sign in)' if sign_in else ''}"


def _display(logs: str, config: Config, primary: Figure, stack: ExitStack) -> Observer:
    """What shows the run: a table for people, or log lines for programs."""
    from wardround.server.display.console import Progress
    from wardround.server.display.loglines import LogLines

    if logs == "json":
        return LogLines()
    progress = Progress(new_console(), config.federation.rounds, primary, config.privacy.unit)
    return stack.enter_context(progress)


def _report(run: Path, display: Observer) -> None:
    from wardround.common.run.directory import RunDirectory
    from wardround.common.run.report.from_run import final_lines, report_run
    from wardround.server.display.console import shown_path

    try:
        directory = RunDirectory.open(run)
        report = report_run(directory)
        for line in final_lines(directory):
            display.progress(line)
    except OSError as error:  # a full disk must not hide what happened before
        display.progress(f"no report: {error.strerror}; later: wardround report {shown_path(run)}")
        return
    display.progress(f"run directory: {shown_path(run)}")
    display.progress(f"report:        {shown_path(report)}")
