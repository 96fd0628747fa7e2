"""``wardround doctor`` and ``wardround version``: the commands of no side, or of either."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from wardround.common.command_line import example, new_commands
from wardround.common.transport.only_tls13 import hold_to_tls13

commands = new_commands()
_HOSPITAL, _SERVER = "wardround.client.process.doctor", "wardround.server.process.doctor"
_STYLES = {"ok": "green", "warning": "yellow", "error": "red"}


@commands.command(epilog=example("wardround doctor kits/north --data patients.csv"))
def doctor(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="KIT|FEDERATION_TOML", help="A hospital's kit, or the server's.", readable=False
        ),
    ] = Path("federation.toml"),
    data: Annotated[
        Path | None, typer.Option(metavar="SHARD", help="Also hold this data against the task.")
    ] = None,
) -> None:
    """Check clock, certificates, reachability, proxy, GPU, disk and data, at either end."""
    hold_to_tls13()  # before the imports below import grpc
    examine = importlib.import_module(_HOSPITAL if place.is_dir() else _SERVER).examine
    from wardround.common.process.checks import worst

    console, findings = Console(highlight=False), []
    for finding in examine(place, data):
        findings.append(finding)
        mark = Text(f"{finding.state:<8}", style=_STYLES[finding.state])
        console.print(mark + Text(f"{finding.what}: {finding.text}"))
    raise typer.Exit(worst(findings))


@commands.command(epilog=example("wardround version"))
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as version_of

    print(f"wardround {version_of('wardround')}")
