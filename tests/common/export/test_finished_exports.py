"""What an export's graph says is turned back into what its model said in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wardround.common.errors import ModelRefused
from wardround.common.export.finished import FinishedExport
from wardround.common.export.folder import ExportFolder
from wardround.common.export.info import ExportInfo
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.base import Task
from wardround.common.tasks.text.rows import IGNORED


def outputs(
    model: ModelFolder | FinishedExport, task: Task[Any], raw: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of all rows and of none."""
    score, none = model.scorer(task, "cpu"), task.select(raw, np.arange(0))
    prepared = [task.prepare(part, model.totals, raw).inputs for part in (raw, none)]
    return score(raw, prepared[0]), score(none, prepared[1])


def test_of_images_the_logarithms_of_classes(
    volumes: ModelFolder, volumes_graph: ExportFolder
) -> None:
    task = volumes.task
    pixels = np.random.default_rng(0).random((70, *volumes.schema.size))
    raw = task.rows_of_values(list(pixels))
    own, own_none = outputs(volumes, task, raw)
    found, none = outputs(FinishedExport.open(volumes_graph.path), task, raw)
    torch.testing.assert_close(found, own.log_softmax(1), atol=1e-5, rtol=1e-5)
    assert own.shape == (70, 3) and none.shape == own_none.shape == (0, 3)


def test_of_tags_sums_are_the_model_s(tagger: ModelFolder, tagger_graph: ExportFolder) -> None:
    """Batches of a graph are as long as their longest row; targets are as long as the task says."""
    task, draw = tagger.task, np.random.default_rng(1)
    texts = ["fever " * int(n) for n in draw.integers(1, 30, 40)]
    raw = task.rows_of_values(texts)
    tags = draw.integers(0, 5, raw.tokens.shape)
    pad = (raw.tokens == raw.tokens[0, -1]) & (np.arange(raw.tokens.shape[1]) > 0)
    raw = replace(raw, targets=np.where(pad, IGNORED, tags))
    own, own_none = outputs(tagger, task, raw)
    found, none = outputs(FinishedExport.open(tagger_graph.path), task, raw)
    assert found.shape == own.shape and none.shape == own_none.shape
    targets = task.prepare(raw, tagger.totals, raw).targets
    wanted, sums = task.metrics(own, targets), task.metrics(found, targets)
    for name, values in wanted.items():
        np.testing.assert_allclose(sums[name], values, rtol=1e-5)
    assert sums["loss"][0] > 1


def test_one_hospital_s_own_is_refused(
    volumes_graph: ExportFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = volumes_graph.info.model_copy(update={"hospital": "north"})
    monkeypatch.setattr(ExportInfo, "read", classmethod(lambda cls, folder: made))
    with pytest.raises(ModelRefused, match="one hospital's own"):
        FinishedExport.open(Path(volumes_graph.path))
