"""An imaging model as a graph, with the scaling of its pixels inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.common.export.made_neural import image_folder
from wardround.common.errors import ModelRefused
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.image_exporter import case_images
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.predict.exported import load_export

PIXEL = st.floats(0, 1, width=32)


def test_volumes_of_any_number_have_the_models_probabilities(
    volumes: ModelFolder, volumes_graph: ExportFolder
) -> None:
    session, model = volumes_graph.session(), Source.of(volumes).module

    @settings(max_examples=8, deadline=None)
    @given(
        st.integers(1, 3).flatmap(lambda n: arrays(np.float32, (n, 1, 8, 9, 10), elements=PIXEL))
    )
    def holds(pixels: np.ndarray) -> None:
        found = session.run({"pixels": pixels})
        with torch.no_grad():
            wanted = torch.softmax(model(torch.from_numpy(pixels)).double(), 1).numpy()
        assert list(found) == ["probability_a", "probability_b", "probability_c"]
        assert np.abs(np.stack(list(found.values()), 1) - wanted).max() < 1e-5

    holds()


def test_bytes_and_numbers_come_out_as_by_the_task(tmp_path: Path) -> None:
    """Grey and coloured pictures of other sizes, two classes, augmented while training."""
    task = (
        'classes = ["no", "yes"]\nsize = [12, 10]\nchannels = 3\nmodel = { width = 8 }\n'
        "augment = { rotation = 20.0 }"
    )
    folder = image_folder(tmp_path / "model", task, channels=3)
    made = export_model(Source.of(folder), tmp_path / "onnx")
    draw = np.random.default_rng(1)
    pictures = [
        draw.integers(0, 256, (12, 10), dtype=np.uint8),
        draw.integers(0, 256, (30, 41, 3), dtype=np.uint8),
        draw.normal(0, 400, (12, 10)),
    ]
    found = load_export(made.path).predict(pictures).table.to_pydict()
    own = folder.task.rows_of_values(pictures)
    inputs = folder.task.prepare(own, folder.totals, own).inputs
    with torch.no_grad():
        outputs = Source.of(folder).module(inputs)
    wanted = folder.task.predictions(outputs, folder.totals)["probability"]
    assert np.abs(np.array(found["probability"]) - wanted).max() < 1e-5
    assert found["row"] == [1, 2, 3]


def test_a_graph_that_says_something_else_is_never_written(
    volumes: ModelFolder,
    volumes_graph: ExportFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = (volumes_graph.path / "model.onnx").read_bytes()
    monkeypatch.setattr("wardround.common.export.image_exporter.image_graph", lambda _: graph)
    source = Source.of(volumes)
    with torch.no_grad():
        list(source.module.parameters())[-1].add_(torch.tensor([0.1, 0.0, 0.0]))
    with pytest.raises(ModelRefused, match="no parity: the graph's predictions differ by 0.02"):
        export_model(source, tmp_path / "onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_images_that_a_graph_is_tried_on_reach_its_edges() -> None:
    found = case_images(2, (3, 4))
    assert found.shape == (13, 2, 3, 4) and found.dtype == np.float32
    assert found.min() == 0 and found.max() == 1
    assert np.array_equal(found, case_images(2, (3, 4)))
