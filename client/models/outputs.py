"""What a model says of rows whose targets are known: predictions and targets side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.site.kit import Kit
from wardround.client.training.evaluation import model_outputs
from wardround.common.calibration.correction import MULTICLASS, REGRESSION, kind_of
from wardround.common.errors import DataError, ModelRefused, TaskError, WardroundError
from wardround.common.model.torch_state import with_ordinary_torch
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.settings import TrainingTable
from wardround.common.tasks.base import Task
from wardround.common.tasks.classes import UNLABELLED


@dataclass(frozen=True)
class Scored:
    """Rows with what the model says of them.

    kind : binary, multiclass, regression, survival
    predictions : by the names of the schema's outputs, N each
    targets : N: 0 or 1; the class's number; the value in its own unit; or time and event, N x 2
    groups : N: the patient's number from 0, or the row's where the data name no patients
    patients : whether ``groups`` are such
    """

    kind: str
    predictions: Mapping[str, NDArray[Any]]
    targets: NDArray[Any]
    groups: NDArray[np.int64]
    patients: bool

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: NDArray[np.int64]) -> Scored:
        """The given rows, in that order."""
        chosen = {name: values[rows] for name, values in self.predictions.items()}
        return Scored(self.kind, chosen, self.targets[rows], self.groups[rows], self.patients)


def own_module(kit: Kit, folder: ModelFolder) -> Any:
    """The model of this hospital, where entries are personal; else the one of all. Raises
    ModelRefused, CheckpointError."""
    return folder.module(kit.name if folder.personal else None)


@with_ordinary_torch
def score(kit: Kit, folder: ModelFolder, raw: Any) -> Scored:
    """Predictions of rows that ``rows_for`` gave with targets; rows of a class that the model
    doesn't know are left out.

    Raises ModelRefused for a kind without one prediction for each row; DataError where no row is
    left; TaskError.
    """
    task, totals, kind = folder.task, folder.totals, kind_of(folder.schema)
    if not kind:
        raise ModelRefused(
            "it predicts no probability, number or risk of a row", who=str(folder.path)
        )
    try:
        examples = task.prepare(raw, totals, raw)
    except WardroundError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise TaskError(f"the task's prepare() failed with {type(error).__name__}") from error
    if len(examples) != task.size(raw) or len(examples) == 0:
        raise DataError("no row is left, or the task makes several examples of one")
    table = TrainingTable(precision=folder.config.training.precision)
    outputs = model_outputs(own_module(kit, folder), examples, table)
    targets = examples.targets.numpy()
    if kind == REGRESSION:
        targets = in_unit(targets, totals)
    groups, patients = _groups(task, raw)
    found = Scored(kind, task.predictions(outputs, totals), targets, groups, patients)
    if kind == MULTICLASS and (targets == UNLABELLED).any():
        found = found.select(np.flatnonzero(targets != UNLABELLED).astype(np.int64))
    if len(found) == 0:
        raise DataError("no row has a class that the model knows")
    return found


def in_unit(targets: NDArray[Any], totals: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Standardised values and deviation (``tasks/targets.py``), as values in the target's unit."""
    from wardround.common.tasks.targets import scale

    mean, std = scale(dict(totals))
    found: NDArray[np.float64] = targets[:, 0].astype(np.float64) * std + mean
    return found


def _groups(task: Task[Any], raw: Any) -> tuple[NDArray[np.int64], bool]:
    people = task.people(raw)
    if people is None:
        return np.arange(task.size(raw), dtype=np.int64), False
    return np.unique(people.astype(str), return_inverse=True)[1].astype(np.int64), True
