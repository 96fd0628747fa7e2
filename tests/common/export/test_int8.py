"""Weights of 8 bits: how far they are off, what they cost in figures, and when they are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.metrics import accuracy_score, roc_auc_score
from typer.testing import CliRunner

from tests.common.export import made
from wardround.common.errors import ModelRefused
from wardround.common.export.cli import commands
from wardround.common.export.exporter import exporter_of
from wardround.common.export.exporting import export_model
from wardround.common.export.folder import ExportFolder
from wardround.common.export.int8 import method_of, quantised
from wardround.common.export.int8_scores import Wanted, int8_graph
from wardround.common.export.session import GraphSession
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.tasks.imaging.images import Images

ROWS = 40
TABLE = made.settings("binary", {"model": '{ kind = "mlp", hidden = [40, 20] }'})


def labelled(folder: ModelFolder, seed: int = 0) -> Images:
    """Noise with labels of which about half are what the model says."""
    draw = np.random.default_rng(seed)
    raw = folder.task.rows_of_values(list(draw.random((ROWS, *folder.schema.size))))
    with torch.no_grad():
        says = Source.of(folder).module(raw.pixels).argmax(1).numpy()
    chance = draw.integers(0, len(folder.schema.classes), ROWS)
    return replace(raw, labels=np.where(draw.random(ROWS) < 0.5, says, chance))


def graph_of(made: ExportFolder) -> bytes:
    return (made.path / "model.onnx").read_bytes()


def test_each_weight_is_off_by_half_a_step_of_its_channel(volumes_graph: ExportFolder) -> None:
    before = onnx.load_model_from_string(graph_of(volumes_graph))
    small = quantised(graph_of(volumes_graph), "weights")
    after = onnx.load_model_from_string(small)
    values = {one.name: numpy_helper.to_array(one) for one in after.graph.initializer}
    rounded = {x.removesuffix("/int8") for x in values if x.endswith("/int8")}
    assert len(rounded) == 7
    for one in before.graph.initializer:
        for axis in (0, 1):
            if (name := f"{one.name}/{axis}") in rounded:
                whole, scale = values[f"{name}/int8"], values[f"{name}/scale"]
                true = numpy_helper.to_array(one)
                off = np.abs(whole.astype(np.float32) * scale - true)
                assert (off <= 0.5001 * scale).all() and whole.dtype == np.int8
                largest = np.abs(true).max(axis=tuple(set(range(true.ndim)) - {axis}))
                assert np.allclose(scale.ravel() * 127, largest, rtol=1e-6)
                assert one.name not in values
    assert small == quantised(graph_of(volumes_graph), "weights")
    notes = {one.key: one.value for one in after.metadata_props}
    assert notes["wardround.model"] == volumes_graph.info.model
    assert notes["wardround.precision"] == "int8"


def test_figures_are_scikit_learns_and_stand_beside_the_float_graphs(
    volumes: ModelFolder, volumes_graph: ExportFolder
) -> None:
    source, raw = Source.of(volumes), labelled(volumes)
    graph, wanted = graph_of(volumes_graph), Wanted(raw, tolerance=1.0)
    for calibration, method in ((None, "weights"), (labelled(volumes, 1), "static")):
        small, found = int8_graph(
            source, exporter_of(source), graph, replace(wanted, calibration=calibration)
        )
        scores = [_scores(one, raw) for one in (graph, small)]
        assert found.method == method and found.rows == ROWS
        assert found.calibration_rows == (0 if calibration is None else ROWS)
        assert found.largest == pytest.approx(np.abs(scores[0] - scores[1]).max(), abs=1e-12)
        assert 0 < found.largest < 0.1
        for own, said in zip(scores, (found.float_figures, found.figures), strict=True):
            assert said["accuracy"] == pytest.approx(accuracy_score(raw.labels, own.argmax(1)))
        assert found.figure == "accuracy"
        assert (found.size_bytes, found.float_bytes) == (len(small), len(graph))
    assert len(quantised(graph, "weights")) < 0.35 * len(graph)


def _scores(graph: bytes, raw: Images) -> np.ndarray:
    return np.stack(list(GraphSession(graph).run({"pixels": raw.pixels.numpy()}).values()), 1)


def test_what_loses_too_much_is_refused(
    volumes: ModelFolder, volumes_graph: ExportFolder, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    graph = graph_of(volumes_graph)
    raw = labelled(volumes)
    labels = _scores(graph, raw).argmax(1)
    model = onnx.load_model_from_string(graph)
    for one in model.graph.initializer:
        if list(one.dims) == [3] and one.data_type == onnx.TensorProto.FLOAT:
            # the last bias: every image is of the last class then
            one.CopyFrom(numpy_helper.from_array(np.float32([0, 0, 99]), one.name))
    monkeypatch.setattr(
        "wardround.common.export.int8_scores.quantised", lambda *_: model.SerializeToString()
    )
    monkeypatch.setattr("wardround.common.export.image_exporter.image_graph", lambda _: graph)
    said = f"accuracy goes from 1.0000 to {(labels == 2).mean():.4f}, more than 0.01 worse"
    with pytest.raises(ModelRefused, match=said):
        export_model(Source.of(volumes), tmp_path / "x", int8=Wanted(replace(raw, labels=labels)))
    assert list(tmp_path.iterdir()) == []


def test_tagged_words_are_scored_by_their_entities(
    tagger: ModelFolder, tagger_graph: ExportFolder, tmp_path: Path
) -> None:
    """The float graph's F1 is that of the task's own evaluation of the same rows."""
    file = tmp_path / "test.tsv"
    first = "acute\tB-Disease\nrenal\tI-Disease\nfever\tB-Drug\nand\tO\n\n"
    file.write_text((first + "cough\tO\nfever\tB-Drug\n\n") * 20)
    source = Source.of(tagger)
    raw = tagger.task.load(file)
    graph = graph_of(tagger_graph)
    assert method_of(graph, calibrated=True) == "dynamic"
    _, found = int8_graph(source, exporter_of(source), graph, Wanted(raw, tolerance=1.0))
    examples = tagger.task.prepare(raw, tagger.totals, raw)
    with torch.no_grad():
        outputs = source.module(examples.inputs)
    wanted = tagger.task.summarise(tagger.task.metrics(outputs, examples.targets))
    for name in ("f1", "loss", "support_Drug"):
        assert found.float_figures[name] == pytest.approx(wanted[name], rel=1e-4)
    assert found.figures["examples"] == 40 and found.figure == "f1" and found.largest > 0


def test_the_command_measures_a_table_and_wants_its_rows(tmp_path: Path) -> None:
    """An MLP: the areas under the curve are scikit-learn's, to the width of a bin."""
    folder = made.model_folder(tmp_path / "model", TABLE)
    columns = made.rows("binary", 300, 5)
    names = list(columns)
    lines = [",".join(names)]
    for row in zip(*columns.values(), strict=True):
        lines.append(",".join("" if cell is None else str(cell) for cell in row))
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    run = CliRunner().invoke
    command = [str(folder.path), "--out", str(tmp_path / "out"), "--int8"]
    alone = run(commands, command)
    assert alone.exit_code != 0 and "--data" in str(alone.exception or alone.output)
    done = run(commands, [*command, "--data", str(tmp_path / "rows.csv")])
    assert done.exit_code == 0, done.output
    opened = ExportFolder.open(tmp_path / "out")
    found = opened.info.int8
    assert found is not None and found.method == "dynamic" and opened.info.precision == "int8"
    raw = folder.task.load(tmp_path / "rows.csv")
    exporter = exporter_of(Source.of(folder))
    (batch,) = exporter.rows(Source.of(folder), raw)
    scores = opened.session().run(batch)["probability"]
    own = roc_auc_score(folder.task.labels(raw), scores)
    assert found.figures["auc"] == pytest.approx(own, abs=0.02)  # it is counted in bins
    examples = folder.task.prepare(raw, folder.totals, raw)
    with torch.no_grad():
        outputs = folder.module()(examples.inputs)
    wanted = folder.task.summarise(folder.task.metrics(outputs, examples.targets))
    assert found.float_figures["auc"] == pytest.approx(wanted["auc"], abs=1e-4)
    assert f"auc on {found.rows} rows {found.figures['auc']:.4f}" in done.output
