"""A short form of the campaign, of a fixed seed; ``make chaos`` has the long one."""

from __future__ import annotations

import os
import random
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame
from scipy.stats import ttest_ind

from tests.campaign.__main__ import Campaign
from tests.campaign.draw import CHECKS, Case, cases
from tests.campaign.judge import nearest
from tests.campaign.play import follow, inside, toml
from tests.campaign.questions.ask import follow as follow_question
from tests.campaign.questions.draw import (
    ALONE,
    Question,
    analysis,
    options_of,
    questions,
    values_of,
)
from tests.campaign.questions.draw import LEFT_OUT as QUESTIONS_LEFT_OUT
from tests.campaign.questions.judges import judged
from tests.campaign.space import LEFT_OUT, TASKS, space, without_values
from tests.campaign.written import FORMS, written
from wardround.common.config.load import Config, parse_config
from wardround.common.config.task import make_task
from wardround.common.settings.analyses import ANALYSES

QUESTIONS = int(os.environ.get("CAMPAIGN_QUESTIONS", "8"))
CASES = int(os.environ.get("CAMPAIGN_CASES", "10"))
ASKED = 114
"""A seed whose first questions are of unlike procedures."""
SEED = int(os.environ.get("CAMPAIGN_SEED", "25"))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(tmp_path_factory.mktemp("campaign"))


@cache
def drawn() -> list[Case]:
    """Every check beside a run twice; `make chaos` has many more."""
    return [*islice(cases(SEED), CASES)]


@pytest.mark.parametrize("check", CHECKS)
def test_no_main_path_fails(campaign: Campaign, check: str) -> None:
    found = []
    for case in (one for one in drawn() if one.check == check):
        found += [f"{case.again}: {fault}" for fault in campaign.play(case).faults]
    found += [f"{case.again}: saved: {fault}" for case, fault in campaign.judge()]
    assert found == []


def test_no_question_fails(campaign: Campaign) -> None:
    found = []
    for question in islice(questions(ASKED), QUESTIONS):
        found += [f"{question.again}: {fault}" for fault in campaign.ask(question).faults]
    assert found == []


@pytest.mark.parametrize("name", [*ANALYSES, *ALONE])
def test_every_key_of_a_question_is_drawn_or_left_out_with_a_reason(name: str) -> None:
    generator = random.Random(1)
    if name in ALONE:
        assert all(len(values) > 1 for values in options_of(name).values())
        return
    keys = set(ANALYSES[name].model_fields) - {"name", "kind"}
    met = {key for _ in range(60) for key in analysis(name, generator)}
    assert keys - met == {key for key in keys - met if f"{name}.{key}" in QUESTIONS_LEFT_OUT}
    for key in keys - {"formula"}:
        role = values_of(name, key)
        assert role is None or role(generator, name) is not None


def test_a_questions_advice_is_followed_as_it_is_said() -> None:
    asked = {"name": "statistics", "analyses": [{"name": "a", "kind": "pca", "scale": False}]}
    question = Question(0, 0, "survival", asked, {"privacy.unit": "patient"})
    changed = next(follow_question(question, "study.toml: 'a': scale: has no effect; leave it out"))
    assert changed.asked["analyses"] == [{"name": "a", "kind": "pca"}]
    changed = next(follow_question(question, "set procedure.smallest_cell to at most 7"))
    assert changed.asked["smallest_cell"] == 7
    assert next(follow_question(question, "leave out [privacy]")).settings == {}
    assert next(follow_question(question, "something is wrong"), None) is None


@pytest.mark.parametrize("off", [0.0, 0.01])
def test_a_wrong_figure_is_found(off: float) -> None:
    """What judges say nothing of must be right, and of what is wrong they say something."""
    draw = np.random.default_rng(0)
    rows = DataFrame({"größe": draw.normal(size=60), "lactate": draw.normal(size=60)})
    rows["smoker_c"] = ["0", "1"] * 30
    a, b = (rows["größe"][rows["smoker_c"] == level] for level in "01")
    r = float(rows["größe"].corr(rows["lactate"]))
    table = {
        "t_test": (["column", "test", "t"], ["größe", "Welch", ttest_ind(a, b)[0] + off]),
        "correlation": (
            ["column", "with", "n", "r", "±", "p", "covariance", "±"],
            ["größe", "lactate", 60, r + off, 1e-9, 1.0, None, None],
        ),
    }
    for kind, (head, row) in table.items():
        one = {"name": "pairs" if kind == "correlation" else "", "head": head, "rows": [row]}
        options = {"kind": kind, "by": "smoker", "columns": ["größe", "lactate"]}
        found = judged(options, {"tables": [one], "values": {}, "notes": []}, rows)
        assert bool(found) is (off > 0), found


@pytest.mark.parametrize("form", FORMS)
def test_files_are_written_in_another_form(campaign: Campaign, tmp_path: Path, form: str) -> None:
    """The reader takes each for the same rows."""
    made = campaign.consortium("binary")
    other, more = written(made, form, tmp_path)
    overrides = [f"{key}={toml(value)}" for key, value in more.items()]
    task = make_task(other.config(*overrides))
    plain = make_task(made.config())
    for name, path in plain.sites(made.folder / "hospitals").items():
        one, two = plain.load(path), task.load(task.sites(other.folder / "hospitals")[name])
        assert sorted(plain.row_keys(one)) == sorted(task.row_keys(two))


@pytest.mark.parametrize("kind", TASKS)
def test_every_key_is_drawn_or_left_out_with_a_reason(kind: str) -> None:
    assert without_values(kind) == []
    assert all(len(values) > 1 for values in space(kind).values())


def test_what_is_left_out_exists() -> None:
    known = {f"{table}.{key}" for table in Config.model_fields for key in _keys(table)}
    known |= set(Config.model_fields)
    for kind in TASKS:
        known |= {f"task.{key}" for key in TASKS[kind].model_fields}
    nested = {key for key in LEFT_OUT if key.count(".") > 1}
    assert set(LEFT_OUT) - known == nested


def _keys(table: str) -> list[str]:
    kind = Config.model_fields[table].annotation
    fields = getattr(kind, "model_fields", None)
    return list(fields or ())  # network and study: who asks what of whom


def test_every_two_values_meet_in_the_end() -> None:
    """Pairs that meet grow as they should: what is drawn isn't the same again and again."""
    met = set()
    for case in islice(cases(3), 60):
        if case.kind == "binary":
            items = [(key, repr(value)) for key, value in case.settings.items()]
            met |= {frozenset(pair) for pair in zip(items, items[1:], strict=False)}
    assert len(met) > 120


def test_advice_is_followed_as_it_is_said() -> None:
    case = Case(0, 0, "binary", {"training.lr": 9.0, "training.momentum": 0.5})

    def first(message: str) -> Case | None:
        return next(follow(case, message), None)

    changed = first("f.toml:3: training.lr: too much; set training.lr = 0.1")
    assert changed is not None and changed.settings["training.lr"] == 0.1
    changed = first("training.momentum: has no effect with adam; leave it out")
    assert changed is not None and changed.settings == {"training.lr": 9.0}
    changed = first("set secure_aggregation.enabled = false")
    assert changed is not None and not changed.masked
    assert first("something is wrong") is None


def test_places_in_the_code_are_found() -> None:
    assert inside("failed: KeyError at hospital.py:139")
    assert not inside(f"{Path('a/b.py')}: no such file")


@pytest.mark.parametrize(
    ("table", "outputs", "targets", "figure", "ends"),
    [
        ("kind = 'binary'", [[0.1], [-0.3], [0.3], [-0.1]], [0, 0, 1, 1], "accuracy", (0.5, 1.0)),
        ("kind = 'binary'", [[0.1], [-0.3], [0.3], [-0.1]], [0, 0, 1, 1], "auc", (0.25, 1.0)),
        ("kind = 'multiclass'", [[0.1, 0.0, -1.0]], [1], "accuracy", (0.0, 1.0)),
        ("kind = 'multiclass'", [[0.5, 0.0, -1.0]], [1], "accuracy", (0.0, 0.0)),
        ("kind = 'regression'", [[1.0], [3.05]], [[2.0, 1.0], [3.0, 1.0]], "mae", (0.675, 0.425)),
        (
            "kind = 'survival'",
            [[0.1], [0.0], [5.0]],
            [[1, 1], [2, 1], [3, 0]],
            "c_index",
            (0, 1 / 3),
        ),
    ],
)
def test_what_16_bits_may_change_is_counted_out(
    table: str, outputs: list[Any], targets: list[Any], figure: str, ends: tuple[float, float]
) -> None:
    """Each output may be off by 0.15."""
    config = parse_config(f"[task]\nname = 'tabular'\n{table}\n[task.columns]\ntarget = 'y'\n")
    worst, best = nearest(config, np.array(outputs, float), np.array(targets, float), 0.15)
    assert (worst[figure], best[figure]) == pytest.approx(ends)
