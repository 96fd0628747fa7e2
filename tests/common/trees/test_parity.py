"""Trees over ten unlike hospitals are those of xgboost's ``hist`` over their pooled rows."""

from __future__ import annotations

import numpy as np
import pytest
import xgboost

from tests.tree_hospitals import (
    FEATURES,
    agreed_bins,
    grown,
    hospitals,
    pooled_xgboost,
    trees_of,
)
from wardround.common.figures.sums import Sums
from wardround.common.trees.features import Feature
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Binary, Multi, Squared
from wardround.common.trees.plan import Growth
from wardround.common.trees.xgboost_file import text_of

TEN = hospitals()
BINS = agreed_bins(TEN.rows, FEATURES)


def total(parts: list[Sums]) -> Sums:
    return {key: np.sum([one[key] for one in parts], axis=0) for key in parts[0]}


def binary() -> Binary:
    return Binary.of(total([Binary.sums(one) for one in TEN.binary()]))


def squared() -> Squared:
    first = total([Squared.sums(one) for one in TEN.numbers()])
    return Squared.of(first | total([Squared.squares(one, first) for one in TEN.numbers()]))


def loaded(model: TreeModel) -> xgboost.Booster:
    booster = xgboost.Booster()
    booster.load_model(bytearray(text_of(model).encode()))
    return booster


def matrix() -> xgboost.DMatrix:
    return xgboost.DMatrix(
        TEN.pooled,
        feature_names=[one.name for one in FEATURES],
        feature_types=["float" if one.number else "c" for one in FEATURES],
        enable_categorical=True,
    )


CASES = {
    "binary": (binary(), TEN.binary(), Growth(learning_rate=0.2, max_depth=4)),
    "multi": (Multi(3), TEN.classes(), Growth(learning_rate=0.3, max_depth=3)),
    "squared": (squared(), TEN.numbers(), Growth(learning_rate=0.3, max_depth=4)),
    "shrunk": (
        binary(),
        TEN.binary(),
        Growth(max_depth=4, gamma=0.4, reg_alpha=0.3, reg_lambda=2.5, min_child_weight=3),
    ),
    "stepped": (binary(), TEN.binary(), Growth(max_depth=4, max_delta_step=0.7, reg_alpha=0.1)),
    "one-hot": (binary(), TEN.binary(), Growth(max_depth=4, max_cat_to_onehot=20)),
    "few categories a side": (binary(), TEN.binary(), Growth(max_depth=4, max_cat_threshold=3)),
}


@pytest.mark.parametrize("name", CASES)
def test_trees_and_predictions_are_those_of_pooled_xgboost(name: str) -> None:
    objective, targets, growth = CASES[name]
    rounds = 8
    model = grown(BINS, objective, TEN.rows, targets, growth, rounds)
    booster, predicted = pooled_xgboost(
        BINS, objective, TEN.pooled, np.concatenate(targets), growth, rounds
    )
    theirs = trees_of(booster)
    assert len(theirs) == len(model.trees)
    for ours, one in zip(model.trees, theirs, strict=True):
        assert ours.left.tolist() == one["left_children"]
        assert ours.feature.tolist() == one["split_indices"]
        assert ours.default_left.tolist() == [bool(left) for left in one["default_left"]]
        np.testing.assert_allclose(ours.gain, one["loss_changes"], rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(ours.hessian, one["sum_hessian"], rtol=1e-5)
        assert sum(ours.categories.values(), ()) == tuple(one["categories"])
    np.testing.assert_allclose(model.predict(TEN.pooled), predicted, rtol=1e-4, atol=1e-5)
    plain = loaded(model).predict(matrix())
    np.testing.assert_allclose(plain, model.predict(TEN.pooled), rtol=1e-6, atol=1e-6)


def test_a_monotone_feature_is_held_as_in_xgboost() -> None:
    features = (Feature("age", monotone=1), *FEATURES[1:2], Feature("visits", monotone=-1))
    rows = [one[:, :3] for one in TEN.rows]
    bins, growth = agreed_bins(rows, features), Growth(max_depth=4)
    model = grown(bins, binary(), rows, TEN.binary(), growth, 6)
    booster, predicted = pooled_xgboost(
        bins,
        binary(),
        np.concatenate(rows),
        np.concatenate(TEN.binary()),
        growth,
        6,
        monotone_constraints="(1,0,-1)",
    )
    assert [one.feature.tolist() for one in model.trees] == [
        one["split_indices"] for one in trees_of(booster)
    ]
    np.testing.assert_allclose(model.predict(np.concatenate(rows)), predicted, atol=1e-5)
    steps = np.linspace(20, 100, 50, dtype=np.float32)
    margins = model.margins(np.stack([steps, np.full(50, 9), np.full(50, 3)], 1).astype(np.float32))
    assert (np.diff(margins[:, 0]) >= 0).all()
