"""``wardround init --data --statistics``: a study that runs on the data that it was made for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from typer.testing import CliRunner

from tests.simulations.beginning.tables import three_extracts
from wardround.common.config.load import parse_config
from wardround.simulations import analyse
from wardround.simulations.beginning.begin import begin_at
from wardround.simulations.cli import commands


def trial(folder: Path) -> Path:
    """Three hospitals that write sexes and events otherwise; the last has nobody in stage III."""
    folder.mkdir()
    rng = np.random.default_rng(4)
    for name, rows, sexes, events in (
        ("north", 160, ("F", "M"), ("no", "yes")),
        ("south", 90, ("female", "male"), ("No", "Yes")),
        ("east", 33, ("f", "m"), ("no", "yes")),
    ):
        stages = ["I", "II", "III"] if name != "east" else ["I", "II"]
        frame = pd.DataFrame(
            {
                "patient": [f"{name}-{row}" for row in range(rows)],
                "age": rng.normal(60, 9, rows).round(1),
                "sex": rng.choice(sexes, rows),
                "stage": rng.choice(stages, rows),
                "arm": rng.choice(["control", "new drug"], rows),
                "days": np.ceil(rng.exponential(400, rows)).astype(int),
                "died": rng.choice(events, rows),
            }
        )
        frame.to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_times_to_an_event_become_curves_and_hazards_that_run(tmp_path: Path) -> None:
    data, path = trial(tmp_path / "hospitals"), tmp_path / "study.toml"
    done = CliRunner().invoke(
        commands, ["init", str(path), "--data", str(data), "--statistics", "--target", "died"]
    )
    assert done.exit_code == 0, done.output
    assert f"next: wardround analyse {path}" in done.output.replace("\n", " ")
    asked = tomllib.loads(path.read_text())["procedure"]["analyses"]
    assert [one["kind"] for one in asked] == ["table_one", "kaplan_meier", "cox"]
    assert asked[0]["by"] == "arm"  # a treatment, before sex and stage
    config = parse_config(path.read_text(), ["secure_aggregation.enabled=false"], path)
    found = analyse(config, overrides=[]).statistics
    rows = found["table one"]["tables"][0]["rows"]
    names = {row[1] for row in rows if row[0] == "sex"}
    assert names == {"female", "male"}  # one spelling, however hospitals write them
    assert [row[0] for row in found["survival"]["tables"][0]["rows"]] == ["control", "new drug"]
    terms = [row[0] for row in found["hazards"]["tables"][0]["rows"]]
    assert "C(stage)[T.III]" in terms and "age" in terms


def test_a_yes_or_no_becomes_a_regression_with_names_that_are_no_words(tmp_path: Path) -> None:
    found = begin_at(
        tmp_path / "s.toml", three_extracts(tmp_path / "h"), "verstorben", statistics=True
    )
    asked = tomllib.loads(found.text)["procedure"]["analyses"]
    assert asked[-1]["kind"] == "regression" and asked[-1]["family"] == "logistic"
    assert asked[-1]["formula"].startswith("verstorben ~ `Größe [cm]` + Alter")
