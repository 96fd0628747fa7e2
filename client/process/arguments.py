"""Arguments that several of the hospital's commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

KitArgument = Annotated[
    Path, typer.Argument(metavar="KIT", help="The hospital's start-up kit.", readable=False)
]
StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="[STUDY]", help="In a network: its name, or how its id begins.", show_default=False
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        metavar="RUN|NAME|PATH",
        help="A run in KIT/results, a folder in KIT/models, or a path. Default: the newest run.",
        show_default=False,
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|PATH",
        help="NAME of [data.NAME] in site.toml, or a file or folder.",
        show_default=False,
    ),
]
UnsignedOption = Annotated[
    bool, typer.Option("--unsigned", help="Also a model that nobody signed: a simulation's.")
]
