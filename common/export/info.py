"""``export.json``: how an export was made, and how near it is to the model that it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from wardround.common.durable.versioned import Format
from wardround.common.errors import ModelRefused
from wardround.common.export.int8_info import Int8
from wardround.common.export.names import ADAPTERS, GRAPH, INFO, PROGRAM, WEIGHTS
from wardround.common.results.package import Sha256
from wardround.common.settings.base import Table
from wardround.common.text import to_json

FORMAT = Format("export", "export the model again")
Form = Literal["onnx", "torch", "hf", "peft"]


def file_of(form: Form) -> str:
    """The file that holds the graph, or the weights."""
    return {"onnx": GRAPH, "torch": PROGRAM, "hf": WEIGHTS, "peft": ADAPTERS}[form]


class Parity(Table):
    """How the graph's predictions compare with the model's own.

    rows : that both predicted
    refused : rows that both refused
    largest : difference between two predictions of one row: of probabilities as it is, of numbers
        relative to their size or the target's deviation, whichever is more
    tolerance : more would have made no export
    rounding : largest difference to the model in the 16 bits that it was trained and measured in; 0
        where that is float32, which the graph computes in
    """

    rows: int = Field(ge=1)
    refused: int = Field(0, ge=0)
    largest: float = Field(ge=0)
    tolerance: float = Field(gt=0)
    rounding: float = Field(0.0, ge=0)


class ExportInfo(Table):
    """How an export was made.

    form : of the graph
    model : digest of the model folder (SHA-256 of its ``files.json``, here ``source.json``)
    hospital : whose own layers or preparation is inside; '' where nobody's is
    precision : of the weights: 'float32', 'int8'
    opset : of ONNX; 0 of a torch program
    versions : of what made it
    parity : of the graph in float32, also where ``int8`` says that the file's is one made of it
    """

    form: Form = "onnx"
    model: Sha256
    task: str
    kind: str = ""
    hospital: str = ""
    precision: str = "float32"
    opset: int = 0
    versions: Mapping[str, str] = {}
    parity: Parity
    int8: Int8 | None = None

    @property
    def graph(self) -> str:
        """The graph's file."""
        return file_of(self.form)

    def to_bytes(self) -> bytes:
        """The content of ``export.json``."""
        return to_json(FORMAT.seal(self.model_dump(mode="json")), indent=1).encode()

    @classmethod
    def read(cls, folder: Path) -> ExportInfo:
        """The one in a folder. Raises ModelRefused."""
        path = folder / INFO
        try:
            stored = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            raise ModelRefused(
                f"{INFO} can't be read: no export?", who=str(folder), mend="name an export's folder"
            ) from None
        values = FORMAT.read(stored, ModelRefused, str(path))
        try:
            return cls.model_validate_json(json.dumps(values))
        except ValidationError:
            raise ModelRefused("holds no export", who=str(path), mend=FORMAT.mend) from None
