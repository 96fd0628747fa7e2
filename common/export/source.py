"""The model that an export is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from wardround.common.errors import CheckpointError, ModelRefused
from wardround.common.figures.sums import Sums
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.base import Task
from wardround.common.tasks.schema import Schema

AT_HOME = "export it at the hospital: wardround client export KIT --model RUN"


@dataclass(frozen=True)
class Source:
    """A finished model, loaded.

    folder : where it lies
    task, totals, schema : the folder's
    module : in evaluation mode, outputs in their own unit
    hospital : whose own layers or preparation it has; '' where it has none
    train : that hospital's training rows, where the preparation asks for them
    """

    folder: ModelFolder
    task: Task[Any]
    totals: Sums
    schema: Schema
    module: nn.Module
    hospital: str = ""
    train: Any = None

    @classmethod
    def of(
        cls,
        folder: ModelFolder,
        hospital: str | None = None,
        train: Any = None,
        module: nn.Module | None = None,
    ) -> Source:
        """The model of a folder.

        hospital : whose, where entries are personal
        module : of that hospital, where it isn't in the folder's own list

        Raises ModelRefused where it is complete at a hospital only.
        """
        if train is None and (why := folder.task.own_statistics()):
            raise ModelRefused(f"the model {why}", who=str(folder.path), mend=AT_HOME)
        if folder.personal and hospital is None:
            raise ModelRefused(
                "layers of it stay with each hospital, so there is no one model",
                who=str(folder.path),
                mend=f"{AT_HOME}; of a simulation, name one: --hospital NAME",
            )
        try:
            module = module or folder.module(hospital)
        except CheckpointError as error:
            raise ModelRefused(str(error)) from None
        whose = hospital or ""
        return cls(folder, folder.task, folder.totals, folder.schema, module, whose, train)

    @property
    def path(self) -> Path:
        """Of the model folder."""
        return self.folder.path

    @property
    def notes(self) -> dict[str, str]:
        """What a graph says of itself."""
        return {
            "wardround.model": self.folder.digest,
            "wardround.run": self.folder.listed.run,
            "wardround.task": self.schema.task,
            "wardround.target": self.schema.target,
            "wardround.refused": "a row that gets no prediction has NaN in every output",
        }
