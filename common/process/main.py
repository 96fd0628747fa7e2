"""The ``wardround`` command. Each command is a thin skin over a function that Python can call.

A command's module is imported when that command is asked for, by the name in ``table``: ``wardround
client stop`` must act at once, and ``wardround client`` never loads a simulation.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from click import Command as ClickCommand
from click import Context
from click.shell_completion import CompletionItem
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group

from wardround.common.durable.files import UNWRITABLE, unwritable
from wardround.common.durable.private import denied
from wardround.common.errors import (
    ConfigError,
    ProvisionError,
    RunDirectoryError,
    WardroundError,
)
from wardround.common.process.command_help import restore_help
from wardround.common.process.table import COMMANDS, Command
from wardround.common.versions import own_version

_EXTRAS = {
    "fastapi": "server",
    "starlette": "server",
    "uvicorn": "server",
    "prometheus_client": "server",
    "grpc_health": "server",
    "plotly": "simulate",
    "jinja2": "simulate",
    "markupsafe": "simulate",
    "sklearn": "simulate",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
}
"""What only some commands need, by the extra that brings it."""


class _Lazy(TyperGroup):
    """The commands of the table: stand-ins that say a name, a group and a line, to be listed and
    completed; each is imported when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {
            one.name: TyperCommand(one.name, help=one.text, rich_help_panel=one.panel)
            for one in COMMANDS
        }
        self._whole: dict[str, Any] = {}

    def get_command(self, ctx: Context, cmd_name: str) -> Any:
        """The command itself, or None."""
        for one in COMMANDS:
            if one.name == cmd_name and cmd_name not in self._whole:
                with _installed(lambda: cmd_name):
                    self._whole[cmd_name] = _load(one)
        return self._whole.get(cmd_name)

    def invoke(self, ctx: Context) -> Any:
        """Run it. Raises ConfigError for what isn't installed."""
        with _installed(lambda: str(ctx.invoked_subcommand)):
            return super().invoke(ctx)

    def format_help(self, ctx: Context, formatter: Any) -> None:
        """From the table alone."""
        listed = TyperGroup(
            name=self.name,
            commands=dict(self.commands),
            params=self.params,
            help=self.help,
            rich_markup_mode=self.rich_markup_mode,
        )
        listed.format_help(ctx, formatter)

    def shell_complete(self, ctx: Context, incomplete: str) -> list[CompletionItem]:
        """From the table alone."""
        named = [one for one in COMMANDS if one.name.startswith(incomplete)]
        options = ClickCommand.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(one.name, help=one.text) for one in named), *options]


app = typer.Typer(
    name="wardround",
    cls=_Lazy,
    help="Federated learning for hospitals: the patients stay, the model travels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # click 8.5 does
    rich_markup_mode="markdown",
)


def _version(asked: bool) -> None:
    if asked:
        from wardround.common.protocol.names import PROTOCOL  # brings flwr, which no help needs

        print(f"wardround {own_version()}, protocol {PROTOCOL}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Say which version this is and which protocol it speaks, and end.",
        ),
    ] = False,
) -> None:
    """Federated learning for hospitals: the patients stay, the model travels."""


def main() -> None:
    """Entry point: one line and a non-zero exit for a user's mistake, never a traceback."""
    try:
        app(prog_name="wardround")
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
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        print(f"wardround: {unwritable(error)}", file=sys.stderr)
        sys.exit(RunDirectoryError.exit_code)


def _load(one: Command) -> Any:
    group = get_group(importlib.import_module(one.module).commands)
    restore_help(group)
    return group.commands[one.name]


@contextmanager
def _installed(name_of: Callable[[], str]) -> Iterator[None]:
    """Where a command lacks what an extra brings, raise ConfigError that names the extra."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        name = name_of()
        wanted = next((one.extra for one in COMMANDS if one.name == name), None)
        raise ConfigError(
            f"wardround {name} needs {missing}: pip install "
            f"'wardround[{wanted or _EXTRAS[missing]}]'"
        ) from error


if __name__ == "__main__":
    main()
