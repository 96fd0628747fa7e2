"""``wardround export``: a finished model as a graph for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wardround.common.command_line import example, new_commands
from wardround.common.errors import ModelRefused

if TYPE_CHECKING:
    from wardround.common.export.folder import ExportFolder
    from wardround.common.export.int8_info import Int8
    from wardround.common.export.int8_scores import Wanted
    from wardround.common.export.source import Source

commands = new_commands()

FormatOption = Annotated[
    Literal["onnx", "torch", "hf", "peft"],
    typer.Option(
        "--format",
        help="An ONNX file, or a program of torch.export; of texts also Hugging Face's layout; of "
        "language models that, or their adapters alone.",
    ),
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

HospitalOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of a simulation whose hospitals have layers of their own: whose model.",
        show_default=False,
    ),
]
TaskOption = Annotated[
    str, typer.Option(metavar="FILE:CLASS", help="Of a task of your own.", show_default=False)
]
EncoderOption = Annotated[
    str, typer.Option(metavar="FOLDER", help="Of a text model's encoder.", show_default=False)
]
Int8Option = Annotated[
    bool,
    typer.Option("--int8", help="Weights of 8 bits; its figures are measured and kept."),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="ROWS",
        help="Of --int8: rows with outcomes, none that it was trained on.",
        show_default=False,
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        metavar="ROWS",
        help="Of --int8, for images: activations get 8 bits, too, by these rows' ranges, which are "
        "in the file then.",
        show_default=False,
    ),
]
ToleranceOption = Annotated[
    float,
    typer.Option(metavar="LOSS", min=0, help="Of --int8: the most that the figure may lose."),
]

TritonOption = Annotated[
    Path | None,
    typer.Option(
        "--triton",
        metavar="REPOSITORY",
        help="Put it into this model repository of Triton (or KServe), too.",
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
    hospital: HospitalOption = None,
    task: TaskOption = "",
    encoder: EncoderOption = "",
    int8: Int8Option = False,
    data: DataOption = None,
    calibration: CalibrationOption = None,
    int8_tolerance: ToleranceOption = 0.01,
    triton: TritonOption = None,
) -> None:
    """Write a finished model as a graph: raw rows in, predictions out.

    The graph is compared with the model on rows that try its edges; where they differ, nothing is
    written. With --int8 it is also compared on rows with outcomes, by their figures.
    """
    from wardround.common.export.exporting import export_model
    from wardround.common.export.layouts import write_triton
    from wardround.common.export.openssf import read_key
    from wardround.common.export.source import Source
    from wardround.common.model_folder.folder import ModelFolder
    from wardround.common.trust.credentials import read_party

    identity = read_party(sign).identity if sign else None
    key = read_key(openssf) if openssf else None
    folder = ModelFolder.open(model, task=task, encoder=encoder)
    where = out or Path(f"{folder.listed.run}-{form}")
    source = Source.of(folder, hospital)
    small = wanted(source, data, calibration, int8_tolerance) if int8 else None
    if not int8 and (data or calibration):
        raise ModelRefused("--data and --calibration are of --int8", mend="add --int8")
    made = export_model(source, where, form, identity, key, small)
    print(told(made))
    if triton is not None:
        print(f"{write_triton(made, triton)}: for Triton, or KServe")


def wanted(source: Source, data: Path | None, calibration: Path | None, most: float) -> Wanted:
    """What --int8 asks for. Raises ModelRefused without rows; DataError."""
    from wardround.common.export.int8_scores import Wanted

    if data is None:
        raise ModelRefused(
            "nobody knows what 8 bits lose without rows to try",
            mend="name rows with outcomes that it wasn't trained on: --data",
        )
    ranges = None if calibration is None else source.task.load_rows(calibration)
    return Wanted(source.task.load(data), ranges, most)


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
    line = (
        f"{made.path / info.graph}: {size / 1000:,.1f} kB; {info.parity.rows} rows differ from the "
        f"model by at most {info.parity.largest:.2g} (allowed: {info.parity.tolerance:g}), "
        f"{info.parity.refused} are refused by both; {bits}{signed}"
    )
    return line if info.int8 is None else f"{line}\n{told_int8(info.int8)}"


def told_int8(found: Int8) -> str:
    """What 8 bits cost and save. The parity before it is of the graph in 32."""
    before, after = (one[found.figure] for one in (found.float_figures, found.figures))
    return (
        f"in 8 bits ({found.method}): {found.size_bytes / found.float_bytes:.1%} of the size, "
        f"{found.speed:.2g} times as fast ({found.speed_alone:.2g} a row alone); {found.figure} on "
        f"{found.rows} rows {after:.4f}, before {before:.4f}; predictions differ by at most "
        f"{found.largest:.2g}"
    )
