"""What an exporter of one task is, and which there are."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import ModelRefused
from wardround.common.export.names import OPSET
from wardround.common.export.source import Source
from wardround.common.figures.sums import Sums
from wardround.common.tasks.base import Task
from wardround.common.tasks.schema import LABELS, LANGUAGE, PAIRS, Schema

Arrays = Mapping[str, NDArray[Any]]
_TINY = 1e-15
_EXPORTERS = {
    "imaging": "wardround.common.export.image_exporter:ImageExporter",
    LANGUAGE: "wardround.common.export.language_exporter:LanguageExporter",
    "tabular": "wardround.common.export.tabular_exporter:TabularExporter",
    "text": "wardround.common.export.text_exporter:TextExporter",
}
"""Name of a task to the class that exports it; of a language model its kind."""


@dataclass(frozen=True)
class Cases:
    """Rows that a graph is compared with the model on.

    columns : what the graph is fed, of rows that both must predict
    predictions : the model's own, of the same rows, by name of the output; NaN where it gives none
    refused : the same as ``columns``, of rows that the model refuses and the graph must give NaN
    scales : of an output that is a number, what a difference may be relative to beside its size
    rounded : the model's own in the 16 bits that it was trained and measured in; empty where that
        is float32
    """

    columns: Arrays
    predictions: Arrays
    refused: Arrays = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    rounded: Arrays = field(default_factory=dict)


class Fed(Protocol):
    """What feeding a graph and reading its answers take: of a ``Source``, or of an export."""

    @property
    def task(self) -> Task[Any]:
        """Of the rows."""

    @property
    def totals(self) -> Sums:
        """What the model's preparation agreed on."""

    @property
    def schema(self) -> Schema:
        """The model's."""


class Exporter(ABC):
    """How models of one task become graphs. Subclass it, and name it in ``_EXPORTERS``.

    tolerance : of parity: a difference beyond it makes no export
    opset : of its ONNX files
    free_axes : the first axes of every input, along which it may have any size, by name
    """

    tolerance: float = 1e-5
    opset: int = OPSET
    free_axes: Sequence[str] = ("rows",)

    @abstractmethod
    def graph(self, source: Source) -> bytes:
        """The ONNX file. Raises ModelRefused where the model has no such form."""

    def program(self, source: Source) -> nn.Module:
        """The module that ``torch.export`` takes; its outputs are a dict by the schema's names.
        Raises ModelRefused where a task has none."""
        raise ModelRefused(
            f"a model of task '{source.schema.task}' has no torch program",
            who=str(source.path),
            mend="export it with --format onnx; in torch, load_model gives the module",
        )

    def program_inputs(self, source: Source, columns: Arrays) -> tuple[Tensor, ...]:
        """What that module takes, of what the ONNX graph takes."""
        raise NotImplementedError

    @abstractmethod
    def cases(self, source: Source) -> Cases:
        """Rows that try the graph at its edges, the same whenever it is asked, and what the model
        predicts for them by the product's own path."""

    @abstractmethod
    def rows(self, source: Fed, raw: Any) -> Iterator[Arrays]:
        """Rows in the task's own form as the graph takes them, in their order, some at a time."""

    def outputs(self, source: Fed, predictions: Arrays) -> Tensor:
        """What the model's outputs were, of which predictions were made: what ``Task.metrics``
        takes. Default: of probabilities, logits of the second class, or logarithms of all."""
        values = [np.clip(predictions[x.name], _TINY, 1 - _TINY) for x in source.schema.outputs]
        if len(values) == 1:
            return torch.from_numpy(np.log(values[0] / (1 - values[0])))[:, None]
        return torch.from_numpy(np.log(np.stack(values, axis=1)))

    def files(self, source: Source) -> Mapping[str, bytes]:
        """What else belongs to the export, by name: whatever feeding the graph takes."""
        return {}


def exporter_of(source: Source) -> Exporter:
    """The exporter of a model's task. Raises ModelRefused for a task of a user's own, and for texts
    with several heads or embeddings, which no graph here gives."""
    if source.schema.kind in (LABELS, PAIRS):
        raise ModelRefused(
            f"a text model with kind = '{source.schema.kind}' has no export",
            who=str(source.path),
            mend="use load_model, or `wardround predict`",
        )
    name = source.folder.config.task.name
    return exporter_for(LANGUAGE if source.schema.kind == LANGUAGE else name, str(source.path))


def exporter_for(name: str, who: str = "") -> Exporter:
    """The exporter of a task by its name; ``who`` asks. Raises ModelRefused where it has none."""
    if name not in _EXPORTERS:
        raise ModelRefused(
            f"a model of task '{name}' has no export",
            who=who,
            mend=f"the tasks {', '.join(sorted(_EXPORTERS))} have; of another use load_model",
        )
    module, _, kind = _EXPORTERS[name].partition(":")
    made: Exporter = getattr(importlib.import_module(module), kind)()
    return made
