"""``wardround export``: a finished model as a graph for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wardround.common.command_line import example, new_commands

if TYPE_CHECKING:
    from wardround.common.export.folder import ExportFolder

commands = new_commands()

FormatOption = Annotated[
    Literal["onnx", "torch"],
    typer.Option("--format", help="An ONNX file, or a program of torch.export."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="Default: the run's name and the format, here.", show_default=False
    ),
]
SignOption = Annotated[
    Path | None,
    typer.Option(
        "--sign",
        metavar="KIT|SERVER",
        help="Sign the export with the identity in a kit, or in the server's folder.",
        show_default=False,
    ),
]
OpenssfOption = Annotated[
    Path | None,
    typer.Option(
        "--openssf",
        metavar="KEY.pem",
        help="Sign it in OpenSSF's form, too, with a key of P-256: model.sig.",
        show_default=False,
    ),
]


@commands.command(
    epilog=example("wardround export runs/breast-cancer-20260131-120000 --out model-onnx")
)
def export(
    model: Annotated[
        Path, typer.Argument(help="A model folder, or the run, or the results, that it is in.")
    ],
    form: FormatOption = "onnx",
    out: OutOption = None,
    sign: SignOption = None,
    openssf: OpenssfOption = None,
    hospital: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a simulation whose hospitals have layers of their own: whose model.",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="FILE:CLASS", help="Of a task of your own.", show_default=False)
    ] = "",
    encoder: Annotated[
        str,
        typer.Option(metavar="FOLDER", help="Of a text model's encoder.", show_default=False),
    ] = "",
) -> None:
    """Write a finished model as a graph: raw rows in, predictions out.

    The graph is compared with the model on rows that try its edges; where they differ, nothing is
    written.
    """
    from wardround.common.export.exporting import export_model
    from wardround.common.export.openssf import read_key
    from wardround.common.export.source import Source
    from wardround.common.model_folder.folder import ModelFolder
    from wardround.common.trust.credentials import read_party

    identity = read_party(sign).identity if sign else None
    key = read_key(openssf) if openssf else None
    folder = ModelFolder.open(model, task=task, encoder=encoder)
    where = out or Path(f"{folder.listed.run}-{form}")
    print(told(export_model(Source.of(folder, hospital), where, form, identity, key)))


def told(made: ExportFolder) -> str:
    """What an export is, in a few words."""
    info = made.info
    size = (made.path / info.graph).stat().st_size
    signed = "signed" if made.listed.signer else "not signed"
    bits = (
        f"in the 16 bits that it was measured in, the model differs by up to "
        f"{info.parity.rounding:.2g}; "
        if info.parity.rounding
        else ""
    )
    return (
        f"{made.path / info.graph}: {size / 1000:,.1f} kB; {info.parity.rows} rows differ from the "
        f"model by at most {info.parity.largest:.2g} (allowed: {info.parity.tolerance:g}), "
        f"{info.parity.refused} are refused by both; {bits}{signed}"
    )
