"""A run's model is judged by groups: as later, by whoever asks about the finished model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wardround.common.errors import ConfigError
from wardround.common.judgement.words import judged_notes, judged_tables, read_judgement
from wardround.server.rounds import federation, judging
from wardround.simulations import analyse, simulate

SETTINGS = """
[federation]
rounds = 2
runs = "runs"
[data]
path = "hospitals"
validation_fraction = 0.2
[evaluation]
select = "best"
[task]
name = "tabular"
[task.columns]
target = "died"
numeric = ["x", "age"]
ignore = ["sex"]
[simulation]
baselines = false
[judgement]
groups = ["sex", "age"]
bands = { age = [0, 50] }
categories = { sex = ["F", "M"] }
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    (tmp_path / "hospitals").mkdir()
    for number in range(3):
        rows = []
        for _ in range(200 + 60 * number):
            x, age = generator.normal(), generator.integers(20, 95)
            died = generator.random() < 1 / (1 + np.exp(-1.5 * x - 0.02 * (age - 55)))
            sex = "F" if generator.random() < 0.4 + 0.1 * number else "M"
            rows.append(f"{x:.3f},{age},{sex},{int(died)}")
        text = "x,age,sex,died\n" + "\n".join(rows) + "\n"
        (tmp_path / "hospitals" / f"h{number}.csv").write_text(text)
    (tmp_path / "federation.toml").write_text(SETTINGS)
    return tmp_path / "federation.toml"


def judged(run: Path) -> dict[str, Any]:
    found = read_judgement(run / "model" / "judgement.json")
    assert found is not None
    return found


def test_its_own_judgement_is_that_of_whoever_asks_later(toml: Path) -> None:
    run = simulate(toml).run_directory
    found = judged(run)
    summary = json.loads((run / "run.json").read_text())
    assert "not_judged" not in summary and found["round"] == summary["chosen_round"]
    listed = json.loads((run / "model" / "files.json").read_text())["files"]
    assert "judgement.json" in {one["name"] for one in listed}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (figures,) = (one["overall"]["test"] for one in rows if one["round"] == found["round"])
    for column in found["columns"]:
        assert sum(one["rows"] for one in column["rows"]) == figures["examples"]
        right = sum(one["accuracy"] * one["rows"] for one in column["figures"])
        assert right / figures["examples"] == pytest.approx(figures["accuracy"], abs=1e-12)
    later = analyse(toml, overrides=['procedure.name="evaluate"', f'procedure.model="{run}"'])
    assert later.published["judgement.json"]["columns"] == found["columns"]
    page = (later.run_directory / "report.html").read_text()
    assert "By groups" in page and "M or other or unknown" in page
    (sex, age) = judged_tables(found)
    assert sex.title == "sex" and [row[0] for row in sex.rows] == ["F", "M or other or unknown"]
    assert [row[0] for row in age.rows] == ["below 50", "50 and above or unknown"]
    assert any(note.startswith("Largest gap of equal opportunity") for note in sex.notes)
    assert "fewer than 5 persons" in judged_notes(found)[0]


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_stops_while_it_is_judged_goes_on(
    toml: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Before its sum was opened, or when it is written but the model's folder isn't sealed."""

    def stopped(*args: Any) -> None:
        if after:
            judging.judge_model(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(federation, "judge_model", stopped)
        with pytest.raises(KeyboardInterrupt):
            simulate(toml)
    (run,) = (toml.parent / "runs").glob("*-*")
    again = simulate(resume=run).run_directory
    whole = simulate(toml).run_directory
    assert judged(again) == judged(whole)


def test_what_no_hospital_can_answer_leaves_the_model_unjudged_and_says_why(toml: Path) -> None:
    text = SETTINGS.replace('"sex", "age"]', '"ward"]').replace("sex = [", "ward = [")
    toml.write_text(text.replace("bands = { age = [0, 50] }\n", ""))
    run = simulate(toml).run_directory
    summary = json.loads((run / "run.json").read_text())
    assert summary["status"] == "complete" and "ward" in summary["not_judged"]
    assert read_judgement(run / "model" / "judgement.json") is None
    toml.write_text(text.replace("[judgement]", "[judgement]\nshown = 3"))
    with pytest.raises(ConfigError, match="judgement.shown: unknown key"):
        simulate(toml)
