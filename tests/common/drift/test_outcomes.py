"""Figures of rows with outcomes: scikit-learn's values, DeLong's error by its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score

from wardround.common.drift.counts import Column, Counts
from wardround.common.drift.field import fields_of
from wardround.common.drift.outcomes import (
    Z,
    as_values,
    auc,
    binary,
    figures_of,
    numbers,
    of_values,
    several,
)
from wardround.common.drift.rows import group_columns
from wardround.common.tasks.schema import Output, Schema

SCHEMA = Schema(
    task="tabular",
    kind="binary",
    target="died",
    outputs=(Output(name="probability", kind="probability", of="1"),),
)


def made(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    logit = generator.normal(-0.5, 1.5, rows).round(1)  # with ties
    truth = (generator.random(rows) < 1 / (1 + np.exp(-0.7 * logit - 0.4))).astype(float)
    return 1 / (1 + np.exp(-logit)), truth


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(0, 10_000))
def test_the_area_and_its_error_are_those_of_all_pairs(rows: int, seed: int) -> None:
    scores, truth = made(rows, seed)
    truth[:4] = 0, 0, 1, 1
    area, error = auc(scores, truth)
    assert area == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    ones, zeros = scores[truth == 1], scores[truth == 0]
    pairs = (ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)
    spread = pairs.mean(1).var(ddof=1) / len(ones) + pairs.mean(0).var(ddof=1) / len(zeros)
    assert error == pytest.approx(np.sqrt(spread), abs=1e-12)


def test_calibration_and_brier_are_scikit_learns() -> None:
    scores, truth = made(800, 1)
    found = {one.name: one for one in binary(scores, truth)}
    assert found["brier"].value == pytest.approx(brier_score_loss(truth, scores))
    logit = np.log(scores / (1 - scores))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit[:, None], truth)
    assert found["calibration slope"].value == pytest.approx(model.coef_[0, 0], abs=1e-5)
    # with the offset's fit as many are expected as there were
    middle = found["calibration intercept"].value
    assert (1 / (1 + np.exp(-logit - middle))).sum() == pytest.approx(truth.sum())
    p = 1 / (1 + np.exp(-logit - middle))
    half = (found["calibration intercept"].high - found["calibration intercept"].low) / 2
    assert half == pytest.approx(Z / np.sqrt((p * (1 - p)).sum()))
    assert found["auc"].low < found["auc"].value < found["auc"].high < 1


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        scores, truth = made(300, seed)
        slope = next(one for one in binary(scores, truth) if one.name == "calibration slope")
        held += slope.low <= 0.7 <= slope.high
    assert 180 <= held <= 199  # 95 % of 200


@pytest.mark.parametrize("truth", [[0, 0, 0], [1, 1, 1], [1]])
def test_rows_that_allow_no_figure_have_none(truth: list[int]) -> None:
    scores = np.linspace(0.2, 0.9, len(truth))
    names = {one.name for one in binary(scores, np.array(truth, dtype=float))}
    assert names == {"brier", "prevalence"}
    parted = {one.name for one in binary(np.array([0.1, 0.9]), np.array([0.0, 1.0]))}
    assert parted == {"auc", "brier", "calibration intercept", "prevalence"}


def test_other_kinds_and_what_is_stored() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3]])
    accuracy, brier = several(scores, np.array([0, 2, 1, 0]))
    assert accuracy.value == 0.75
    low, high = binomtest(3, 4).proportion_ci(method="wilson")
    assert (accuracy.low, accuracy.high) == (pytest.approx(low), pytest.approx(high))
    assert brier.value == pytest.approx((0.14 + 0.06 + 0.54 + 0.98) / 4)
    bias, rmse = numbers(np.array([1.0, 2.0, 4.0]), np.array([1.0, 1.0, 2.0]))
    assert bias.value == 1.0 and rmse.value == pytest.approx(np.sqrt(5 / 3))
    assert of_values(as_values([accuracy, brier, bias, rmse])) == [accuracy, brier, bias, rmse]
    for wrong in ({"auc": [None, 0, 1, 4]}, {"auc": 3}, {"auc": [float("nan"), 0, 1, 4]}):
        with pytest.raises(ValueError, match="no "):
            of_values(wrong)


def test_outcomes_are_counted_by_groups_of_probability_and_rows_without_them_nowhere() -> None:
    columns = {
        "score/probability": Column(np.array([0.01, 0.1, 0.1, 0.9, np.nan, 1.0, 0.97])),
        "outcome/died": Column(np.array([0, 0, 1, -1, 1, 1, 1])),
    }
    fields = fields_of(SCHEMA)
    counts = Counts.of(fields, {**columns, **group_columns(columns, SCHEMA)})
    groups = [counts.cells[field.key][:2].tolist() for field in fields[2:]]
    assert groups == [[1, 0], [1, 1], [0, 0], [0, 0], [0, 2]]
    assert {one.name: one.rows for one in figures_of(columns, SCHEMA)}["brier"] == 5
    few = {key: Column(one.values[:5]) for key, one in columns.items()}
    assert figures_of(few, SCHEMA) == []  # three rows
