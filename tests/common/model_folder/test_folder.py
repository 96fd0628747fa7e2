"""A run's model folder stands by itself, and is what was measured or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from wardround.common.errors import ModelRefused
from wardround.common.model_folder.folder import ModelFolder
from wardround.simulations import simulate

HOSPITALS = {
    "north": "age,sex,smoker,ward,died\n"
    + "".join(f"{50 + n},F,ja,a,{n % 2}\n" for n in range(20)),
    "south": "age,sex,smoker,ward,died\n" + "".join(f"{70 - n},M,nein,b,1\n" for n in range(12)),
}
TASK = """
federation.rounds = 1
federation.runs = "runs"
simulation.baselines = false
secure_aggregation.enabled = false
data.path = "data"
[task]
name = "tabular"
[task.columns]
target = "died"
categorical = ["sex", "ward"]
binary = ["smoker"]
positive = { smoker = ["ja"] }
categories = { sex = ["F", "M"] }
expected = { age = { unit = "a", median = 60.0 } }
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("folder")
    (here / "data").mkdir()
    for name, text in HOSPITALS.items():
        (here / "data" / f"{name}.csv").write_text(text)
    (here / "federation.toml").write_text(TASK)
    return simulate(here / "federation.toml").run_directory


def test_it_stands_by_itself(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "alone")
    here, alone = ModelFolder.open(run), ModelFolder.open(tmp_path / "alone")
    assert alone.digest == here.digest
    rows = torch.randn(5, len(here.module().weight[0]))
    assert torch.equal(alone.module()(rows), here.module()(rows))


def test_its_schema_says_what_goes_in_and_comes_out(run: Path) -> None:
    schema = ModelFolder.open(run).schema
    assert [(one.name, one.kind) for one in schema.inputs] == [
        *(("age", "number"), ("smoker", "binary"), ("sex", "category"), ("ward", "category")),
    ]
    age, smoker, sex, ward = schema.inputs
    assert (age.unit, age.gap) == ("a", f"the median, {age.median:.6g} a")
    assert (smoker.positive, sex.categories, ward.categories) == (("ja",), ("F", "M"), ("a", "b"))
    assert [one.name for one in schema.outputs] == ["probability"]


def test_what_was_altered_or_is_no_model_is_refused(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "altered"
    shutil.copytree(run / "model", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelRefused, match="'model.safetensors' was altered"):
        ModelFolder.open(folder)
    with pytest.raises(ModelRefused, match="no such folder"):
        ModelFolder.open(tmp_path / "nowhere")
    with pytest.raises(ModelRefused, match="files.json can't be read"):
        ModelFolder.open(tmp_path)


def test_a_run_of_before_gets_its_description(run: Path, tmp_path: Path) -> None:
    older = tmp_path / run.name
    shutil.copytree(run, older)
    for name in ("files.json", "schema.json", "config.toml"):
        (older / "model" / name).unlink()
    assert ModelFolder.open(older).schema == ModelFolder.open(run).schema
