"""Files go to xgboost and come from it with the same predictions, and false ones are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree_hospitals import FEATURES, agreed_bins, grown, hospitals
from wardround.common.errors import ModelRefused
from wardround.common.trees.features import Feature
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Binary, Multi
from wardround.common.trees.plan import Growth
from wardround.common.trees.xgboost_file import document, plain_names, text_of
from wardround.common.trees.xgboost_read import read_file, read_text

TEN = hospitals(5)
BINS = agreed_bins(TEN.rows, FEATURES, 16, 5)
MODEL = grown(BINS, Binary(0.3), TEN.rows, TEN.binary(), Growth(max_depth=3), 3)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(text_of(MODEL, {"target": "died"}), "utf-8")
    model, more = read_file(path)
    assert more == {"target": "died"} and model.features == FEATURES
    assert model.predict(TEN.pooled).tobytes() == MODEL.predict(TEN.pooled).tobytes()
    assert text_of(model, more) == path.read_text("utf-8")
    assert model.first(2).rounds == 2 and model.first(2).trees == model.trees[:2]


@pytest.mark.parametrize("objective", ["binary:logistic", "survival:cox", "multi:softprob"])
def test_what_xgboost_wrote_is_evaluated_as_xgboost_does(objective: str) -> None:
    target = np.concatenate(TEN.classes() if "multi" in objective else TEN.binary())
    if "cox" in objective:
        target = np.where(target > 0, 1, -1) * (1 + np.arange(len(target)) % 97)
    matrix = xgboost.DMatrix(
        TEN.pooled, target, feature_types=["float"] * 3 + ["c"] * 2 + ["float"]
    )
    chosen = {"objective": objective, "max_depth": 3, "num_parallel_tree": 2, "nthread": 1}
    chosen |= {"num_class": 3, "base_score": 0.5} if "multi" in objective else {}
    booster = xgboost.train(chosen, matrix, 3)
    model, more = read_text(booster.save_raw("json").decode())
    assert more == {} and len(model.trees) == (18 if "multi" in objective else 6)
    np.testing.assert_allclose(
        model.predict(TEN.pooled), booster.predict(matrix), rtol=2e-6, atol=1e-7
    )


def test_a_random_forest_of_ours_is_one_to_xgboost() -> None:
    growth = Growth(
        learning_rate=1, num_parallel_tree=2, subsample=0.7, colsample_bylevel=0.6, seed=3
    )
    model = grown(BINS, Multi(3), TEN.rows, TEN.classes(), growth, 1)
    assert (
        model.rounds == 1
        and len({text_of(TreeModel(FEATURES, Binary(0.5), (one,))) for one in model.trees}) == 6
    )
    again = grown(BINS, Multi(3), TEN.rows, TEN.classes(), growth, 1)
    assert text_of(model) == text_of(again)
    booster = xgboost.Booster(model_file=bytearray(text_of(model).encode()))
    matrix = xgboost.DMatrix(
        TEN.pooled,
        feature_names=[one.name for one in FEATURES],
        feature_types=["float"] * 3 + ["c"] * 2 + ["float"],
    )
    assert booster.num_boosted_rounds() == 1
    np.testing.assert_allclose(booster.predict(matrix), model.predict(TEN.pooled), atol=1e-6)


def test_names_that_xgboost_refuses_are_kept_beside_plain_ones() -> None:
    assert plain_names(["crp [mg/l]", "crp (mg/l)", "a<b", "[", "("]) == [
        "crp (mg/l)", "crp (mg/l)_", "aunder b", "(", "(_",
    ]  # fmt: skip
    odd = (Feature("crp [mg/l]"), Feature('größe "x" \\'), *FEATURES[2:])
    text = text_of(TreeModel(odd, Binary(0.3), MODEL.trees))
    assert read_text(text)[0].features == odd
    booster = xgboost.Booster(model_file=bytearray(text.encode()))
    assert booster.feature_names is not None
    assert booster.feature_names[:2] == ["crp (mg/l)", 'größe "x" \\']


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every value in a document."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


DOCUMENT = document(MODEL.first(1))
PLACES = places(DOCUMENT)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(PLACES),
    st.one_of(
        st.none(), st.booleans(), st.integers(-3, 9), st.just(2**40), st.just(10**400),
        st.floats(allow_nan=False), st.text(max_size=3), st.just([]), st.just({}),
        st.just([1]), st.just("[0.5,0.6]"),
    ),
)  # fmt: skip
def test_a_file_with_any_value_replaced_is_refused_or_predicts_numbers(
    place: tuple[Any, ...], value: Any
) -> None:
    false = copy.deepcopy(DOCUMENT)
    inside: Any = false
    for key in place[:-1]:
        inside = inside[key]
    inside[place[-1]] = value
    try:
        model, _ = read_text(json.dumps(false))
    except ModelRefused:
        return
    found = model.predict(TEN.pooled[:50, : len(model.features)])
    assert found.shape[0] == 50


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[" * 100_000, "no JSON"),
        ('{"learner": NaN}', "no JSON"),
        ("[]", "no model of trees"),
        ("{}", "no 'learner'"),
        (text_of(MODEL).replace('"gbtree"', '"dart"'), "of the kind 'dart'"),
        (text_of(MODEL).replace("binary:logistic", "rank:ndcg"), "minimises 'rank:ndcg'"),
        (text_of(MODEL).replace('"num_trees":"3"', '"num_trees":"4"'), "another number of trees"),
    ],
)
def test_what_is_no_such_file_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ModelRefused, match=why):
        read_text(text)
