"""The command line of sweeps and tuning: ``wardround simulate --sweep ...``, ``wardround tune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from wardround.common.command_line import (
    ConfigArgument,
    SetOption,
    example,
    here,
    new_commands,
    new_console,
)
from wardround.common.errors import ConfigError, Interrupted, WardroundError
from wardround.common.process.signals import interrupt_once

ParamOption = Annotated[
    list[str] | None,
    typer.Option(
        "--param",
        metavar="TABLE.KEY=LOW..HIGH[:log]|VALUE,VALUE,...",
        help="A range or a choice to search; repeatable.",
    ),
]


commands = new_commands()


# --- wardround simulate --sweep -------------------------------------------------------------------
def is_sweep(folder: Path | None) -> bool:
    """Whether ``--resume`` names a sweep's folder."""
    return folder is not None and (folder / "sweep.json").is_file()


def run_sweep(
    config: Path | None,
    sets: Sequence[str],
    sweeps: Sequence[str],
    seeds: str | None,
    resume: Path | None,
) -> None:
    """Run a sweep with a line per combination and a table at the end. Raises WardroundError."""
    from wardround.server.display.console import shown_path
    from wardround.simulations.search.console import SweepLines
    from wardround.simulations.search.summary import result_table
    from wardround.simulations.search.sweep import sweep
    from wardround.simulations.search.values import split_option, split_values, whole_numbers

    grid: dict[str, list[object]] = {}
    for option in sweeps:
        key, text = split_option("--sweep", option)
        if key in grid:
            raise ConfigError(f"--sweep {key}: stands there twice; give all its values in one")
        grid[key] = split_values("--sweep", key, text)
    console = new_console()
    try:
        result = sweep(
            config,
            grid,
            whole_numbers("--seeds", seeds) if seeds else (),
            overrides=sets,
            resume=resume,
            observer=SweepLines(console),
        )
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    console.print(result_table(result.rows))
    folder = shown_path(result.folder)
    console.print(Text(f"sweep: {folder}\nplot:  {folder}/sweep.html\ntable: {folder}/sweep.csv"))
    if result.failed:
        raise WardroundError(
            f"{len(result.failed)} of {len(result.combinations)} combinations failed; try them "
            f"again with: wardround simulate --resume {folder}"
        )


# --- wardround tune -------------------------------------------------------------------------------
@commands.command(
    epilog=example("wardround tune --trials 30 --param training.lr=0.001..1.0:log --prune")
)
def tune(
    config: ConfigArgument = None,
    params: ParamOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many runs altogether; default 20.")
    ] = None,
    overrides: SetOption = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the search; default: federation.seed.", min=0)
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Stop trials that are below the median of the others.")
    ] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Go on with a search that was stopped.")
    ] = None,
) -> None:
    """Search for settings, scored on validation rows; test rows have no part in the choice."""
    from wardround.simulations.search.console import TuneLines, show_tuning
    from wardround.simulations.search.space import read_param
    from wardround.simulations.search.tune import tune as run_tuning

    if resume is None:
        config = here(config)
    pairs = [read_param(option) for option in params or []]
    space = dict(pairs)
    if len(space) < len(pairs):
        raise ConfigError("--param: a key stands there twice; give it once")
    console = new_console()
    interrupt_once()
    try:
        result = run_tuning(
            config,
            space,
            trials,
            overrides=overrides or (),
            seed=seed,
            prune=prune,
            resume=resume,
            observer=TuneLines(console),
        )
    except KeyboardInterrupt as error:
        raise Interrupted(str(error) or "interrupted") from None
    show_tuning(console, result)
