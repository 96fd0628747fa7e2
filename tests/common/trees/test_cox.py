"""Risk sets over hospitals: on times of their own, xgboost's trees; in cells, within the error."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tree_hospitals import FEATURES, agreed_bins, hospitals, pooled_xgboost, trees_of
from wardround.common.errors import TaskError
from wardround.common.trees.cox import Cox, coded
from wardround.common.trees.gains import Rules
from wardround.common.trees.grid import fitting
from wardround.common.trees.growing import GrowingRound
from wardround.common.trees.histograms import Units
from wardround.common.trees.local import LocalRows
from wardround.common.trees.model import TreeModel
from wardround.common.trees.plan import Growth

TEN = hospitals(3)
BINS = agreed_bins(TEN.rows, FEATURES, 32)
GROWTH = Growth(max_depth=3)


def targets() -> list[np.ndarray]:
    """No two times alike; nothing happens at the fourth hospital."""
    found = []
    for number, (score, draw) in enumerate(zip(TEN.scores, TEN.draws, strict=True)):
        time = np.float32(-np.log(1 - draw) * np.exp(-score / 2) + 0.01).astype(np.float64)
        event = (draw * 997) % 1 < (0 if number == 3 else 0.6)
        found.append(coded(time, event))
    return found


def boosted(cuts: np.ndarray, rounds: int, fewest: int = 1) -> TreeModel:
    plain = Cox(cuts.astype(np.float32))
    hospitals_ = [LocalRows(BINS, plain, x, y) for x, y in zip(TEN.rows, targets(), strict=True)]
    events = np.sum([plain.events(one.target) for one in hospitals_], axis=0)
    units = Units(*(fitting(800, bound, 64) for bound in plain.largest), plain.counts_rows)
    rules = Rules.of(GROWTH, 1.0, False, fewest)
    trees = []
    for number in range(rounds):
        hazards = [plain.at_risk(one.margins, one.target) for one in hospitals_]
        agreed = plain.with_sums(events, np.sum(hazards, axis=0))
        for one in hospitals_:
            one.objective = agreed
        growing = GrowingRound(BINS, units, GROWTH, rules, number)
        whole = [one.gradients(units) for one in hospitals_]
        while asked := growing.asked():
            sums = [
                one.level_sums(mine, growing.trees(), asked, GROWTH, "")
                for one, mine in zip(hospitals_, whole, strict=True)
            ]
            growing.add(np.sum(sums, axis=0))
        trees += growing.trees()
        for one in hospitals_:
            one.take_round(growing.trees())
    return TreeModel(BINS.features, plain, tuple(trees))


def test_with_each_time_in_its_own_cell_the_trees_are_pooled_xgboosts() -> None:
    target = np.concatenate(targets())
    times = np.unique(np.abs(target).astype(np.float32))
    model = boosted(times[1:], 5)
    booster, predicted = pooled_xgboost(BINS, model.objective, TEN.pooled, target, GROWTH, 5)
    for ours, theirs in zip(model.trees, trees_of(booster), strict=True):
        assert ours.feature.tolist() == theirs["split_indices"]
        np.testing.assert_allclose(ours.hessian, theirs["sum_hessian"], rtol=1e-4)
    np.testing.assert_allclose(model.predict(TEN.pooled), predicted, rtol=1e-3)


def test_a_hundred_cells_of_time_come_near() -> None:
    target = np.concatenate(targets())
    cuts = np.quantile(np.abs(target), np.arange(1, 100) / 100)
    rough = np.log(boosted(cuts, 5).predict(TEN.pooled))
    exact = np.log(boosted(np.unique(np.abs(target))[1:], 5).predict(TEN.pooled))
    assert 0 < np.abs(rough - exact).mean() < 0.05


def test_totals_that_no_hospitals_gave_are_refused() -> None:
    plain = Cox(np.array([1, 2], np.float32))
    events = np.array([1, 0, 1])
    np.testing.assert_allclose(
        plain.with_sums(events, np.array([2.0, 1.0, 1.0])).hazards,
        [[0.25, 0.25, 1.25], [1 / 16, 1 / 16, 17 / 16]],
    )
    for false in ([2.0, 1.0, 0.0], [2.0, np.nan, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0]):
        with pytest.raises(TaskError):
            plain.with_sums(events, np.array(false))
    with pytest.raises(TaskError, match="who is at risk"):
        plain.gradients(np.zeros((1, 1), np.float32), np.array([1.0]))


def test_no_leaf_has_fewer_rows_than_it_must() -> None:
    cuts = np.quantile(np.abs(np.concatenate(targets())), np.arange(1, 60) / 60)

    def smallest(model: TreeModel) -> int:
        leaves = [np.bincount(one.reached(TEN.pooled)) for one in model.trees]
        return min(int(counts[counts > 0].min()) for counts in leaves)

    assert smallest(boosted(cuts, 5)) < 40 <= smallest(boosted(cuts, 5, 40))
