"""``wardround monitor``: has what a model meets changed?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wardround.common.command_line import example, new_commands, new_console

if TYPE_CHECKING:
    from wardround.common.monitor.shares import Rule
    from wardround.common.monitor.watch import Watched
    from wardround.common.monitor.windows import Every, Window
    from wardround.common.predict.predictor import Predictor

    WindowsOf = Callable[[Any, int], tuple[list[Window], list[str]]]

commands = new_commands()
WindowOption = Annotated[
    int,
    typer.Option("--window", metavar="ROWS", min=0, help="So many rows at a time. 0: all as one."),
]
ByOption = Annotated[
    str,
    typer.Option("--by", metavar="COLUMN", help="A column of dates: a window for each --every."),
]
EveryOption = Annotated[
    Literal["day", "week", "month"], typer.Option("--every", help="With --by: how long one is.")
]
WrittenOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Write monitor.html and monitor.json there, for their owner.",
    ),
]
SurgeOption = Annotated[
    str,
    typer.Option(
        "--surge",
        metavar="COLUMN=VALUE",
        help="Alarm when this share rises above its own history.",
    ),
]
PerOption = Annotated[
    str, typer.Option("--per", metavar="COLUMN", help="With --surge: for each value of a column.")
]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="FILE|FOLDER",
        help="Rows of before, or a reference.json. Default: what is kept with the model.",
    ),
]
ShadowOption = Annotated[
    str,
    typer.Option(
        "--shadow", metavar="MODEL", help="A second model on the same rows: what differs."
    ),
]
OwnRowsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="SHARD", help="The hospital's training rows, where a model is prepared by them."
    ),
]


@commands.command(
    "monitor",
    epilog=example("wardround monitor runs/heart --data now.csv --reference before.csv"),
)
def monitor(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A run, or its model's folder.", readable=False)
    ],
    data: Annotated[Path, typer.Option("--data", metavar="FILE|FOLDER", help="The rows of now.")],
    reference: ReferenceOption = None,
    window: WindowOption = 0,
    by: ByOption = "",
    every: EveryOption = "month",
    surge: SurgeOption = "",
    per: PerOption = "",
    shadow: ShadowOption = "",
    hospital: Annotated[
        str, typer.Option(metavar="NAME", help="Whose model, where each hospital has its own.")
    ] = "",
    own_rows: OwnRowsOption = None,
    task: Annotated[
        str, typer.Option(metavar="FILE:CLASS", help="Your copy of a task of one's own.")
    ] = "",
    encoder: Annotated[
        str, typer.Option(metavar="FOLDER", help="Your copy of a text model's encoder.")
    ] = "",
    out: WrittenOption = None,
) -> None:
    """Hold a model's rows of now against a reference: inputs, scores and, where the rows have them,
    outcomes.

    Exit code 0: no drift; 20: an alarm. Without drift at most one page in 100 has one.
    """
    from wardround.common.monitor.shares import Rule
    from wardround.common.predict.load import load_model

    rule = Rule.read(surge, per)

    def loaded(path: Path) -> Predictor:
        return load_model(path, hospital or None, own_rows=own_rows, task=task, encoder=encoder)

    other = loaded(Path(shadow)) if shadow else None
    named = bool(by or rule)
    windows_of = _of(window, by, every)
    finish(_watched(loaded(model), data, reference, windows_of, other, rule, named), out)


def _of(window: int, by: str, every: Every) -> WindowsOf:
    from wardround.common.monitor.windows import windows_of

    return lambda raw, total: windows_of(raw, total, window, by, every)


def _watched(
    predictor: Predictor,
    data: Path,
    reference: Path | None,
    windows_of: WindowsOf,
    other: Predictor | None,
    rule: Rule | None,
    named: bool,
) -> Watched:
    """windows_of : of rows, and how many there are; named : as ``read_rows`` takes it"""
    from wardround.common.monitor.files import read_reference
    from wardround.common.monitor.rows import read_rows
    from wardround.common.monitor.shares import watch_shares
    from wardround.common.monitor.watch import score, watch

    before = read_reference(predictor, reference)
    raw = read_rows(predictor.task, data, named)
    second = None
    if other is not None:
        second = other.folder, score(other, read_rows(other.task, data, named))
    windows, notes = windows_of(raw, predictor.task.size(raw))
    found = score(predictor, raw)
    watched = watch(predictor.folder, found, before, windows, second, notes)
    folder = predictor.folder
    shares = watch_shares(folder.task, folder.schema, raw, found.columns, windows, rule)
    return watched.with_shares(rule, shares)


def finish(watched: Watched, out: Path | None) -> None:
    """Show what was seen, write it where that is asked, and end with the code that says it."""
    from rich.text import Text

    from wardround.common.monitor.files import write_watch
    from wardround.common.monitor.report import DRIFTED, lines

    console = new_console()
    for line in lines(watched):
        console.print(Text(line, style="red" if _is_alarm(line) else ""), soft_wrap=True)
    if out is not None:
        console.print(f"the page: {write_watch(out, watched)}", soft_wrap=True)
    raise typer.Exit(DRIFTED if watched.drifted else 0)


def _is_alarm(line: str) -> bool:
    return line.lstrip().startswith(("DRIFT", "SURGE"))
