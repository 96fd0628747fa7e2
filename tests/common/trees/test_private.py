"""Private trees: no data in a split, a bounded part of each row in a sum, and something learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from tests.tree_hospitals import FEATURES, hospitals
from wardround.common.errors import ConfigError, ModelRefused
from wardround.common.trees.codec import check_tree
from wardround.common.trees.model import TreeModel
from wardround.common.trees.objectives import Binary, Multi
from wardround.common.trees.private import (
    WHOLE,
    PrivateGrowth,
    clipped,
    drawn_tree,
    leaf_sums,
    sensitivity,
    with_leaves,
)
from wardround.common.trees.xgboost_file import text_of
from wardround.common.trees.xgboost_read import read_text

RANGES = {"age": (20.0, 100.0), "crp": (0.0, 40.0), "visits": (0.0, 8.0), "constant": (0.0, 9.0)}
TEN = hospitals(7)
any_number = st.floats(width=32)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, (4, 3), elements=any_number),
    arrays(np.float32, (4, 3), elements=any_number),
    st.integers(1, 4),
)
def test_a_unit_changes_the_sums_by_no_more_than_is_said(
    gradients: np.ndarray, hessians: np.ndarray, records: int
) -> None:
    assert (np.linalg.norm(clipped(gradients, hessians).astype(float), axis=(1, 2)) <= WHOLE).all()
    growth, rows = PrivateGrowth(depth=3), TEN.pooled[:4]
    tree = drawn_tree(FEATURES, RANGES, growth, 0)
    whole = leaf_sums(tree, rows, gradients, hessians, growth)
    without = leaf_sums(tree, rows[records:], gradients[records:], hessians[records:], growth)
    assert np.linalg.norm((whole - without).astype(float)) <= sensitivity(records)


def test_a_row_of_two_classes_is_never_clipped_and_a_larger_one_keeps_its_direction() -> None:
    found = clipped(np.array([[-1.0], [30.0], [np.nan]]), np.array([[0.25], [0.0], [1.0]]))
    scale = WHOLE / np.sqrt(1 + 1 / 16)
    assert found[:, 0].tolist() == [[int(-scale), int(scale / 4)], [WHOLE - 1, 0], [0, 0]]


def test_splits_come_of_seed_and_ranges_alone() -> None:
    growth = PrivateGrowth(depth=4, seed=2)
    trees = [drawn_tree(FEATURES, RANGES, growth, number) for number in range(30)]
    again = drawn_tree(FEATURES, RANGES, growth, 3)
    assert again.value.tobytes() == trees[3].value.tobytes() != trees[4].value.tobytes()
    for tree in trees:
        check_tree(tree, FEATURES, 4, ModelRefused)
        assert len(tree) == 31
        for node in range(15):
            name = FEATURES[tree.feature[node]].name
            if name in RANGES:
                low, high = RANGES[name]
                assert low <= tree.value[node] <= high
            else:
                assert 0 < len(tree.categories[node])
    with pytest.raises(ConfigError, match="range of column 'age'"):
        drawn_tree(FEATURES[:1], {"age": (5.0, 5.0)}, growth, 0)


def grown(deviation: float, objective: Binary | Multi, targets: list[np.ndarray]) -> TreeModel:
    growth, noise = PrivateGrowth(depth=4, reg_lambda=2), np.random.default_rng(1)
    margins = [np.full((len(one), objective.outputs), objective.base_margin, np.float32)
               for one in targets]  # fmt: skip
    trees = []
    for number in range(25):
        drawn = drawn_tree(FEATURES, RANGES, growth, number)
        sums = np.sum(
            [
                leaf_sums(drawn, rows, *objective.gradients(f, y), growth)
                for rows, f, y in zip(TEN.rows, margins, targets, strict=True)
            ],
            axis=0,
        )
        noised = sums + np.rint(noise.normal(0, deviation, sums.shape))
        own = [with_leaves(drawn, noised[:, k], deviation, growth) for k in range(sums.shape[1])]
        for rows, f in zip(TEN.rows, margins, strict=True):
            for k, tree in enumerate(own):
                f[:, k] += tree.value[tree.reached(rows)]
        trees += own
    return TreeModel(FEATURES, objective, tuple(trees))


def test_trees_learn_and_noise_costs() -> None:
    truth = np.concatenate(TEN.binary())
    exact, noised, drowned = (
        roc_auc_score(
            truth, grown(deviation * WHOLE, Binary(0.5), TEN.binary()).predict(TEN.pooled)
        )
        for deviation in (0, 2, 300)
    )
    assert exact > 0.78 and 0.68 < noised < exact and abs(drowned - 0.5) < 0.15


def test_classes_share_a_tree_and_the_file_is_read_again() -> None:
    model = grown(0, Multi(3), TEN.classes())
    again, _ = read_text(text_of(model))
    assert again.predict(TEN.pooled).tobytes() == model.predict(TEN.pooled).tobytes()
    hit = (model.predict(TEN.pooled).argmax(axis=1) == np.concatenate(TEN.classes())).mean()
    most = max(np.bincount(np.concatenate(TEN.classes()).astype(int))) / len(TEN.pooled)
    assert hit > most + 0.05
