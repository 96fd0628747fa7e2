"""``simulate(data=...)``: the same data in whatever form give the same model as their files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from tests.simulations.python.frames import hospitals
from wardround.common.errors import ConfigError, RunDirectoryError
from wardround.simulations import load_model, simulate
from wardround.simulations.beginning.begin import begin_at

SHORT = {"federation.rounds": 2, "simulation.baselines": False}


def model_bytes(result: Any) -> bytes:
    return bytes((result.run_directory / "model" / "model.safetensors").read_bytes())


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def from_files(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model of the frames' CSV files, by the file that ``wardround init`` writes for them."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "data").mkdir()
    for name, frame in hospitals().items():
        frame.to_csv(folder / "data" / f"{name}.csv", index=False)
    path = folder / "federation.toml"
    path.write_text(begin_at(path, folder / "data", "died").text)
    return model_bytes(simulate(path, overrides=SHORT))


class Interchange:
    """A frame that has ``__dataframe__`` alone."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def __dataframe__(self, **options: Any) -> Any:
        return pa.table(self._frame).__dataframe__(**options)


class Columns:
    """A frame that has no interface but ``to_dict``."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def to_dict(self, form: str) -> dict[str, list[Any]]:
        assert form == "list"
        return {str(name): self._frame[name].tolist() for name in self._frame.columns}


def written(frame: pd.DataFrame) -> Path:
    path = Path(f"{len(frame)}.parquet")
    frame.to_parquet(path)
    return path


def odd_types(frame: pd.DataFrame) -> pd.DataFrame:
    """The same values in other types, under an index of its own."""
    other = frame.astype({"sex": "category", "died": "Int64", "smoker": "boolean"})
    return other.set_index(pd.Index(range(1000, 1000 + len(frame))))


FORMS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "frame": lambda frame: frame,
    "other types": odd_types,
    "Arrow table": pa.table,
    "record batch": lambda frame: pa.RecordBatch.from_pandas(frame),
    "interchange": Interchange,
    "to_dict": Columns,
    "columns": lambda frame: {name: frame[name] for name in frame},
    "records": lambda frame: frame.to_dict("records"),
    "path": written,
    "pair": lambda frame: (frame.drop(columns="died"), frame["died"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_bytes_of_the_files(form: str, from_files: bytes) -> None:
    data = {name: FORMS[form](frame) for name, frame in hospitals().items()}
    assert model_bytes(simulate(data=data, target="died", overrides=SHORT)) == from_files


def test_a_folder_gives_what_its_frames_give(from_files: bytes) -> None:
    Path("data").mkdir()
    for name, frame in hospitals().items():
        frame.to_csv(f"data/{name}.csv", index=False)
    assert model_bytes(simulate(data="data", target="died", overrides=SHORT)) == from_files


def test_pandas_is_not_needed_for_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = hospitals().items()
    data = {name: (f[["age"]].to_numpy(), f["died"].to_numpy()) for name, f in frames}
    monkeypatch.setitem(sys.modules, "pandas", None)
    result = simulate(data=data, overrides=SHORT)
    names = [one.name for one in result.predictor().schema.inputs]
    assert (names, result.config.task.options["columns"]["target"]) == (["x1"], "class")
    found = result.predict(data["north"][0])["probability"]
    again = load_model(result.run_directory).predict({"x1": data["north"][0][:, 0]})
    assert found.tolist() == again["probability"].tolist()


def test_of_one_data_set_hospitals_are_made(from_files: bytes) -> None:
    whole = pd.concat(hospitals().values(), ignore_index=True)
    result = simulate(data=whole, target="died", overrides=SHORT)
    whole.to_csv("whole.csv", index=False)
    from_file = simulate(data=Path("whole.csv"), target="died", overrides=SHORT)
    assert model_bytes(result) == model_bytes(from_file)
    assert result.config.simulation.partition == "iid"
    sites = pd.concat([f.assign(hospital=n) for n, f in hospitals().items()], ignore_index=True)
    result = simulate(data=sites, target="died", overrides=SHORT)
    assert sorted(result.rounds[0]["accepted"]) == ["north", "south", "west"]


def test_predictions_are_those_of_the_command() -> None:
    frames = hospitals()
    result = simulate(data=frames, target="died", overrides=SHORT)
    rows = frames["north"].drop(columns="died")
    found = result.predict(rows, keep=["age"])
    rows.to_csv("rows.csv", index=False)
    again = load_model(result.run_directory).predict(Path("rows.csv"))
    assert found["probability"].tolist() == again["probability"].tolist()
    assert found["age"].tolist() == rows["age"].tolist()


def test_a_run_goes_on_with_the_same_data_only() -> None:
    class Ended(Exception):
        pass

    from wardround.server.observer import Observer

    class Ends(Observer):
        def round_committed(self, row: dict[str, Any]) -> None:
            if row["round"] == 1:
                raise Ended

    frames = hospitals()
    whole = model_bytes(simulate(data=frames, target="died", overrides=SHORT))
    with pytest.raises(Ended):
        simulate(data=frames, target="died", overrides=SHORT, observer=Ends())
    (run,) = [one for one in Path("runs").iterdir() if not list(one.glob("report.html"))]
    with pytest.raises(RunDirectoryError, match=r"give them again: simulate\(resume"):
        simulate(resume=run)
    other = frames | {"west": frames["west"].iloc[1:]}
    with pytest.raises(RunDirectoryError, match=r"begun with other data \(west\)"):
        simulate(resume=run, data=other)
    assert model_bytes(simulate(resume=run, data=frames)) == whole


def test_ray_is_refused_by_name_and_processes_work(from_files: bytes) -> None:
    frames, keys = hospitals(), SHORT | {"simulation.executor": "processes"}
    assert model_bytes(simulate(data=frames, target="died", overrides=keys)) == from_files
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match="simulation.executor: 'ray' can't reach data"):
        simulate(data=frames, target="died", overrides=SHORT | {"simulation.executor": "ray"})
