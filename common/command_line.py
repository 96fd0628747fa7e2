"""What the commands share: their arguments and options, the console, an example below each help.

Every room that has commands has a ``cli.py`` with a ``commands``, made by ``new_commands``; which
there are stands in ``common/process/table.py``. Nothing here loads what a command works with.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A federation.toml. Default: ./federation.toml if it exists, else the built-in "
        "example (breast cancer data, five unequal hospitals).",
        show_default=False,
    ),
]
LogOption = Annotated[
    Literal["text", "json"], typer.Option("--log", help="Log lines for people or for programs.")
]


def _settings(incomplete: str) -> list[str]:
    """What a shell may complete ``--set`` to."""
    from wardround.common.config.completion import settings_like

    return settings_like(incomplete)


SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Override a key; repeatable.",
        autocompletion=_settings,
    ),
]


def new_commands() -> typer.Typer:
    """An empty set of commands, for a room's ``cli.py`` to fill."""
    return typer.Typer(add_completion=False, rich_markup_mode="markdown")


def new_group(name: str, text: str, **settings: Any) -> typer.Typer:
    """A command that has commands of its own, with what its ``--help`` says."""
    return typer.Typer(
        name=name, help=text, no_args_is_help=True, rich_markup_mode="markdown", **settings
    )


def example(command: str) -> str:
    """The end of a command's help: a line to copy."""
    return f"Example: `{command}`"


def here(config: Path | None) -> Path | None:
    """The configuration that is meant where none was named: ./federation.toml, if there is one."""
    if config is None and Path("federation.toml").is_file():
        return Path("federation.toml")
    return config


def new_console(width: int | None = None) -> Console:
    """For a person's terminal; in a file, lines as long as they are, or ``width`` for tables."""
    terminal = sys.stdout.isatty()
    if width is not None:
        return Console(highlight=False, width=None if terminal else width)
    return Console(highlight=False, soft_wrap=not terminal)
