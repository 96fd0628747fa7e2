"""``wardround doctor`` and ``wardround version``: the commands of no side, or of either."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from wardround.common.command_line import example, new_commands
from wardround.common.transport.only_tls13 import hold_to_tls13

if TYPE_CHECKING:
    from wardround.common.process.checks import Finding

commands = new_commands()
_HOSPITAL, _SERVER = "wardround.client.process.doctor", "wardround.server.process.doctor"
_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@commands.command(epilog=example("wardround doctor kits/north --data patients.csv"))
def doctor(
    places: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[KIT...|FEDERATION_TOML]",
            help="A hospital's kits, or the server's file. Default: federation.toml.",
            readable=False,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="SHARD|NAME", help="Also hold this data against the task."),
    ] = None,
) -> None:
    """Check clock, certificates, reachability, proxy, GPU, disk and data, at either end."""
    hold_to_tls13()  # before the imports below import grpc
    from wardround.common.process.checks import worst

    console, findings = Console(highlight=False), []
    places = places or [Path("federation.toml")]
    for place in places:
        if len(places) > 1:
            console.print(Text(str(place), style="bold"))
        for finding in _examine(place, data, [one for one in places if one != place]):
            findings.append(finding)
            mark = Text(f"{finding.state:<8}", style=_STYLES[finding.state])
            console.print(mark + Text(f"{finding.what}: {finding.text}"), soft_wrap=True)
    raise typer.Exit(worst(findings))


def _examine(place: Path, data: Path | None, others: list[Path]) -> Iterator[Finding]:
    """The findings at a place; ``others`` are kits as it is, where it is one."""
    if place.is_dir():
        kits = [one for one in others if one.is_dir()]
        yield from importlib.import_module(_HOSPITAL).examine(place, data, kits)
    else:
        yield from importlib.import_module(_SERVER).examine(place, data)


@commands.command(epilog=example("wardround version"))
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    print(f"wardround {version_of('wardround')}")
