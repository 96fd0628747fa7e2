"""A finished model is asked about: its figures are those that its own run had, masked or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.unlike import Consortium
from wardround.client.data.hospital import Place
from wardround.common.config.finished import model_digest
from wardround.common.config.load import Config, parse_config
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import ConfigError, ModelRefused, NobodyContributed
from wardround.common.export.exporting import export_model
from wardround.common.export.source import Source
from wardround.common.model_folder.folder import ModelFolder
from wardround.common.model_folder.write import seal_folder
from wardround.common.protocol.names import SPLITS
from wardround.common.secagg.content import descriptor
from wardround.common.study.study import study_toml
from wardround.simulations import analyse, simulate
from wardround.simulations.population import hospitals

ONE = ("federation.rounds=1", "simulation.baselines=false")
PLAIN, MASKED = "secure_aggregation.enabled=false", "secure_aggregation.enabled=true"


def asking(run: Path) -> tuple[str, ...]:
    return 'procedure.name="evaluate"', f"procedure.model={json.dumps(str(run))}"


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "survival"])
def test_its_figures_are_those_of_its_run(
    kind: str, unlike: Callable[[str], Consortium], tmp_path: Path
) -> None:
    made = unlike(kind)
    run = simulate(made.config(*ONE, PLAIN, runs=tmp_path / "trained")).run_directory
    (row,) = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    texts = []
    for number, secure in enumerate((PLAIN, MASKED)):
        config = made.config(secure, *asking(run), runs=tmp_path / str(number))
        found = analyse(config)
        texts.append((found.run_directory / "evaluation.json").read_text())
        assert "figures" in (found.run_directory / "report.html").read_text()
    evaluated = json.loads(texts[0])
    own = row["overall"]["test"]
    assert evaluated["figures"] == pytest.approx(own, rel=1e-9, nan_ok=True) and own["examples"] > 9
    for name, mean in row["within"]["test"].items():  # each hospital's is rounded to 1/4096
        if mean["hospitals"] < 3:
            assert name not in evaluated["within"]  # these few hospitals' own
            continue
        assert evaluated["within"][name]["hospitals"] == mean["hospitals"]
        assert evaluated["within"][name]["mean"] == pytest.approx(mean["mean"], abs=1 / 8192)
    assert json.loads(texts[1])["figures"] == pytest.approx(evaluated["figures"], rel=1e-9)
    export = export_model(Source.of(ModelFolder.open(run)), tmp_path / "graph").path
    graph = analyse(made.config(PLAIN, *asking(export), runs=tmp_path / "of-graph"))
    found = graph.published["evaluation.json"]
    assert found["model"] == model_digest(export) != evaluated["model"]
    assert found["figures"] == pytest.approx(evaluated["figures"], rel=1e-6, nan_ok=True)


@pytest.fixture(scope="module")
def trained(
    unlike: Callable[[str], Consortium], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Consortium, Path]:
    made, here = unlike("binary"), tmp_path_factory.mktemp("trained")
    return made, simulate(made.config(*ONE, PLAIN, runs=here)).run_directory


def of(trained: tuple[Consortium, Path], tmp_path: Path, *more: str) -> Config:
    made, run = trained
    return made.config(PLAIN, *asking(run), *more, runs=tmp_path)


def test_all_rows_are_those_of_every_split(
    trained: tuple[Consortium, Path], tmp_path: Path
) -> None:
    rows = {}
    for which in ("held_out", "all"):
        found = analyse(of(trained, tmp_path / which, f'procedure.rows="{which}"'))
        rows[which] = found.published["evaluation.json"]["figures"]["examples"]
    members = json.loads((trained[1] / "run.json").read_text())["hospitals"]
    sizes = [[one[split] for split in SPLITS] for one in members]
    assert rows["held_out"] == sum(test for *_, test in sizes)
    assert rows["all"] == sum(map(sum, sizes)) > rows["held_out"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("data.test_fraction=0.31", "data.test_fraction: is 0.31, and the model was trained with"),
        ("task.model.kind='mlp'", "task.model: isn't what the model was trained with"),
        ("federation.seed=99", "federation.seed: is 99, and the model was trained with"),
        ("privacy.unit='example'", "'evaluate' gives exact sums"),
        (f"procedure.model_digest='{'0' * 64}'", "the model there has"),
        ("procedure.model='nowhere'", "no finished model is there"),
        ("procedure.model=''", "procedure.model: is missing"),
    ],
)
def test_what_does_not_go_with_the_model_is_refused_by_key(
    trained: tuple[Consortium, Path], tmp_path: Path, more: str, words: str
) -> None:
    more = more + ";privacy.epsilon=8.0" if more.startswith("privacy") else more
    with pytest.raises(ConfigError, match=words):
        analyse(of(trained, tmp_path, *more.split(";")))


def test_an_altered_model_is_refused(trained: tuple[Consortium, Path], tmp_path: Path) -> None:
    made, run = trained
    shutil.copytree(run / "model", tmp_path / "model")
    config = made.config(PLAIN, *asking(tmp_path / "model"), runs=tmp_path)
    with open(tmp_path / "model" / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(ModelRefused, match="model.safetensors' was altered"):
        analyse(config)


def test_parties_have_the_digest_and_not_the_path(
    trained: tuple[Consortium, Path], tmp_path: Path
) -> None:
    config = of(trained, tmp_path)
    text = study_toml(config)
    assert str(trained[1]) not in text and "model =" not in text.replace("[task.model]", "")
    there = parse_config(text)
    options = there.procedure.finished
    assert options is not None and options.model == "" and len(options.model_digest) == 64
    same = there.model_copy(update={"federation": config.federation})
    assert descriptor(same) == descriptor(config)


def test_what_a_crafted_model_makes_of_rows_is_hidden(
    trained: tuple[Consortium, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server may make a model that fails for some rows: how many hospitals failed is told."""
    made, run = trained
    shutil.copytree(run / "model", tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    arrays, state = read_tensors(path)
    arrays = {name: np.full_like(one, np.nan) for name, one in arrays.items()}
    write_tensors(path, arrays, state)
    seal_folder(tmp_path / "model", run="crafted", round=1, identity=None)
    # as a hospital between machines: its host sees no reason
    made_as = partial(Place, simulated=True)
    monkeypatch.setattr(hospitals, "Place", lambda finished, **_: made_as(finished=finished))
    with pytest.raises(NobodyContributed, match="of 6 hospitals had nothing to add to step 1"):
        analyse(made.config(MASKED, *asking(tmp_path / "model"), runs=tmp_path))
