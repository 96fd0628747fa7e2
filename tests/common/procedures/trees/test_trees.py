"""Trees over hospitals are the trees of all rows, whoever has which; and what a server may say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.common.procedures.statistics.unlike import hospitals, tables
from tests.common.procedures.trees.grown import KINDS, Grower, Parts, grow, settings
from wardround.common.errors import ConfigError, RequestRefused, TaskError
from wardround.common.figures.sums import Sums
from wardround.common.predict.trees import load_trees
from wardround.common.procedures.carrying import STEP
from wardround.common.procedures.trees.calendar import PREPARING, Calendar

FRAMES = hospitals()


def parted(frames: list[pd.DataFrame], least: int = 5) -> list[Parts]:
    """A tenth held out of those with rows enough."""
    found = list[Parts]()
    for frame in frames:
        held = len(frame) // 10 if len(frame) > 40 else 0
        cut = len(frame) - 2 * held
        parts = {"train": frame[:cut]}
        if held:
            parts |= {"validation": frame[cut : cut + held], "test": frame[cut + held :]}
        found.append(dict(zip(parts, tables(list(parts.values())), strict=True)))
    return found


def pooled(hospitals: list[pd.DataFrame]) -> list[Parts]:
    by_split: dict[str, list[pd.DataFrame]] = {}
    for frame in hospitals:
        held = len(frame) // 10 if len(frame) > 40 else 0
        cut = len(frame) - 2 * held
        by_split.setdefault("train", []).append(frame[:cut])
        by_split.setdefault("validation", []).append(frame[cut : cut + held])
        by_split.setdefault("test", []).append(frame[cut + held :])
    frames = [pd.concat(parts, ignore_index=True) for parts in by_split.values()]
    return [dict(zip(by_split, tables(frames), strict=True))]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_hospitals_grow_the_trees_of_all_rows(kind: str) -> None:
    """One lacks a class, a category and events; one has a single row, one a constant column."""
    config = settings(kind, early_stopping=1)
    many, one = grow(config, parted(FRAMES)), grow(config, pooled(FRAMES))
    # sums are of whole numbers, so they are the same in any parts
    assert many["model.json"] == one["model.json"]
    told = json.loads(many["trees.json"])
    assert told["rounds"] <= told["grown"] == len(told["scores"]) <= 3
    assert told["scores"][told["rounds"] - 1] == min(told["scores"])
    assert sum(column["gain"] for column in told["columns"]) == pytest.approx(1)
    assert told["hospitals"] == 4 and told["rows"] % 5 == 0
    assert {*told["figures"]} == {"validation", "test"}


def test_plain_xgboost_and_predict_say_of_the_file_what_figures_say(tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    found = grow(settings("regression", rounds=4), parted(FRAMES))
    booster = xgboost.Booster()
    booster.load_model(bytearray(found["model.json"].encode()))
    test = pd.concat(
        [frame[len(frame) - len(frame) // 10 :] for frame in FRAMES if len(frame) > 40]
    )
    names = booster.feature_names
    told = json.loads(json.loads(found["model.json"])["learner"]["attributes"]["wardround"])
    rows = test[names].copy()
    for name, texts in ((one["name"], one["levels"]) for one in told["features"]):
        if texts is not None:
            rows[name] = pd.Categorical(rows[name], categories=texts).codes.astype(float)
    data = xgboost.DMatrix(
        rows.to_numpy(np.float32), feature_names=names, feature_types=booster.feature_types,
        enable_categorical=True,
    )  # fmt: skip
    apart = booster.predict(data) - test["score"].to_numpy()
    (tmp_path / "model.json").write_text(found["model.json"], "utf-8")
    ours = load_trees(tmp_path).predict(test)["prediction"]
    np.testing.assert_allclose(ours, booster.predict(data), rtol=1e-6)
    figures = json.loads(found["trees.json"])["figures"]["test"]
    assert figures["rmse"] == pytest.approx(float(np.sqrt((apart**2).mean())), rel=1e-5)


def test_a_forest_with_drawn_rows_and_monotone_columns() -> None:
    config = settings(
        rounds=1, forest=4, subsample=0.7, colsample_bylevel=0.7, learning_rate=1.0,
        monotone={"age": 1}, smallest_leaf=8,
    )  # fmt: skip
    found = grow(config, parted(FRAMES))
    assert found == grow(config, parted(FRAMES))
    model = json.loads(found["model.json"])["learner"]["gradient_booster"]["model"]
    assert model["gbtree_model_param"] == {"num_parallel_tree": "4", "num_trees": "4"}
    # a quarter of a hessian at most a row: eight rows or more
    leaves = [
        hessian
        for tree in model["trees"]
        for hessian, left in zip(tree["sum_hessian"], tree["left_children"], strict=True)
        if left == -1 and len(tree["left_children"]) > 1
    ]
    assert leaves and min(leaves) >= 2


# --- steps ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("risk", [False, True])
def test_a_number_says_what_a_step_is_and_each_is_there_once(risk: bool) -> None:
    calendar = Calendar(4, 3, risk)
    moments = [calendar.at(step) for step in range(calendar.steps)]
    assert len(set(moments)) == len(moments) == PREPARING + 4 * (3 + risk) + 2
    assert [one.kind for one in moments[-2:]] == ["score", "figures"]
    assert calendar.at(calendar.steps).kind == "over"
    for number in range(4):
        first = calendar.at(calendar.begins(number))
        assert calendar.opens(first) and (first.round, first.level) == (number, 0)


def test_a_server_that_starts_again_grows_the_same() -> None:
    config, parts = settings(rounds=2), parted(FRAMES)

    def restart(grower: Grower) -> None:
        grower.server = grower.procedure()
        grower.workers = [grower.procedure() for _ in grower.workers]

    assert Grower(config, parts, restart).grow() == grow(config, parts)


def test_who_leaves_ends_the_tree_and_no_level_is_asked_twice() -> None:
    gone = list[int]()

    def leave(grower: Grower) -> None:
        moment = grower.server.moment(grower.earlier)
        if not gone and (moment.kind, moment.round, moment.level) == ("level", 1, 2):
            gone.append(grower.there.pop(0))
            grower.earlier = grower.server.left(grower.earlier)

    grower = Grower(settings(rounds=3), parted(FRAMES), leave)
    found = grower.grow()
    assert gone and grower.asked == sorted(set(grower.asked))
    numbers = [grower.server.calendar.at(step) for step in grower.asked]
    assert [one.level for one in numbers if one.kind == "level" and one.round == 1] == [0, 1]
    trees = json.loads(found["model.json"])["learner"]["gradient_booster"]["model"]["trees"]
    assert len(trees) == 3
    whole = json.loads(grow(settings(rounds=3), parted(FRAMES))["model.json"])
    first = whole["learner"]["gradient_booster"]["model"]["trees"]
    assert trees[0] == first[0] and len(trees[1]["left_children"]) <= len(first[1]["left_children"])


# --- a server that lies ---------------------------------------------------------------------------
def states(config: Any) -> list[tuple[int, Sums]]:
    found = list[tuple[int, Sums]]()

    def note(grower: Grower) -> None:
        if grower.earlier:
            found.append((grower.server.step(grower.earlier), grower.earlier[0]))

    Grower(config, parted(FRAMES), note).grow()
    return found


STATES = {kind: states(settings(kind, early_stopping=1)) for kind in ("binary", "survival")}
Lie = Callable[[Sums], Sums]


def _set(name: str, value: Any) -> Lie:
    return lambda state: state | {name: value(state[name]) if callable(value) else value}


LIES: dict[str, Lie] = {
    "an array more": lambda state: state | {"now/more": np.ones(1)},
    "an array less": lambda state: {k: v for k, v in state.items() if k != "agreed/cuts"},
    "cuts that fall": _set("agreed/cuts", lambda cuts: cuts[::-1].copy()),
    "cuts of another type": _set("agreed/cuts", lambda cuts: cuts.astype(np.float64)),
    "another text": _set("agreed/text", np.frombuffer(b"[]", np.uint8)),
    "a text without end": _set("agreed/text", np.frombuffer(b"[" * 100_000, np.uint8)),
    "a column of another kind": _set(
        "agreed/text",
        lambda text: np.frombuffer(text.tobytes().replace(b'"age"', b'"time"'), np.uint8),
    ),
    "no rows": _set(
        "agreed/text",
        lambda text: np.frombuffer(text.tobytes().replace(b'"rows": ', b'"rows": -'), np.uint8),
    ),
    "more trees": _set("trees/nodes", lambda nodes: np.append(nodes, 1).astype(np.int32)),
    "scores of rounds to come": _set("scores", np.zeros(50)),
}


@pytest.mark.parametrize("name", sorted(LIES))
@pytest.mark.parametrize("kind", sorted(STATES))
def test_a_state_of_another_form_is_refused(kind: str, name: str) -> None:
    grower = Grower(settings(kind, early_stopping=1), parted(FRAMES))
    tried = 0
    for step, state in STATES[kind]:
        grower.procedure().check_state(step, state)
        if {"agreed/cuts", "trees/nodes", "scores"} <= set(state) or name == "an array more":
            with pytest.raises(TaskError):
                grower.procedure().check_state(step, LIES[name](state))
            tried += 1
        with pytest.raises((TaskError, RequestRefused)):  # of another step
            grower.procedure().read(step + 1, {f"0/{k}": v for k, v in state.items()})
    assert tried > 3


def test_cells_are_counted_of_columns_of_numbers_alone() -> None:
    """Else a server would have counts of a column that is ignored, of a target, or of who it is."""
    found = 0
    for step, state in STATES["binary"]:
        key = "now/prepared/0/numeric/age/count"
        if key not in state:
            continue
        procedure = Grower(settings(early_stopping=1), []).procedure()
        procedure.check_state(step, state)
        for other in ("time", "event", "sex", "score"):
            lie = {k.replace("age", other): v for k, v in state.items()}
            with pytest.raises(TaskError, match="another kind"):
                procedure.check_state(step, lie)
        for rows in (-1.0, float("nan"), 1e300):
            with pytest.raises(TaskError, match="no rows"):
                procedure.check_state(step, state | {"now/prepared/0/rows": np.array([rows])})
        found += 1
    assert found == 3


def test_trees_in_growth_are_no_deeper_than_their_level_and_over_columns_there_are() -> None:
    for step, state in STATES["binary"]:
        table = "now/round/table"
        if table not in state:
            continue
        grower = Grower(settings(early_stopping=1), parted(FRAMES))
        other = (state[table] + [[0, 200, 0, 0]]).astype(np.int32)
        with pytest.raises(TaskError, match="a feature that there isn't"):
            grower.procedure().check_state(step, state | {table: other})
        deeper = {k: v for k, v in STATES["binary"][-1][1].items() if k.startswith("trees/")}
        one = {k.replace("trees/", "now/round/"): v for k, v in deeper.items()}
        hessians = np.ones((len(one[table]), 1), np.int32)
        one[table] = np.concatenate([one[table], hessians], axis=1)
        with pytest.raises(TaskError):  # all finished trees, as if they were growing
            grower.procedure().check_state(step, state | one)
        moved = {k: v for k, v in state.items() if k != STEP} | {STEP: np.array([step + 1])}
        if grower.server.calendar.at(step + 1).round != grower.server.calendar.at(step).round:
            with pytest.raises(TaskError):
                grower.procedure().check_state(step + 1, moved)


def test_what_does_not_go_together_is_said() -> None:
    for options, words in (
        ({"monotone": {"sex": 1}}, "'sex' is no column of numbers here"),
        ({"early_stopping": 3}, "fewer than the rounds"),
        ({"max_depth": 13}, "procedure.max_depth"),
        ({"time_cells": 30}, "an effect with survival only"),
    ):
        with pytest.raises(ConfigError, match=words):
            Grower(settings(**options), [])
    with pytest.raises(TaskError, match="no hospital has rows to train on"):
        grow(settings(), [{"train": tables([FRAMES[0][:0]])[0]}])
