"""What a command's arguments mean, shown by ``--help`` again.

typer 0.20, which Flower pins, sets an argument's help before it calls click, and click 8.5 sets it
to nothing. So it is taken from the function that the command was made of.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer.core import TyperArgument
from typer.models import ArgumentInfo


def restore_help(command: Any) -> None:
    """Let a command, and all below it, say what their arguments mean."""
    for below in getattr(command, "commands", {}).values():
        restore_help(below)
    arguments = [one for one in command.params if isinstance(one, TyperArgument) and not one.help]
    if arguments:
        hints = get_type_hints(inspect.unwrap(command.callback), include_extras=True)
        for argument in arguments:
            argument.help = _help(hints.get(str(argument.name)))


def _help(hint: Any) -> str | None:
    found = get_args(hint) if get_origin(hint) is Annotated else ()
    return next((one.help for one in found if isinstance(one, ArgumentInfo)), None)
