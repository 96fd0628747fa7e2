"""Private trees: what a unit changes is bounded, nothing but noised sums shapes them, and what
can't be private is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.common.procedures.statistics.unlike import hospitals, tables
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, RequestRefused
from wardround.common.predict.trees import load_trees
from wardround.common.procedures.known import make_procedure
from wardround.common.procedures.procedure import Asked, Procedure
from wardround.common.procedures.trees.page import page
from wardround.common.protocol.sums import joined
from wardround.common.trees.private import WHOLE
from wardround.simulations import analyse

FRAMES = hospitals()
RANGES = "age = { range = [20, 100] }, dose = { range = [0, 20] }, weight = { range = [30, 130] }"
KINDS = {
    "binary": 'kind = "binary"\n[task.columns]\ntarget = "event"',
    "multiclass": (
        'kind = "multiclass"\nclasses = ["A", "B", "C"]\n[task.columns]\ntarget = "stage"'
    ),
    "regression": 'kind = "regression"\n[task.columns]\ntarget = "score"',
}
TEXT = """
[procedure]
name = "trees"
rounds = {rounds}
max_depth = 3
[privacy]
unit = "example"
epsilon = 2.0
{more}
[task]
{kind}
numeric = ["age", "dose", "weight"]
categorical = ["sex"]
ignore = ["time", "score", "event", "stage"]
categories = {{ sex = ["f", "m"] }}
expected = {{ {ranges}, score = {{ range = [0, 10] }} }}
"""


def text(kind: str = "binary", rounds: int = 12, more: str = "", ranges: str = RANGES) -> str:
    found = TEXT.format(kind=KINDS[kind], rounds=rounds, more=more, ranges=ranges)
    target = {"binary": "event", "multiclass": "stage", "regression": "score"}[kind]
    found = found.replace(f'"{target}"]', "]").replace(f'"{target}", ', "")
    return found if kind == "regression" else found.replace(", score = { range = [0, 10] }", "")


def made(kind: str, rounds: int = 12) -> Procedure:
    config = parse_config(text(kind, rounds))
    return make_procedure(config, make_task(config))


def grown(kind: str, frames: Sequence[pd.DataFrame], noise: float = 0.0) -> list[dict[str, Any]]:
    """Totals of all steps."""
    parts = [{"train": one, "test": one} for one in tables(frames)]
    draws, earlier = np.random.default_rng(0), list[dict[str, Any]]()
    while made(kind).more(earlier):
        sums = [made(kind).sums(one, earlier) for one in parts]
        assert {k: v.shape for k, v in sums[0].items()} == made(kind).shapes(earlier)
        whole = {key: sum(one[key] for one in sums) for key in sums[0]}
        earlier.append({k: v + np.rint(draws.normal(0, noise, v.shape)) for k, v in whole.items()})
    return earlier


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_hospitals_grow_what_all_rows_would_and_it_predicts(kind: str, tmp_path: Path) -> None:
    many, one = grown(kind, FRAMES), grown(kind, [pd.concat(FRAMES, ignore_index=True)])
    for left, right in zip(many, one, strict=True):
        assert all((left[key] == right[key]).all() for key in left)
    asked = Asked(4, 3.0 * WHOLE, 2.0, 1e-5, "example")
    files = made(kind).result(many, asked)
    told = json.loads(files["trees.json"])
    assert told["privacy"] == {"unit": "example", "epsilon": 2.0, "delta": 1e-5, "noise": 3.0}
    assert "epsilon 2 at delta 1e-05" in page(told, "run")
    (tmp_path / "model.json").write_text(files["model.json"], "utf-8")
    everyone = pd.concat(FRAMES, ignore_index=True)
    found = load_trees(tmp_path).predict(everyone)
    figures = told["figures"]["test"]
    if kind == "regression":
        off = float(np.abs(found["prediction"] - everyone["score"]).mean())
        assert figures["mae"] == pytest.approx(off, abs=10 / 16 / 2)  # half a bin
    elif kind == "binary":
        hit = ((found["probability"] >= 0.5) == everyone["event"]).mean()
        assert figures["accuracy"] == pytest.approx(float(hit), abs=1e-5)
        assert 0.55 < figures["auc"] < 0.8
    else:
        said = np.stack([found[f"probability_{one}"] for one in "ABC"]).argmax(axis=0)
        hit = (said == everyone["stage"].map({"A": 0, "B": 1, "C": 2})).mean()
        assert figures["accuracy"] == pytest.approx(float(hit), abs=1e-5)


def test_a_row_changes_each_step_by_no_more_than_is_said() -> None:
    earlier = grown("binary", FRAMES)
    (with_it,), (without,) = tables([FRAMES[2]]), tables([FRAMES[2][1:]])
    for step in (0, 7, 11, 12):
        one = made("binary").sums({"train": with_it, "test": with_it}, earlier[:step])
        other = made("binary").sums({"train": without, "test": without}, earlier[:step])
        (key,) = one
        assert 0 < np.linalg.norm(one[key] - other[key]) <= made("binary").sensitivity(1) == WHOLE


def test_totals_of_another_form_and_steps_beyond_the_last_are_refused() -> None:
    earlier = grown("binary", FRAMES[1:], 50.0)
    procedure = made("binary")
    assert len(procedure.read(13, joined(earlier))) == 13 and procedure.shapes(earlier) == {}
    false = [{"leaves": np.zeros((4, 1, 2))}, *earlier[1:3]]
    with pytest.raises(RequestRefused, match="are not what 'trees' asks"):
        procedure.read(3, joined(false))
    for figure in json.loads(procedure.result(earlier, Asked(3))["trees.json"])["figures"].values():
        assert all(value is None or 0 <= value <= 1 for value in figure.values())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (text(more='unit = "hospital"').replace('unit = "example"\n', ""), "any number of rows"),
        (text(more='noise = "central"'), "added where the rows are"),
        (text().replace("max_depth", "subsample = 0.5\nmax_depth"), "procedure.subsample"),
        (text(ranges="age = { range = [20, 100] }"), "expected.dose"),
        (text().replace('["age", "dose", "weight"]', '["*"]'), "name them"),
        (text().replace('{ sex = ["f", "m"] }', "{}"), "categories.sex"),
        (
            text().replace('target = "event"', 'time = "time"\nevent = "event"\ntarget = ""')
            .replace('"binary"', '"survival"').replace('ignore = ["time", ', "ignore = ["),
            "learn no survival",
        ),
    ],
)  # fmt: skip
def test_what_can_not_be_private_is_refused_by_its_key(settings: str, words: str) -> None:
    config = parse_config(settings)
    with pytest.raises(ConfigError, match=words):
        make_procedure(config, make_task(config))


def test_a_masked_run_is_paid_for_in_ledgers_and_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, frame in zip("abcd", FRAMES, strict=True):
        frame.to_csv(tmp_path / "data" / f"{name}.csv", index=False)
    more = 'noise = "distributed"\n[data]\npath = "data"\n[simulation]\npartition = "sites"'
    written = text("binary", 2, more) + f'[federation]\nruns = "{tmp_path / "runs"}"\n'
    (tmp_path / "federation.toml").write_text(written)
    found = analyse(tmp_path / "federation.toml")
    told = found.published["trees.json"]
    assert told["privacy"]["epsilon"] == pytest.approx(2, rel=0.01)
    ledgers = list((found.run_directory / "ledgers").rglob("*"))
    assert any(one.is_file() for one in ledgers)
    assert len(load_trees(found.run_directory).predict({
        "age": [50.0], "dose": [None], "weight": [70], "sex": ["f"]})) == 1  # fmt: skip
