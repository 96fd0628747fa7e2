"""``wardround predict``: what a finished model says of rows, as a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from wardround.common.command_line import example, new_commands
from wardround.common.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from wardround.common.predict.base import Told
    from wardround.common.predict.exported import ExportedPredictor
    from wardround.common.predict.predictor import Predictor
    from wardround.common.predict.trees import TreePredictor

# What predicts is imported by the command: --help answers without loading it.

commands = new_commands()

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="A run directory, a results folder, a model folder, an export, or trees' model.json.",
        show_default=False,
        readable=False,
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="FILE|FOLDER|-",
        help="Rows as the model was trained on, with or without what is predicted; - reads a CSV "
        "from standard input.",
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A .csv, .parquet or .jsonl file. Default: CSV to standard output."
    ),
]
HospitalOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Whose model, where layers stay with each hospital."),
]
OwnRowsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="SHARD",
        help="The hospital's own training rows, where the model is prepared by them.",
    ),
]
KeepOption = Annotated[
    list[str] | None, typer.Option(metavar="COLUMN", help="A column to carry along; repeatable.")
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Of two classes: also say which rows have this probability or more."
    ),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="A hospital's calibration of this model: wardround client calibrate."
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        metavar="FILE:CLASS",
        help="Your own copy of a task of one's own, for a model folder that lies alone.",
    ),
]
EncoderOption = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        help="A text model's encoder, or a language model's base, where it isn't installed.",
    ),
]
WriteOption = Annotated[
    bool, typer.Option("--write", help="Of a language model with choices: write answers instead.")
]
TokensOption = Annotated[
    int | None,
    typer.Option(min=1, max=8192, help="That a language model writes at the most. Default: 256."),
]
TemperatureOption = Annotated[
    float | None,
    typer.Option(min=0, max=100, help="Of what it writes. Default: 0, the likeliest token always."),
]
TopPOption = Annotated[
    float | None,
    typer.Option(min=0.001, max=1, help="Above temperature 0: drawn of the likeliest tokens only."),
]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Of what is drawn. Default: 0.")]
ExpiredOption = Annotated[
    bool, typer.Option("--expired-ok", help="Also of a model that is past its last day.")
]


@commands.command(
    epilog=example("wardround predict KIT/results/RUN --data rows.csv --out predictions.csv")
)
def predict(
    model: ModelArgument,
    data: DataOption,
    out: OutOption = None,
    hospital: HospitalOption = None,
    own_rows: OwnRowsOption = None,
    keep: KeepOption = None,
    calibration: CalibrationOption = None,
    threshold: ThresholdOption = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    task: TaskOption = "",
    encoder: EncoderOption = "",
    write: WriteOption = False,
    max_new_tokens: TokensOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    expired_ok: ExpiredOption = False,
) -> None:
    """Say what a finished model predicts for rows: probabilities, numbers, risks, tags, texts."""
    from wardround.common.predict.base import Told
    from wardround.common.predict.calibrated import own_calibration, with_calibration
    from wardround.common.predict.threshold import with_threshold
    from wardround.common.predict.writing import form_of
    from wardround.common.trust.pki import now_utc

    if out is not None:
        form_of(out)
    known = _loaded(model, hospital, own_rows=own_rows, device=device, task=task, encoder=encoder)
    how = dict(max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p, seed=seed)
    _set_writing(known, how, write)
    known.check(None if expired_ok else now_utc().date())
    told = Told()
    rows: Any = sys.stdin.buffer if data == "-" else _there(data)
    tables = known.tables(rows, keep=keep or (), told=told)
    if calibration is not None:
        corrects = own_calibration(calibration, known.model_digest)
        tables = with_calibration(tables, known.schema, corrects)
    if threshold is not None:
        tables = with_threshold(tables, known.schema, threshold)
    _write(tables, out, {one.name for one in known.schema.outputs})
    _say(told)


def _write(tables: Iterator[pa.Table], out: Path | None, outputs: set[str]) -> None:
    from wardround.common.predict.writing import written_stream, written_whole

    with _progress(tables) as shown:
        if out is None:
            written_stream(sys.stdout.buffer, shown, outputs)
        else:
            written_whole(out, shown, outputs)


def _loaded(
    model: Path, hospital: str | None, own_rows: Path | None, **settings: str
) -> Predictor | ExportedPredictor | TreePredictor:
    """Raises ConfigError for an option that an export, or trees, have no use for."""
    from wardround.common.export.folder import is_export
    from wardround.common.predict.trees import load_trees, tree_file

    trees = tree_file(model)
    if trees is None and not is_export(model):
        from wardround.common.predict.load import load_model

        return load_model(model, hospital, own_rows=own_rows, model=None, **settings)
    given = {"hospital": hospital, "own-rows": own_rows, **settings, "device": None}
    for name, value in given.items():
        if value:
            raise ConfigError(f"--{name}: {model} has all that it predicts with; leave it out")
    if trees is not None:
        return load_trees(trees)
    from wardround.common.predict.exported import load_export

    return load_export(model)


def _set_writing(known: Any, how: dict[str, Any], write: bool) -> None:
    """``how``: what was given, None for the rest. Raises ConfigError where nothing is written."""
    how = {name: value for name, value in how.items() if value is not None}
    if not how and not write:
        return
    from wardround.common.predict.language import LanguagePredictor
    from wardround.common.tasks.text.causal.generate import Generation

    if not isinstance(known, LanguagePredictor):
        name = next(iter(how), "write").replace("_", "-")
        raise ConfigError(f"--{name}: only a language model writes; leave it out")
    known.write(Generation(**how), write)


def _there(data: str) -> Path:
    if not Path(data).exists():
        raise ConfigError(f"--data {data}: no such file or folder; - reads standard input")
    return Path(data)


def _say(told: Told) -> None:
    """What there is to know of the input, to standard error."""
    for line in [*told.notes, *map(str, told.counted())]:
        print(f"wardround: {line}", file=sys.stderr)


@contextmanager
def _progress(tables: Iterator[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """The same tables; how many rows there were so far is shown on a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield tables
        return
    with console.status("predicting") as status:

        def counted() -> Iterator[pa.Table]:
            rows = 0
            for table in tables:
                rows += len(table)
                status.update(f"{rows:,} rows predicted")
                yield table

        yield counted()
