"""A hospital takes its own copy of the model that a study asks about, or refuses."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from wardround.client.site.finished import named_model, own_copy
from wardround.client.site.policy import load_site
from wardround.common.config.finished import model_digest
from wardround.common.config.load import Config, parse_config
from wardround.common.errors import ModelRefused, PolicyRefused
from wardround.common.export.exporting import export_model
from wardround.common.export.finished import FinishedExport
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.model_folder.write import seal_folder
from wardround.common.trust.identity import Identity
from wardround.simulations import simulate

SERVER, OWN, OTHER = (Identity.generate() for _ in range(3))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("model")
    small = ["federation.rounds=1", "simulation.baselines=false", f"federation.runs={here}"]
    return simulate(overrides=[*small, "secure_aggregation.enabled=false"]).run_directory / "model"


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    description = SimpleNamespace(server=SERVER.public)
    return SimpleNamespace(folder=tmp_path, description=description, identity=OWN)


def put(model: Path, place: Path, identity: Identity | None, days: int = 10) -> Config:
    """A copy of the model, signed; and the settings that ask about it."""
    shutil.copytree(model, place)
    digest = seal_folder(place, run="r", round=1, identity=identity, valid_days=days)
    return parse_config(f'[procedure]\nname = "evaluate"\nmodel_digest = "{digest}"\n')


@pytest.mark.parametrize("place", ["results/heart-1/model", "models/mine", "models/mine/model"])
@pytest.mark.parametrize("identity", [SERVER, OWN])
def test_it_is_found_by_digest(model: Path, kit: Any, place: str, identity: Identity) -> None:
    shutil.copytree(model, kit.folder / "models" / "another")
    config = put(model, kit.folder / place, identity)
    found = own_copy(kit, config)
    options = config.procedure.finished
    assert options is not None and found.digest == options.model_digest
    assert found.path == kit.folder / place


def test_a_teacher_is_found_so_too_and_reads_no_column_that_is_held_back(
    model: Path, kit: Any, tmp_path: Path
) -> None:
    asked = put(model, kit.folder / "models" / "mine", SERVER).procedure.finished
    assert asked is not None
    config = parse_config(f'[teacher]\nmodel_digest = "{asked.model_digest}"\n')
    data = SimpleNamespace(source=None, is_taken=False)
    rules = tmp_path / "site.toml"
    for text in ("", 'columns = ["mean *"]'):  # the teacher takes every column
        rules.write_text(text)
        terms: Any = SimpleNamespace(kit=kit, config=config, data=data, site=load_site(rules))
        if not text:
            assert named_model(terms).digest == asked.model_digest
            continue
        with pytest.raises(PolicyRefused, match="this hospital allows mean"):
            named_model(terms)


def test_none_else_is_taken(model: Path, kit: Any) -> None:
    config = put(model, kit.folder / "models" / "mine", OTHER)
    with pytest.raises(ModelRefused, match="signed"):
        own_copy(kit, config)
    config = put(model, kit.folder / "models" / "nobodys", None)
    with pytest.raises(ModelRefused, match="signed"):
        own_copy(kit, config)
    config = put(model, kit.folder / "models" / "old", SERVER, days=-1)
    with pytest.raises(ModelRefused):
        own_copy(kit, config)
    config = put(model, kit.folder / "models" / "altered", SERVER)
    with open(kit.folder / "models" / "altered" / "config.toml", "a") as file:
        file.write("\n")
    with pytest.raises(ModelRefused, match="config.toml' was altered"):
        own_copy(kit, config)
    shutil.rmtree(kit.folder / "models")
    with pytest.raises(ModelRefused, match="has no model of digest .* put its folder into KIT"):
        own_copy(kit, config)


def test_results_are_named_by_their_models_own_list(model: Path, kit: Any) -> None:
    """Results have a list of their own beside the model's folder."""
    config = put(model, kit.folder / "results" / "heart-1" / "model", SERVER)
    (kit.folder / "results" / "heart-1" / "files.json").write_text("{}")
    options = config.procedure.finished
    assert options is not None
    for path in ("results/heart-1", "results/heart-1/model"):
        assert model_digest(kit.folder / path) == options.model_digest
    assert own_copy(kit, config).digest == options.model_digest
    with pytest.raises(OSError, match="no finished model is there"):
        model_digest(kit.folder / "results")


@pytest.mark.parametrize("place", ["results/heart-1", "models/mine"])
def test_no_settings_beside_the_folder_are_read(model: Path, kit: Any, place: str) -> None:
    """A server's package may have a file of any name: one that looked like a run named the code
    that the hospital then imported."""
    beside = kit.folder / place
    config = put(model, beside / "model", SERVER)
    for name in ("environment.json", "files.json"):
        (beside / name).write_text("{}")
    (beside / "evil.py").write_text("raise SystemExit(99)\n")
    (beside / "config.toml").write_text('[task]\nname = "evil.py:Evil"\n')
    assert own_copy(kit, config).config.task.name == "tabular"
    assert own_copy(kit, config).personal == []
    assert ModelFolder.open(beside).config.task.name == "tabular"
    (beside / "files.json").unlink()
    assert own_copy(kit, config).config.task.name == "tabular"


def test_an_export_is_taken_if_graph_and_model_are_signed(
    model: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may sign a model may sign its export; a stranger's of either is refused unloaded."""
    put(model, kit.folder / "models" / "mine", SERVER)
    put(model, kit.folder / "models" / "theirs", OTHER)

    def exported(of: str, identity: Identity | None, name: str) -> Config:
        source = Source.of(ModelFolder.open(kit.folder / "models" / of))
        made = export_model(source, kit.folder / "models" / name, identity=identity)
        return parse_config(f'[procedure]\nname = "evaluate"\nmodel_digest = "{made.digest}"\n')

    config = exported("mine", OWN, "good")
    found = own_copy(kit, config)
    options = config.procedure.finished
    assert isinstance(found, FinishedExport) and options is not None
    assert found.digest == options.model_digest and found.config.task.name == "tabular"
    with pytest.raises(ModelRefused, match="no module .* ask about the model itself"):
        found.trained()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelRefused, match=r"onnxruntime isn't installed.*wardround\[export\]"):
        own_copy(kit, config)
    monkeypatch.undo()
    for of, identity in (("mine", OTHER), ("mine", None), ("theirs", OWN)):
        config = exported(of, identity, f"{of}-{identity is None}")
        with monkeypatch.context() as patch:
            patch.setattr("wardround.common.export.folder.GraphSession", None)  # never loaded
            with pytest.raises(ModelRefused, match="signed"):
                own_copy(kit, config)
