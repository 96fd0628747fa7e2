"""What is a hospital's own goes into an export there, and only there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.client.models.kits import AtHome, at_home
from tests.common.export import made
from wardround.client.models.export import export_at_home
from wardround.client.models.find import find_model
from wardround.client.process.cli import commands
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import ModelRefused
from wardround.common.export.folder import ExportFolder
from wardround.common.export.source import Source
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import MODEL, ModelForm, hospital_path
from wardround.common.model_folder.write import seal_folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> AtHome:
    return at_home(tmp_path_factory.mktemp("home"))


def test_its_own_scale_is_of_its_training_rows(home: AtHome) -> None:
    text = made.settings("regression", {"normalise": '"local"'})
    folder = home.kit.folder / "models" / "local"
    made.model_folder(folder, text, identity=home.kit.identity)
    rows = made.rows("regression", 300, seed=2)
    rows["age"] = [None if x is None else float(str(x)) + 100 for x in rows["age"]]
    data = made.csv(home.data.with_name("local.csv"), rows)
    done = CliRunner().invoke(
        commands,
        ["client", "export", str(home.kit.folder), "--model", "local", "--data", str(data)],
    )
    assert done.exit_code == 0, done.output
    found = ExportFolder.open(home.kit.folder / "models" / "made-1-onnx")
    found.check([home.kit.identity.public], None)
    session = found.session()
    row = {"tiny": 3e-9, "constant": 7.25, "smoker": 1.0}
    columns = {name: np.full(401, value) for name, value in row.items()}
    columns |= {"age": np.linspace(60, 260, 401), "ward": np.full(401, "2", dtype=object)}
    values = session.run(columns)["prediction"]
    model = find_model(home.kit, "local")
    slope = float(model.module().state_dict()["weight"][0, 0])
    deviation = float(model.totals["target/std"][0])
    step = (values[-1] - values[0]) / 200
    ages = np.array([np.nan if x is None else float(str(x)) for x in rows["age"]])
    filled = np.where(np.isnan(ages), np.nanmedian(ages), ages)
    # of its training rows, which are some of these
    assert slope * deviation / step == pytest.approx(filled.std(), rel=0.15)


def personal_model(home: AtHome, name: str) -> Path:
    """A model whose bias stays with each hospital, as a kit has it once its results came."""
    plain = made.model_folder(home.kit.folder / "models" / name, made.settings("binary", {}))
    (plain.path / "files.json").unlink()
    task, seed = plain.task, plain.config.federation.seed
    model = build_model(task, plain.totals, seed)
    form = ModelForm.of(task, model, Entries.of(model, ["bias"]))
    arrays = model_arrays(plain.module())
    form.write(plain.path / MODEL, {"weight": arrays["weight"]}, 3, seed)
    seal_folder(plain.path, run="personal-1", round=3, identity=home.kit.identity)
    own = hospital_path(plain.path, home.kit.name)
    own.parent.mkdir()
    form.write(own, arrays | {"bias": arrays["bias"] + 2}, 3, seed, home.kit.name)
    return plain.path


def test_its_own_layers_are_inside(home: AtHome, tmp_path: Path) -> None:
    path = personal_model(home, "personal")
    folder = find_model(home.kit, "personal")
    with pytest.raises(ModelRefused, match="wardround client export KIT"):
        Source.of(folder)
    found = export_at_home(home.kit, model="personal", out=tmp_path / "export")
    assert found.info.hospital == home.kit.name
    module = folder.module(home.kit.name)
    wanted = made.predicted(
        Source.of(folder, home.kit.name, module=module), made.some_rows("binary")
    )
    own = made.some_columns("binary", Source.of(folder, home.kit.name, module=module))
    np.testing.assert_allclose(
        found.session().run(own)["probability"], wanted["probability"], atol=1e-6
    )
    bias = read_tensors(hospital_path(path, home.kit.name))[0]["bias"]
    assert torch.equal(module.state_dict()["bias"], torch.from_numpy(np.array(bias)))


def test_layers_of_another_model_are_refused(home: AtHome) -> None:
    path = personal_model(home, "altered")
    own = hospital_path(path, home.kit.name)
    folder = find_model(home.kit, "altered")
    arrays, _ = read_tensors(own)
    form = ModelForm.of(
        folder.task,
        model := build_model(folder.task, folder.totals, 0),
        Entries.of(model, ["bias"]),
    )
    form.write(own, dict(arrays) | {"weight": arrays["weight"] + 1}, 3, 0, home.kit.name)
    with pytest.raises(ModelRefused, match="'weight' in it isn't the model's"):
        export_at_home(home.kit, model="altered")
    own.unlink()
    with pytest.raises(ModelRefused, match="holds no model of"):
        export_at_home(home.kit, model="altered")
