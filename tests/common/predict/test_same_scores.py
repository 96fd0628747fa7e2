"""The scores of a run's own test rows, predicted from files, give the figures that the run has
recorded: same rows, same preparation, same model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from tests.common.tasks.text.tiny import tiny_encoder
from tests.unlike import Consortium
from wardround.common.config.task import make_task
from wardround.common.figures.sums import (
    binary_figures,
    binary_sums,
    multiclass_figures,
    multiclass_sums,
    regression_figures,
    regression_sums,
)
from wardround.common.figures.survival import survival_figures, survival_sums
from wardround.common.predict import Predictions, Predictor, load_model
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.text.entities import entity_figures, entity_sums
from wardround.common.tasks.text.rows import IGNORED
from wardround.simulations import Result, simulate
from wardround.simulations.population.hospitals import Population

Unlike = Callable[[str], Consortium]
PLAIN = (
    "secure_aggregation.enabled=false",
    "data.test_fraction=0.4",
    "federation.rounds=1",
)
FORMS = [
    ("binary", ()),
    ("binary", ("task.normalise=none", "task.missing=drop", "task.encoding=dummy")),
    ("binary", ("task.normalise=local", "task.normalise_encoded=true", "task.model.kind=mlp")),
    ("multiclass", ("task.normalise_encoded=true",)),
    ("regression", ("task.missing=drop",)),
    ("survival", ()),
]


def trained(unlike: Unlike, kind: str, runs: Path, *overrides: str) -> tuple[Result, Population]:
    config = unlike(kind).config(*PLAIN, *overrides, runs=runs)
    result = simulate(config)
    return result, Population(config, make_task(config))


def measured(result: Result) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each hospital's figures of its test rows in the run's last round."""
    for name, parts in result.rounds[-1]["hospitals"].items():
        if "test" in parts:
            yield name, parts["test"]


def found_figures(task: Any, rows: Any, targets: NDArray[Any], got: Predictions) -> dict[str, Any]:
    """The figures of what was predicted, by the library's own sums."""
    kind, bins = task.kind, task.options.bins
    if kind == "binary":
        return binary_figures(binary_sums(got["probability"], targets, bins))
    if kind == "multiclass":
        names = [name for name in got.columns if name.startswith("probability_")]
        scores = np.column_stack([got[name] for name in names])
        known = targets >= 0
        return multiclass_figures(multiclass_sums(scores[known], targets[known], bins))
    if kind == "survival":
        return survival_figures(survival_sums(got["risk"], targets[:, 0], targets[:, 1]))
    truth = rows.numbers(task.options.columns.target)
    return regression_figures(regression_sums(got["prediction"], truth))


@pytest.mark.parametrize(("kind", "overrides"), FORMS)
def test_a_tables_test_rows(
    unlike: Unlike, tmp_path: Path, kind: str, overrides: tuple[str, ...]
) -> None:
    result, population = trained(unlike, kind, tmp_path, *overrides)
    local, compared = "task.normalise=local" in overrides, 0
    for name, figures in measured(result):
        hospital = population.hospital(name)
        parts = hospital.parts()
        own = parts["train"] if local else None
        model = load_model(result.run_directory, own_rows=own)
        rows = parts["test"]
        got = _from_a_file(model, rows, tmp_path / f"{compared}.parquet")
        assert got["row"].tolist() == list(range(1, len(rows) + 1))
        targets = model.task.prepare(rows, model.folder.totals, own or rows).targets.numpy()
        again = found_figures(model.task, rows, targets, got)
        for figure, value in again.items():
            if (recorded := figures.get(figure)) is not None and np.isfinite(value):
                # a regression's outputs are brought into the target's unit in float32
                # a float32 matrix product may round otherwise by how a batch is cut
                close = 1e-6 * again["rmse"] if kind == "regression" else 1e-7
                assert value == pytest.approx(
                    recorded, rel=1e-6 if kind == "regression" else 1e-7, abs=close
                )
                compared += 1
    assert compared > 10


def _from_a_file(model: Predictor, rows: Table, path: Path) -> Predictions:
    """Of rows as the file has them, targets and all."""
    pq.write_table(rows.data, path)
    return model.predict(path)


def test_images(unlike: Unlike, tmp_path: Path) -> None:
    """Pictures that were written out again have the bits that were evaluated."""
    from PIL import Image

    result, population = trained(unlike, "images2d", tmp_path)
    model, compared = load_model(result.run_directory), 0
    for name, figures in measured(result):
        rows = population.hospital(name).parts()["test"]
        if rows.pixels.dtype.is_floating_point:
            continue
        folder = tmp_path / f"written {compared}"
        folder.mkdir()
        for number in range(len(rows)):
            pixels = rows.pixels[number].numpy()
            picture = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
            Image.fromarray(picture).save(folder / f"{number:03}.png")
        got = model.predict(folder)
        assert got["file"].tolist() == [f"{number:03}.png" for number in range(len(rows))]
        again = found_figures(model.task, rows, np.asarray(rows.labels), got)
        for figure, value in again.items():
            if (recorded := figures.get(figure)) is not None and np.isfinite(value):
                assert value == pytest.approx(recorded, rel=1e-12), (name, figure)
                compared += 1
    assert compared > 5


def test_entities(unlike: Unlike, tmp_path: Path) -> None:
    """What is found in the test's sentences is what was counted, as long as no sentence is cut."""
    tiny = f"task.encoder={tiny_encoder(tmp_path / 'encoder')}"
    result, population = trained(unlike, "entities", tmp_path, tiny, "task.max_length=64")
    model, compared = load_model(result.run_directory), 0
    for name, figures in measured(result):
        rows = population.hospital(name).parts()["test"]
        tags = model.task.predictions(model.outputs(rows), model.folder.totals)["tags"]
        sums = entity_sums(rows.targets, tags.astype(np.int64), len(model.task.options.entities))
        again = entity_figures(sums, model.task.options.entities)
        for figure, value in again.items():
            if (recorded := figures.get(figure)) is not None and np.isfinite(value):
                assert value == pytest.approx(recorded, rel=1e-12), (name, figure)
                compared += 1
        assert (rows.targets != IGNORED).any()
    assert compared > 5
