"""An export's folder is opened: every file as its list says, and then it can predict.

    model.onnx | model.pt2     the graph
    export.json                how it was made, and its parity with the model
    schema.json config.toml    the model folder's: what goes in and comes out, how rows are read,
    preparation.safetensors    and what was agreed on for it
    thresholds.json card.md    the model folder's, where it has them
    source.json                the model folder's own files.json, whose signature stays checkable
    files.json                 the export's, signed by whoever exported it, or by nobody

Opening one imports no torch. The graph is covered by the export's signature; that of
``source.json`` says only which model the exporter names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ModelRefused
from wardround.common.export.info import ExportInfo
from wardround.common.export.names import INFO, SOURCE, TOTALS
from wardround.common.export.session import GraphSession
from wardround.common.figures.sums import Sums
from wardround.common.model_folder.listed import Listed, digest_of, read_list
from wardround.common.model_folder.schema_file import CONFIG, SCHEMA, read_schema
from wardround.common.tasks.schema import Schema


class ExportFolder:
    """One export. Make one with ``open``.

    Attributes
    ----------
    path : of the folder
    listed : what its ``files.json`` says
    digest : of ``files.json``
    info : what its ``export.json`` says
    source : the list of the model folder that it was made of
    """

    def __init__(
        self, path: Path, listed: Listed, digest: str, info: ExportInfo, source: Listed
    ) -> None:
        self.path, self.listed, self.digest = path, listed, digest
        self.info, self.source = info, source

    @classmethod
    def open(cls, path: Path | str) -> ExportFolder:
        """The export in a folder.

        Raises ModelRefused if a file was altered or is missing, or the folder is none.
        """
        folder = Path(path)
        data = read_list(folder)
        listed = Listed.read(data, str(folder))
        listed.check_files(folder)
        info = ExportInfo.read(folder)
        names = {one.name for one in listed.files}
        if lacking := sorted({INFO, SOURCE, SCHEMA, CONFIG, TOTALS, info.graph} - names):
            raise ModelRefused(f"'{lacking[0]}' is not in its list", who=str(folder))
        own = (folder / SOURCE).read_bytes()
        source = Listed.read(own, str(folder / SOURCE))
        if not listed.source == info.model == digest_of(own):
            raise ModelRefused(
                "it names another model than the one that it was made of",
                who=str(folder),
                mend="export the model again",
            )
        return cls(folder, listed, digest_of(data), info, source)

    @cached_property
    def schema(self) -> Schema:
        """What goes in and comes out. Raises ModelRefused."""
        return read_schema(self.path)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options of the model's ``[task]``. Raises ModelRefused."""
        try:
            table = tomllib.loads((self.path / CONFIG).read_text("utf-8")).get("task", {})
        except (OSError, ValueError):
            raise ModelRefused(f"{CONFIG} can't be read", who=str(self.path)) from None
        return {key: value for key, value in table.items() if key != "name"}

    def check(
        self,
        trusted: Collection[bytes] | None,
        today: date | None,
        makers: Collection[bytes] | None = None,
    ) -> None:
        """Raise ModelRefused unless one of these keys signed the export, and it isn't past its last
        day; None for what isn't to be asked.

        makers : keys of the servers whose models are taken: one must have signed the model
        """
        self.listed.check(str(self.path), trusted, today)
        self.source.check(str(self.path / SOURCE), makers, today)

    @cached_property
    def totals(self) -> Sums:
        """What the preparation agreed on. Raises CheckpointError."""
        return read_tensors(self.path / TOTALS)[0]

    def session(self, threads: int = 1) -> GraphSession:
        """The graph, loaded anew. Raises ModelRefused for another format, without onnxruntime,
        and for a graph that this onnxruntime can't load."""
        if self.info.form != "onnx":
            raise ModelRefused(
                f"'{self.info.graph}' is no ONNX graph",
                who=str(self.path),
                mend="export the model with --format onnx",
            )
        return GraphSession(self.path / self.info.graph, threads)


def is_export(path: Path | str) -> bool:
    """Whether a folder looks like an export's, rather than a model folder."""
    return (Path(path) / INFO).is_file()
