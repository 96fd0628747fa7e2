"""``wardround report``: a finished or a broken run's page, made again from its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardround.common.command_line import example, new_commands

commands = new_commands()


@commands.command(epilog=example("wardround report runs/breast-cancer-20260131-120000"))
def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
) -> None:
    """Write a run's report.html again."""
    from wardround.common.run.directory import RunDirectory
    from wardround.common.run.report import report_run

    print(report_run(RunDirectory.open(run)))
