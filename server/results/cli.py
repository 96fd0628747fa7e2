"""``wardround card``: a model's card, with what persons have written since."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wardround.common.command_line import example, new_commands

commands = new_commands()


@commands.command(epilog=example("wardround card runs/breast-cancer-20260131-120000"))
def card(
    run: Annotated[Path, typer.Argument(help="A run directory, of a run that is complete.")],
    answers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="What persons have written, by the keys of [card]; it goes before the run's own.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to. Default: RUN/card.md.")
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The server's folder: put the card into the model's folder, and sign that anew.",
        ),
    ] = None,
) -> None:
    """Write a model's card again, filled from the run, and say what nobody has written yet."""
    from wardround.common.config.load import load_config
    from wardround.common.run.directory import RunDirectory
    from wardround.server.results.card import read_answers, renew_card, write_card

    directory = RunDirectory.open(run)
    config = load_config(directory.config_path)
    said = read_answers(answers, config.card) if answers else config.card
    if sign is not None:
        if out is not None:
            raise config.error(
                "card", "--out and --sign: the signed one lies in the model's folder"
            )
        where, lacking = renew_card(directory, config, said, sign)
    else:
        where, lacking = write_card(directory, config, said, out or run / "card.md")
    print(where)
    if lacking:
        print(f"not written yet ({len(lacking)}): {', '.join(lacking)}")
