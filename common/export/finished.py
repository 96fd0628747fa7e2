"""An export that is asked about as a finished model is: figures of its own graph, run here.

The graph answers with what ``predict`` gives; the figures' sums take what a model gives in
training, so that is worked out of the answers (``Exporter.outputs``). Of its probabilities
(float64) a logit comes back within 1e-9 up to 15 and 1e-2 up to 30; beyond 34.5, where the
probability of the other class is under 1e-15, it is 34.5.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.config.load import Config, load_config
from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Exporter, Fed, exporter_for
from wardround.common.export.folder import ExportFolder, is_export
from wardround.common.export.joined import concatenated
from wardround.common.export.session import GraphSession
from wardround.common.figures.sums import Sums
from wardround.common.model_folder.folder import ModelFolder, opened
from wardround.common.model_folder.schema_file import CONFIG
from wardround.common.procedures.procedure import Scorer
from wardround.common.tasks.base import Task
from wardround.common.tasks.inputs import Inputs
from wardround.common.tasks.schema import TAGS, Schema

_NO_MODULE = "an export has a graph, and no module that could be looked into"


class FinishedExport:
    """One export as a ``FinishedModel``. Make one with ``open``.

    folder : the export's, whose digest stands for it
    config : the settings that its model was trained by
    """

    def __init__(self, folder: ExportFolder, config: Config) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def open(cls, path: Path | str) -> FinishedExport:
        """The export in a folder.

        Raises ModelRefused for one that was altered, is no ONNX graph, or holds one hospital's own
        layers or preparation; ConfigError.
        """
        folder = ExportFolder.open(path)
        if folder.info.hospital:
            raise ModelRefused(
                "the export holds what is one hospital's own, so the others have another model",
                who=str(path),
                mend="that hospital has figures of it: wardround client monitor KIT",
            )
        return cls(folder, load_config(folder.path / CONFIG))

    @property
    def digest(self) -> str:
        """Of the export's ``files.json``."""
        return self.folder.digest

    @cached_property
    def schema(self) -> Schema:
        """The model's. Raises ModelRefused."""
        return self.folder.schema

    @cached_property
    def totals(self) -> Sums:
        """What the preparation agreed on. Raises CheckpointError."""
        return self.folder.totals

    @property
    def personal(self) -> list[str]:
        """None: such a model has no export that all share."""
        return []

    def module(self) -> nn.Module:
        """Raises ModelRefused: there is none."""
        raise ModelRefused(_NO_MODULE, who=str(self.folder.path), mend="ask about the model itself")

    def trained(self) -> nn.Module:
        """Raises ModelRefused: there is none."""
        return self.module()

    def scorer(self, task: Task[Any], device: str) -> Scorer:
        """Outputs as in training, of the graph's answers; onnxruntime runs it on the CPU, on one
        thread, whatever ``device`` says. Raises ModelRefused as ``ExportFolder.session``."""
        return _Graph(task, self, self._session)

    @cached_property
    def _session(self) -> GraphSession:
        return self.folder.session()

    def check(self, trusted: Collection[bytes] | None, today: date | None) -> None:
        """Raise ModelRefused unless one of these keys signed the export and one the model that it
        names, neither is past its last day, and the graph runs here; None for what isn't to be
        asked."""
        self.folder.check(trusted, today, makers=trusted)
        _ = self._session  # nobody's graph is loaded before it is known whose it is


class _Graph:
    """A graph with what feeds it."""

    def __init__(self, task: Task[Any], model: FinishedExport, session: GraphSession) -> None:
        self.task, self.totals, self.schema = task, model.totals, model.schema
        self._session = session
        self._exporter: Exporter = exporter_for(model.schema.task, str(model.folder.path))

    def __call__(self, raw: Any, inputs: Inputs) -> Tensor:
        """Outputs of N rows, float32; of none (0, O), without a run."""
        if not len(inputs):
            return torch.zeros(0, *self._shape())
        fed: Fed = self
        answers = [self._session.run(batch) for batch in self._exporter.rows(fed, raw)]
        return self._exporter.outputs(fed, concatenated(answers)).float()

    def _shape(self) -> tuple[int, ...]:
        """Of one row's outputs."""
        named = self.schema.outputs
        if [one.name for one in named] == [TAGS]:
            return int(self.schema.max_length or 1), len(self.schema.classes)
        return (len(named),)


def finished_model(path: Path, config: Config, alone: bool = False) -> ModelFolder | FinishedExport:
    """What a study is asked of: an export, or what ``opened`` gives and raises."""
    return FinishedExport.open(path) if is_export(path) else opened(path, config, alone)
