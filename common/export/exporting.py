"""An export is made: the graph, its parity with the model, then the folder, whole or not at all."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from wardround.common.durable.files import sync, writing
from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Exporter, exporter_of
from wardround.common.export.folder import ExportFolder
from wardround.common.export.info import ExportInfo, Form, Parity
from wardround.common.export.int8_scores import Wanted, int8_graph
from wardround.common.export.names import GRAPH, INFO, PROGRAM, SOURCE, TOTALS
from wardround.common.export.openssf import sign_folder
from wardround.common.export.parity import parity_of
from wardround.common.export.session import GraphSession
from wardround.common.export.source import Source
from wardround.common.model_folder.listed import read_list
from wardround.common.model_folder.schema_file import CONFIG, SCHEMA
from wardround.common.model_folder.write import seal_folder
from wardround.common.tasks.schema import LANGUAGE
from wardround.common.trust.identity import Identity
from wardround.common.trust.pki import now_utc

_COPIED = (SCHEMA, CONFIG, TOTALS, "thresholds.json", "reference.json", "card.md", "encoder.json")
"""Of the model folder, where it has them."""
_PACKAGES = {
    "onnx": ("wardround", "onnx", "onnxruntime", "torch"),
    "torch": ("wardround", "torch"),
    "hf": ("wardround", "torch", "transformers"),
    "peft": ("wardround", "torch", "transformers", "peft"),
}


def export_model(
    source: Source,
    out: Path,
    form: Form = "onnx",
    identity: Identity | None = None,
    openssf: EllipticCurvePrivateKey | None = None,
    int8: Wanted | None = None,
) -> ExportFolder:
    """Write the model as a graph into a new folder.

    out : must not be there yet
    identity : who signs the export; None: nobody
    openssf : a key to sign it with in OpenSSF's form, too
    int8 : weights of an ONNX graph get 8 bits, and are measured on these rows

    Raises ModelRefused, and leaves nothing, if the model has no such graph, the graph doesn't
    predict what the model does, or in 8 bits loses too much, or ``out`` is there;
    RunDirectoryError for a full disk.
    """
    today = now_utc().date()
    source.folder.check(None, today)
    if out.exists():
        raise ModelRefused("is there already", who=str(out), mend="name another folder: --out")
    exporter = exporter_of(source)
    files, parity = _made(source, exporter, form)
    small = None
    if int8 is not None:
        if form != "onnx":
            raise ModelRefused("8 bits are of ONNX files", mend="leave out --int8, or --format")
        files[GRAPH], small = int8_graph(source, exporter, files[GRAPH], int8)
    info = ExportInfo(
        form=form,
        model=source.folder.digest,
        task=source.schema.task,
        kind=source.schema.kind,
        hospital=source.hospital,
        opset=exporter.opset if form == "onnx" else 0,
        versions={name: importlib.metadata.version(name) for name in _PACKAGES[form]},
        parity=parity,
        precision="float32" if small is None else "int8",
        int8=small,
    )
    files[INFO] = info.to_bytes()
    with _whole(out) as staged:
        _fill(staged, source, files)
        _seal(source, staged, identity, today)
        if openssf is not None:
            sign_folder(staged, openssf, out.name)
    return ExportFolder.open(out)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to be filled, which is there as a whole afterwards, or not at all. Raises
    RunDirectoryError for a full disk."""
    staged = out.with_name(f".{out.name}.part")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        with writing(out, "export again"):
            staged.mkdir(parents=True)
            yield staged
            for path in staged.rglob("*"):
                sync(path)
            staged.rename(out)
            sync(out.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _fill(staged: Path, source: Source, files: Mapping[str, bytes]) -> None:
    """These files, and what an export has of the model folder."""
    listed = {one.name for one in source.folder.listed.files}
    for name in _COPIED:
        if name in listed:
            shutil.copyfile(source.path / name, staged / name)
    (staged / SOURCE).write_bytes(read_list(source.path))
    for name, data in files.items():
        (staged / name).parent.mkdir(exist_ok=True)
        (staged / name).write_bytes(data)


def _seal(source: Source, staged: Path, identity: Identity | None, today: date) -> None:
    own = source.folder.listed
    seal_folder(
        staged,
        run=own.run,
        round=own.round,
        identity=identity,
        network=own.network,
        study=own.study,
        source=source.folder.digest,
        valid_days=(date.fromisoformat(own.expires) - today).days,
    )


def _made(source: Source, exporter: Exporter, form: Form) -> tuple[dict[str, bytes], Parity]:
    """The export's own files, by name, and how it compares with the model."""
    cases = exporter.cases(source)
    if form in ("hf", "peft") and source.schema.kind == LANGUAGE:
        from wardround.common.export import language_exporter as language

        alone = form == "peft"
        files = language.adapter_files(source) if alone else language.whole_files(source)
        run = (language.adapter_run if alone else language.whole_run)(source, files)
    elif form == "peft":
        raise ModelRefused(
            "only language models have adapters that peft loads",
            who=str(source.path),
            mend="of texts --format hf",
        )
    elif form == "hf":
        from wardround.common.export.hf import hf_files, hf_run

        files = hf_files(source)
        run = hf_run(source, files)
    elif form == "torch":
        from wardround.common.export.torch_export import program_of

        program, run = program_of(source, exporter, cases.columns)
        files = {PROGRAM: program, **exporter.files(source)}
    else:
        graph = exporter.graph(source)
        run = GraphSession(graph).run
        files = {GRAPH: graph, **exporter.files(source)}
    return files, parity_of(cases, run, exporter.tolerance, str(source.path))
