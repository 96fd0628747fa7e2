"""Graphs that several tests look at: torch's exporter takes a second for the smallest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.common.export.made_neural import image_folder, text_folder
from tests.common.tasks.text.tiny import tiny_encoder
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT of one layer."""
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), num_hidden_layers=1)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> ModelFolder:
    """It tags two types of entities, by adapters of which half are left."""
    more = 'tuning = "adalora"\nentities = ["Disease", "Drug"]'
    return text_folder(tmp_path_factory.mktemp("tagger") / "model", encoder, "tokens", more)


@pytest.fixture(scope="session")
def tagger_graph(tmp_path_factory: pytest.TempPathFactory, tagger: ModelFolder) -> ExportFolder:
    return export_model(Source.of(tagger), tmp_path_factory.mktemp("tagger") / "onnx")


@pytest.fixture(scope="session")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """Three classes of volumes that aren't cubes, with statistics of a hospital's batches."""
    task = 'classes = ["a", "b", "c"]\nsize = [8, 9, 10]\nmodel = { width = 8, norm = "batch" }'
    return image_folder(tmp_path_factory.mktemp("volumes") / "model", task)


@pytest.fixture(scope="session")
def volumes_graph(tmp_path_factory: pytest.TempPathFactory, volumes: ModelFolder) -> ExportFolder:
    return export_model(Source.of(volumes), tmp_path_factory.mktemp("volumes") / "onnx")
