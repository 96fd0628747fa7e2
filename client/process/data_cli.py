"""``wardround data``: a hospital's own look at its data. Connects to nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.client.process.deidentify_cli import deidentify
from wardround.client.process.example_cli import example_rows
from wardround.common.command_line import example, new_commands, new_console, new_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wardround.client.site.kit import Kit
    from wardround.client.site.terms import Terms
    from wardround.common.study.study import Study

commands = new_commands()
data = new_group(
    "data", "Look at a hospital's data before it takes part: `wardround data check KIT`."
)
commands.add_typer(data)

data.command(
    "deidentify", epilog=example("wardround data deidentify extract.csv copies --profile gdpr")
)(deidentify)
data.command("example", epilog=example("wardround data example rows.csv"))(example_rows)
_STYLES = {"error": "red", "warning": "yellow", "ok": "green"}


@data.callback()
def _group() -> None:
    """Look at a hospital's data before it takes part: `wardround data check KIT`."""


@data.command("check", epilog=example("wardround data check kits/north cardio"))
def check(
    kit: Annotated[
        Path, typer.Argument(metavar="KIT", help="The hospital's start-up kit.", readable=False)
    ],
    name: Annotated[
        Path | None,
        typer.Argument(
            metavar="[NAME|SHARD]",
            help="NAME of [data.NAME] in site.toml, or a file or folder. Default: what site.toml "
            "says.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str,
        typer.Option(metavar="STUDY", help="In a network: its name, or how its id begins."),
    ] = "",
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The page to write. Default: KIT/state/data_check.html."),
    ] = None,
) -> None:
    """Hold the data against a study's question: columns, units, categories, patients, rows.

    Says everything at once, writes a page that stays here, and sends nothing. Exit code 1 if
    something would end or spoil the study here.
    """
    from datetime import datetime

    from rich.text import Text

    from wardround.client.check.check import checked
    from wardround.client.check.page import page
    from wardround.client.site.kit import Kit
    from wardround.common.durable.private import write_private
    from wardround.common.text import one_line

    opened = Kit.open(kit)
    found = checked(_terms(opened, name, study), datetime.now())
    console = new_console()
    console.print(Text(one_line(f"{found.data} for {found.asked}"), style="bold"))
    for one in found.findings:
        mark = Text(f"{one.state:<8}", style=_STYLES[one.state])
        console.print(mark + Text(one_line(one.line, 2000)), soft_wrap=True)
    file = report or opened.state / "data_check.html"
    write_private(file, page(found).encode())
    states = [one.state for one in found.findings]
    told = f"{_counted(states, 'error')} and {_counted(states, 'warning')}"
    console.print(f"{told}; the page: {file}", soft_wrap=True)
    raise typer.Exit(int(found.worst == "error"))


def _counted(states: Sequence[str], state: str) -> str:
    count = states.count(state)
    return f"{count} {state}{'' if count == 1 else 's'}"


def _terms(kit: Kit, name: Path | None, study: str) -> Terms:
    """What the data are held against."""
    from dataclasses import replace

    from wardround.client.site.policy import load_site
    from wardround.client.site.terms import Data, Terms, unknown_data
    from wardround.client.sources.kept import Located
    from wardround.common.errors import DataError

    asked = _study(kit, study)
    if name is None:
        return Terms.read(kit, data=Data(none=True), study=asked)
    site = load_site(kit.site_path)
    if str(name) in site.data:
        located = site.located(str(name))
    elif name.exists():
        located = Located(name)
    else:
        raise DataError(unknown_data(name, site.data))
    started = Terms.read(kit, data=Data(located.path), study=asked)
    return replace(started, data=located)


def _study(kit: Kit, wanted: str) -> Study | None:
    """A network's study; None in a federation that is one. Raises StudyRefused, ConfigError."""
    from wardround.client.site.standing import desks
    from wardround.common.errors import ConfigError, StudyUnknown

    if kit.description.config().network is None:
        if wanted:
            raise ConfigError("--study: this federation is one study; leave it out")
        return None
    shown = [desk for desk in desks(kit, wanted) if wanted or not desk.over]
    found = [desk.study for desk in shown if desk.study is not None]
    if len(found) == 1:
        return found[0]
    names = ", ".join(one.name for one in found[:20])
    if found:
        raise ConfigError(f"this hospital was shown {names}: name one with --study")
    raise StudyUnknown(
        f"this hospital was shown no study '{wanted}'"
        if wanted
        else "this hospital was shown no study yet: the client is to run once to be shown them"
    )
