"""``wardround report``: a finished or a broken run's page, made again from its directory; or its
figures, brought to a tracker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from wardround.common.command_line import example, new_commands

commands = new_commands()


@commands.command(epilog=example("wardround report runs/breast-cancer-20260131-120000"))
def report(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    to: Annotated[
        Literal["mlflow", "tensorboard", "wandb"] | None,
        typer.Option(
            "--to",
            help="Bring the rounds' figures there instead, each once: what the report shows over "
            "all hospitals, nothing of one. W&B's files stay here; nothing is sent.",
        ),
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            help="With --to: the address of MLflow's server, or a folder. Default: the folder "
            "`tracking` beside the run.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a run's report.html again, or bring its figures to a tracker."""
    from wardround.common.errors import ConfigError
    from wardround.common.run.directory import RunDirectory
    from wardround.common.run.report.from_run import report_run
    from wardround.common.run.tracking.track import bring

    directory = RunDirectory.open(run)
    if to is None:
        if uri is not None:
            raise ConfigError("--uri: works only with --to")
        print(report_run(directory))
        return
    if uri is None and to == "mlflow":
        raise ConfigError("--to mlflow: needs --uri, the address of MLflow's server")
    place = uri or str(directory.path.resolve().parent / "tracking")
    count = bring(directory, to, place)
    print(f"{to} {place}: {count} new round{'s' * (count != 1)}")
