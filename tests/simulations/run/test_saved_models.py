"""What a run saves is what was measured: saved, loaded in a new process, evaluated, the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.common.tasks.text.tiny import tiny_encoder
from tests.federate import Line
from wardround.client.data.hospital import Hospital
from wardround.client.requests.own_model import load_own_model
from wardround.common.config.task import make_task
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import CheckpointError, ConfigError, ModelRefused
from wardround.common.model.saved import SavedModel
from wardround.server.strategies import INDIVIDUAL, MEAN
from wardround.simulations import Result, load_model, parse_config, simulate

EVALUATE = """
import json, sys
from wardround.client.training.evaluation import evaluate_model
from wardround.common.flower.arrays import digest_arrays
from wardround.common.config.load import load_config
from wardround.common.config.task import make_task
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.model.saved import SavedModel
from wardround.simulations.population.hospitals import Population
from pathlib import Path

found = {}
for run in sys.argv[1:]:
    config = load_config(Path(run) / "config.toml")
    task = make_task(config)
    population = Population(config, task)
    saved = SavedModel(Path(run) / "model", task, config.federation.seed)
    totals = read_tensors(Path(run) / "model" / "preparation.safetensors")[0]
    found[run] = {}
    for name, model in saved.each(population.names):
        examples = population.hospital(name).examples(totals, digest_arrays(totals))
        sums = evaluate_model(model, examples["test"], task, config.training)
        found[run][name] = task.summarise(sums)
print(json.dumps(found))
"""
BASE = """
[federation]
rounds = 2
[data]
path = "data"
test_fraction = 0.4
[training]
batch_size = 16
[secure_aggregation]
enabled = false
[simulation]
executor = "sequential"
baselines = false
"""
TABULAR = '[task]\nname = "tabular"\n'
OF_KIND = {
    "binary": "columns = { target = 'died', numeric = ['a', 'b'], categorical = ['ward'] }\n",
    "multiclass": "kind = 'multiclass'\nclasses = ['u', 'v', 'w']\n"
    "columns = { target = 'class', numeric = ['a', 'b'] }\n",
    "regression": "kind = 'regression'\ncolumns = { target = 'b', numeric = ['a'] }\n",
    "survival": "kind = 'survival'\ncolumns = { time = 't', event = 'died', numeric = ['a'] }\n",
}
DEEP = "[task.model]\nkind = 'mlp'\nhidden = [4]\n"
IMAGING = """
[task]
name = "imaging"
classes = ["dark left", "dark right"]
size = [12, 12]
[task.model]
width = 8
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals of rows, images in one file, an encoder."""
    place = tmp_path_factory.mktemp("saved")
    (place / "data").mkdir()
    generator = np.random.default_rng(0)
    for name, shift in (("north", -2.0), ("south", 0.0), ("west", 2.0)):
        a, b, t = generator.normal(size=60), generator.normal(size=60), generator.random(60) + 0.1
        died = generator.random(60) < 1 / (1 + np.exp(-a - shift))
        rows = zip(
            a, b, t, died.astype(int), generator.choice(list("uvw"), 60), "xyz" * 20, strict=True
        )
        lines = "\n".join(",".join(str(value) for value in row) for row in rows)
        (place / "data" / f"{name}.csv").write_text(f"a,b,t,died,class,ward\n{lines}\n")
    labels = generator.integers(0, 2, 60)
    images = generator.integers(80, 256, (60, 12, 12))
    images[labels == 0, :, :6] //= 3
    np.savez(place / "images.npz", images=images.astype(np.uint8), labels=labels)
    tiny_encoder(place / "encoder")
    return place


def run(folder: Path, text: str, *overrides: str) -> Result:
    runs = f"federation.runs={folder / 'runs'}"
    return simulate(parse_config(BASE + text, [runs, *overrides], folder / "federation.toml"))


def forms() -> Iterator[tuple[str, list[str]]]:
    """Every strategy over batch normalisation; every kind of task, tuning and norm."""
    for name in MEAN | INDIVIDUAL:
        text = TABULAR + OF_KIND["binary"] + DEEP + "norm = 'batch'\n"
        more = ["strategy.beta=0.34"] if name == "fedtrimmedavg" else []
        yield text, [f"strategy.name={name}", *more]
    for kind, text in OF_KIND.items():
        yield TABULAR + text, ['strategy.personal_layers=["bias"]'] if kind == "binary" else []
        yield TABULAR + text + DEEP + "norm = 'layer'\n", []
    pooled = ["simulation.clients=3", "simulation.partition=iid"]
    for norm in ("batch", "group"):
        yield IMAGING + f"norm = '{norm}'\n", [*pooled, "data.path=images.npz"]
    for tuning in ("full", "head", "lora", "ffa_lora", "adalora"):
        text = f"[task]\nname = 'text'\nencoder = 'encoder'\nmax_length = 32\ntuning = '{tuning}'\n"
        yield text, [*pooled, "data.path=", "training.lr=0.5"]


def test_every_form_of_model_is_the_one_that_was_measured_in_a_new_process(folder: Path) -> None:
    results = [run(folder, text, *overrides) for text, overrides in forms()]
    paths = [str(result.run_directory) for result in results]
    command = [sys.executable, "-c", EVALUATE, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for path, result in zip(paths, results, strict=True):
        measured = {name: part["test"] for name, part in result.rounds[-1]["hospitals"].items()}
        assert measured.keys() == found[path].keys()
        for name, figures in measured.items():
            for figure, value in figures.items():
                if value is not None:
                    assert found[path][name][figure] == pytest.approx(value, abs=1e-6, rel=1e-6), (
                        f"{figure} of {name}, strategy {result.config.strategy.name}, "
                        f"task {result.config.task.options}"
                    )


PERSONAL = TABULAR + OF_KIND["binary"] + "[strategy]\npersonal_layers = ['bias']\n"


def test_personal_entries_are_in_each_hospitals_file_and_in_no_other(folder: Path) -> None:
    result = run(folder, PERSONAL, "federation.rounds=5", "training.lr=0.5")
    model = result.run_directory / "model"
    arrays, state = read_tensors(model / "model.safetensors")
    assert state.pop("inputs") == ["a", "b", "ward=x", "ward=y", "ward=z"]
    assert list(arrays) == ["weight"] and state == {"round": 5, "personal": ["bias"]}
    models = [result.model_of(name).state_dict() for name in ("north", "south", "west")]
    biases = [float(one["bias"]) for one in models]
    assert biases == sorted(biases) and biases[2] - biases[0] > 0.5
    with pytest.raises(CheckpointError, match=r"bias stay with.*name the hospital \(north, south"):
        _ = result.model
    with pytest.raises(ModelRefused, match="no model of 'east'.*it has: north, south, west"):
        load_model(result.run_directory, "east")
    assert torch.equal(
        load_model(result.run_directory, "north").module.bias, result.model_of("north").bias
    )


OWN = TABULAR + OF_KIND["binary"] + "[strategy]\nname = 'ditto'\npull = 0.01\n"


def test_the_shared_model_of_own_models_is_no_hospitals(folder: Path) -> None:
    """It is all there, and was measured nowhere."""
    result = run(folder, OWN)
    arrays, state = read_tensors(result.run_directory / "model" / "model.safetensors")
    assert set(arrays) == set(state["personal"]) == {"bias", "weight"}
    with pytest.raises(CheckpointError, match=r"name the hospital \(north, south, west\)"):
        _ = result.model
    models = [result.model_of(name).state_dict()["weight"] for name in ("north", "south")]
    assert not torch.equal(*models)
    again = run(
        folder,
        TABULAR + OF_KIND["binary"],
        f"federation.initial={result.run_directory / 'model' / 'model.safetensors'}",
    )
    assert json.loads((again.run_directory / "run.json").read_text())["initial"]["taken"] == 2


@pytest.mark.parametrize(("text", "masked"), [(PERSONAL, False), (PERSONAL, True), (OWN, True)])
def test_the_best_rounds_model_has_the_personal_entries_of_that_round(
    folder: Path, text: str, masked: bool
) -> None:
    """A rate that decays to nothing good: the best round isn't the last one."""
    result = run(
        folder,
        text,
        "federation.rounds=6",
        "evaluation.select=best",
        "data.validation_fraction=0.2",
        "training.lr=8.0",
        "training.batch_size=4",
        f"secure_aggregation.enabled={str(masked).lower()}",
        *(["secure_aggregation.min_cohort=2"] if masked else []),
    )
    chosen = json.loads((result.run_directory / "run.json").read_text())["chosen_round"]
    assert chosen < 6
    row = next(row for row in result.rounds if row["round"] == chosen)["overall"]["test"]
    told = next(row for row in result.comparison if row["hospital"] == "overall")["federated"]
    assert told["loss"] == row["loss"]
    shown = {row["hospital"]: row["federated"]["accuracy"] for row in result.comparison}
    names = ("north", "south", "west")
    assert np.mean([shown[name] for name in names]) == pytest.approx(shown["mean"])
    rows = {row["hospital"]: row["federated"]["examples"] for row in result.comparison}
    weights = [rows[name] for name in names]
    mixed = np.average([shown[name] for name in names], weights=weights)
    assert mixed == pytest.approx(row["accuracy"], abs=1e-6)


@pytest.mark.parametrize(("text", "select"), [(PERSONAL, "last"), (OWN, "best")])
def test_a_hospitals_own_client_keeps_its_whole_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, select: str
) -> None:
    """As a hospital's process does, in a simulation: the newest model and the best before it."""
    place = property(lambda self: tmp_path / self.name, lambda self, value: None)
    monkeypatch.setattr(Hospital, "model_folder", place, raising=False)
    best = ["data.validation_fraction=0.2", "training.lr=8.0", "training.batch_size=4"]
    result = run(
        folder,
        text,
        "federation.rounds=6",
        f"evaluation.select={select}",
        *(best if select == "best" else []),
    )
    chosen = json.loads((result.run_directory / "run.json").read_text())["chosen_round"]
    task = make_task(result.config)
    for name in ("north", "south", "west"):
        kept = {int(file.stem[6:]) for file in (tmp_path / name).glob("round-*.safetensors")}
        assert kept == {chosen, 6}
        own = load_own_model(tmp_path / name, task, 1, chosen).state_dict()
        for key, value in result.model_of(name).state_dict().items():
            assert torch.equal(own[key], value)
    with pytest.raises(CheckpointError, match="there is no such model; there is round-"):
        load_own_model(tmp_path / "north", task, 1, 99)


def test_a_frozen_adapter_of_another_seed_is_another_model(folder: Path) -> None:
    text = "[task]\nname = 'text'\nencoder = 'encoder'\nmax_length = 32\ntuning = 'ffa_lora'\n"
    pooled = ["simulation.clients=3", "simulation.partition=iid", "data.path="]
    first = run(folder, text, *pooled)
    file = first.run_directory / "model" / "model.safetensors"
    held = read_tensors(file)[0]
    assert any(".lora_A." in name for name in held) and not any("embeddings" in k for k in held)
    with pytest.raises(ConfigError, match=r"lora_A.* is frozen .* set federation.seed = 1"):
        run(folder, text, *pooled, f"federation.initial={file}", "federation.seed=2")
    again = run(folder, text, *pooled, f"federation.initial={file}")
    assert json.loads((again.run_directory / "run.json").read_text())["initial"]["left"] == {}
    config = folder / "encoder" / "config.json"
    kept, weights = config.read_text(), folder / "encoder" / "model.safetensors"
    before = weights.read_bytes()
    tiny_encoder(folder / "encoder", seed=9)
    try:
        with pytest.raises(ConfigError, match="trained over other files of the task's own"):
            run(folder, text, *pooled, f"federation.initial={file}")
    finally:
        config.write_text(kept)
        weights.write_bytes(before)


class Drawing(nn.Module):
    """Its outputs are drawn at random, in evaluation too."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + 900 * torch.rand(len(x), 1)


class DrawingLine(Line):
    def model(self, totals: Any) -> nn.Module:
        return Drawing()


@pytest.mark.parametrize("masked", ["true", "false"])
def test_a_model_that_is_not_the_measured_one_is_an_error(tmp_path: Path, masked: str) -> None:
    config = parse_config(
        BASE.replace('path = "data"', ""),
        [
            f"federation.runs={tmp_path}",
            "simulation.clients=3",
            "simulation.partition=iid",
            f"secure_aggregation.enabled={masked}",
        ],
    )
    simulate(config, task=Line())
    with pytest.raises(CheckpointError, match=r"the saved model gives loss .* was measured"):
        simulate(config, task=DrawingLine())


def test_a_file_that_lacks_an_entry_is_refused(folder: Path, tmp_path: Path) -> None:
    result = run(folder, TABULAR + OF_KIND["binary"])
    arrays, state = read_tensors(result.run_directory / "model" / "model.safetensors")

    totals = read_tensors(result.run_directory / "model" / "preparation.safetensors")[0]
    write_tensors(tmp_path / "preparation.safetensors", totals, {})
    saved = SavedModel(tmp_path, make_task(result.config), 1)
    write_tensors(tmp_path / "model.safetensors", {"weight": arrays["weight"]}, state)
    with pytest.raises(CheckpointError, match="it lacks bias, which the model needs"):
        saved.load()
    wrong = arrays | {"weight": arrays["weight"][:, :1]}
    write_tensors(tmp_path / "model.safetensors", wrong, state)
    with pytest.raises(CheckpointError, match="other shapes or types"):
        saved.load()
