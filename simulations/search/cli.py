"""The command line of sweeps and tuning: ``wardround simulate --sweep ...``, ``wardround tune``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from wardround.common.errors import ConfigError, Interrupted, WardroundError
from wardround.common.process.signals import interrupt_once

if TYPE_CHECKING:
    from wardround.simulations.search.sweep import SweepResult

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
    leave_one_out: bool = False,
) -> None:
    """Run a sweep with a line per combination and a table at the end. Raises WardroundError.

    leave_one_out : sweep over which hospital takes no part
    """
    from wardround.server.display.console import shown_path
    from wardround.simulations.search.console import SweepLines
    from wardround.simulations.search.leave_one_out import KEY, one_by_one
    from wardround.simulations.search.summary import result_table
    from wardround.simulations.search.sweep import sweep
    from wardround.simulations.search.values import whole_numbers

    grid = _grid(sweeps)
    if leave_one_out:
        if resume is not None:
            raise ConfigError("--leave-one-out: a sweep that is gone on with knows its own")
        grid[KEY] = list[object](one_by_one(config, sets))
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
    _show_outside(console, result)
    folder = shown_path(result.folder)
    console.print(Text(f"sweep: {folder}\nplot:  {folder}/sweep.html\ntable: {folder}/sweep.csv"))
    if result.failed:
        raise WardroundError(
            f"{len(result.failed)} of {len(result.combinations)} combinations failed; try them "
            f"again with: wardround simulate --resume {folder}"
        )


def _show_outside(console: Console, result: SweepResult) -> None:
    """What the runs found at hospitals that they left out, where they did."""
    from wardround.common.run.report.outside import outside_lines
    from wardround.server.display.console import shown_path
    from wardround.simulations.search.leave_one_out import outside_rows, write_outside

    figure, found = outside_rows(result)
    if figure is not None and found:
        for line in outside_lines(found, figure):
            console.print(Text(line))
        console.print(Text(f"all figures there: {shown_path(write_outside(result, found))}"))


def _grid(sweeps: Sequence[str]) -> dict[str, list[object]]:
    """What the options ask for. Raises ConfigError."""
    from wardround.simulations.search.values import split_option, split_values

    grid: dict[str, list[object]] = {}
    for option in sweeps:
        key, text = split_option("--sweep", option)
        if key in grid:
            raise ConfigError(f"--sweep {key}: stands there twice; give all its values in one")
        grid[key] = split_values("--sweep", key, text)
    return grid


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
