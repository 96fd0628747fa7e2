"""``wardround client calibrate ...``: what a hospital does with a finished model at home. Connects
to nobody; what a command works with is in the room that is named after it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.client.process.arguments import DataOption, KitArgument, ModelOption, UnsignedOption
from wardround.common.command_line import example, new_console
from wardround.common.explain.cli import PageOption, RowsOption
from wardround.common.export.cli import FormatOption, OpenssfOption, OutOption
from wardround.common.monitor.cli import (
    ByOption,
    EveryOption,
    PerOption,
    ReferenceOption,
    ShadowOption,
    SurgeOption,
    WindowOption,
    WrittenOption,
)

if TYPE_CHECKING:
    from wardround.client.calibration.calibrate import Calibrated


FromOption = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="URL|FILE",
        help="Instead of rows, what a server of the model shows at /metrics.",
    ),
]
SinceOption = Annotated[
    str, typer.Option(metavar="FILE", help="With --from: what it showed before.")
]


def add_model_commands(client: typer.Typer) -> None:
    """Make the commands of this file some of ``wardround client``."""
    client.command(
        "calibrate", epilog=example("wardround client calibrate kits/north --data recent")
    )(calibrate)
    client.command(
        "explain", epilog=example("wardround client explain kits/north --data recent --row 3")
    )(explain)
    client.command(
        "monitor", epilog=example("wardround client monitor kits/north --data recent --window 200")
    )(monitor)
    client.command("export", epilog=example("wardround client export kits/north --data patients"))(
        export
    )


_MethodOption = Annotated[
    str,
    typer.Option(
        metavar="METHOD",
        help="logistic, isotonic, intercept, temperature, linear or slope; auto: by the rows.",
    ),
]
_ThresholdOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULE",
        help="Choose one too: sensitivity=0.9, specificity=0.9, youden, net_benefit=0.1.",
    ),
]
_HeldOutOption = Annotated[
    bool, typer.Option("--held-out", help="Of the study's own data: held-out rows only.")
]
_KeepOption = Annotated[
    bool, typer.Option("--keep", help="Keep it also where it is no better on unused rows.")
]
_TakeOption = Annotated[
    str,
    typer.Option(
        "--take",
        metavar="RUN",
        help="No rows: what a study has calibrated over hospitals, of KIT/results/RUN.",
        show_default=False,
    ),
]


def calibrate(
    kit: KitArgument,
    data: DataOption = "",
    model: ModelOption = "",
    method: _MethodOption = "auto",
    threshold: _ThresholdOption = None,
    held_out: _HeldOutOption = False,
    keep: _KeepOption = False,
    taken: _TakeOption = "",
    unsigned: UnsignedOption = False,
) -> None:
    """Correct a model's probabilities, values or risks by this hospital's own recent rows.

    Shows figures before and after on rows that the correction didn't see, and keeps it beside the
    model, signed by this hospital, where it is better. Exit code 1 where it isn't.
    """
    from wardround.client.calibration.calibrate import calibrate as calibrated
    from wardround.client.calibration.calibrate import take
    from wardround.client.site.kit import Kit

    if taken:
        _show_calibrated(take(Kit.open(kit), taken, model))
        return
    found = calibrated(
        Kit.open(kit),
        data,
        model,
        method=method,
        rules=tuple(threshold or ()),
        held_out=held_out,
        keep=keep,
        unsigned=unsigned,
    )
    _show_calibrated(found)
    raise typer.Exit(int(found.path is None))


def export(
    kit: KitArgument,
    data: DataOption = "",
    model: ModelOption = "",
    form: FormatOption = "onnx",
    out: OutOption = None,
    openssf: OpenssfOption = None,
    unsigned: UnsignedOption = False,
) -> None:
    """Write a model as a graph with this hospital's own layers, scale and medians inside.

    For a model whose layers stay with each hospital, or that is prepared by its training rows
    (--data); else `wardround export` does. It lies in KIT/models, signed by this hospital.
    """
    from wardround.client.models.export import export_at_home
    from wardround.client.site.kit import Kit
    from wardround.common.export.cli import told
    from wardround.common.export.openssf import read_key

    key = read_key(openssf) if openssf else None
    made = export_at_home(
        Kit.open(kit), data, model, form=form, out=out, openssf=key, unsigned=unsigned
    )
    print(told(made))


def _show_calibrated(found: Calibrated) -> None:
    from wardround.client.calibration.show import figure_rows, lines_of

    console = new_console()
    for line in lines_of(found):
        console.print(line, soft_wrap=True, markup=False)
    if found.before:
        console.print(figure_rows(found))
    if found.path is not None:
        console.print(f"kept: {found.path}", soft_wrap=True, markup=False)
    else:
        console.print("not kept: on rows that it didn't see it is no better (--keep: all the same)")


def explain(
    kit: KitArgument,
    data: DataOption = "",
    model: ModelOption = "",
    row: RowsOption = None,
    out: PageOption = Path("explained.html"),
    unsigned: UnsignedOption = False,
) -> None:
    """Explain single rows of this hospital's: what of each moved the model's output.

    Tables by Shapley values against the hospital's other rows, images by GradCAM, texts by
    integrated gradients. The page shows patients' values, and stays here.
    """
    from wardround.client.models.find import find_model
    from wardround.client.models.outputs import own_module
    from wardround.client.models.rows import rows_for
    from wardround.client.site.kit import Kit
    from wardround.common.explain.write import write_explained

    opened = Kit.open(kit)
    folder = find_model(opened, model, unsigned=unsigned)
    with rows_for(opened, folder, data, targets=False) as raw:
        module = own_module(opened, folder)
        print(write_explained(folder, module, raw, row or [1], out))


def monitor(
    kit: KitArgument,
    data: DataOption = "",
    model: ModelOption = "",
    reference: ReferenceOption = None,
    window: WindowOption = 0,
    by: ByOption = "",
    every: EveryOption = "month",
    surge: SurgeOption = "",
    per: PerOption = "",
    shadow: ShadowOption = "",
    source: FromOption = "",
    since: SinceOption = "",
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --from: a token that it takes.")
    ] = None,
    out: WrittenOption = None,
    unsigned: UnsignedOption = False,
) -> None:
    """Hold rows of now against this hospital's own of the study: inputs, scores and outcomes.

    Sends nothing. Exit code 0: no drift; 20: an alarm. At most one page in 100 without drift
    raises one.
    """
    from wardround.client.monitor.watching import Asked, place_for, watch_at_home, watch_served
    from wardround.client.site.kit import Kit
    from wardround.common.durable.private import read_private
    from wardround.common.errors import DataError
    from wardround.common.monitor.cli import finish
    from wardround.common.monitor.shares import Rule

    opened = Kit.open(kit)
    rule = Rule.read(surge, per)
    asked = Asked(model, data, reference, window, by, every, shadow, unsigned, rule)
    if source:
        if data or window or by or shadow or rule:
            raise DataError(
                "--from gives counts and no rows: --data, --window, --by, --surge and --shadow go "
                "without it"
            )
        token = (
            read_private(token_file, "name a file with it").decode().strip() if token_file else ""
        )
        watched = watch_served(opened, asked, source, since, token)
    else:
        if since or token_file:
            raise DataError("--since and --token-file go with --from")
        watched = watch_at_home(opened, asked)
    finish(watched, out or place_for(opened, watched.folder))
