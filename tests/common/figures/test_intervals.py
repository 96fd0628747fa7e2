"""Intervals of figures from sums: closed forms, scipy, and the bootstrap over the rows."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from wardround.common.figures.areas import Z, newcombe, roc_interval, roc_variance, wilson
from wardround.common.figures.intervals import figure_intervals, figure_variances
from wardround.common.figures.sums import (
    Sums,
    add_sums,
    binary_figures,
    binary_sums,
    multiclass_figures,
    multiclass_sums,
    regression_figures,
    regression_sums,
)
from wardround.common.figures.survival import survival_figures, survival_sums

Draw = Callable[[NDArray[np.int64]], tuple[Sums, dict[str, float]]]


@given(st.integers(0, 400), st.integers(0, 400))
def test_shares_are_scipys(hits: int, missed: int) -> None:
    if hits + missed == 0:
        assert wilson(0, 0) is None
        return
    expected = stats.binomtest(hits, hits + missed).proportion_ci(method="wilson")
    assert wilson(hits, hits + missed) == pytest.approx(tuple(expected), abs=1e-9)


def delong(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """DeLong's variance, pair by pair as in the paper."""
    positives, negatives = scores[truth == 1], scores[truth == 0]
    won = (positives[:, None] > negatives) + (positives[:, None] == negatives) / 2
    of_positives, of_negatives = won.mean(axis=1), won.mean(axis=0)
    return float(
        of_positives.var(ddof=1) / len(positives) + of_negatives.var(ddof=1) / len(negatives)
    )


@pytest.mark.parametrize("rows", [40, 800])
def test_an_area_has_delongs_variance_of_the_binned_scores(rows: int) -> None:
    rng = np.random.default_rng(rows)
    logits = rng.normal(size=rows)
    truth = (rng.random(rows) < 1 / (1 + np.exp(-2 * logits))).astype(int)
    scores = 1 / (1 + np.exp(-logits))
    sums = binary_sums(scores, truth, bins=20)
    edges = 1 / (1 + np.exp(-2.0 * np.sinh(np.linspace(-1, 1, 21)[1:-1] * np.arcsinh(8.0))))
    binned = np.searchsorted(edges, scores, side="right").astype(float)
    found = roc_variance(sums["positives"], sums["negatives"])
    assert found == pytest.approx(delong(binned, truth), rel=1e-12)
    fine = binary_sums(scores, truth)
    near = roc_variance(fine["positives"], fine["negatives"])
    assert near == pytest.approx(delong(scores, truth), rel=0.02)


def test_classes_that_are_parted_wholly_have_an_interval_all_the_same() -> None:
    sums = binary_sums([0.1, 0.2, 0.3, 0.8, 0.9], [0, 0, 0, 1, 1])
    low, high = roc_interval(sums["positives"], sums["negatives"], 1.0) or (0, 0)
    assert high == 1.0 and 0.3 < low < 0.7 and roc_variance(sums["positives"], sums["negatives"])
    low, high = newcombe(0.8, 30, 50)  # either end is an area whose own error reaches 0.8
    for end in (low, high):
        spread = 1 + 39 * ((1 - end) / (2 - end) + end / (1 + end))
        error = math.sqrt(end * (1 - end) * spread / 1500)
        assert abs(end - 0.8) == pytest.approx(Z * error, rel=1e-9)


# --- the bootstrap --------------------------------------------------------------------------------
ROWS, RESAMPLES = 300, 400


def two_classes(rng: np.random.Generator) -> Draw:
    logits = rng.normal(-0.5, 1.2, ROWS)
    truth = (rng.random(ROWS) < 1 / (1 + np.exp(-logits))).astype(int)
    scores = 1 / (1 + np.exp(-logits))

    def draw(rows: NDArray[np.int64]) -> tuple[Sums, dict[str, float]]:
        sums = binary_sums(scores[rows], truth[rows])
        return sums, binary_figures(sums)

    return draw


def three_classes(rng: np.random.Generator) -> Draw:
    logits = rng.normal(size=(ROWS, 3)) + [0.5, 0, -1]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in shares])

    def draw(rows: NDArray[np.int64]) -> tuple[Sums, dict[str, float]]:
        sums = multiclass_sums(shares[rows], truth[rows])
        return sums, multiclass_figures(sums)

    return draw


def numbers(rng: np.random.Generator) -> Draw:
    guess = rng.normal(50, 10, ROWS)
    truth = guess + rng.normal(1, 6, ROWS)

    def draw(rows: NDArray[np.int64]) -> tuple[Sums, dict[str, float]]:
        sums = regression_sums(guess[rows], truth[rows], 50.0)
        return sums, regression_figures(sums)

    return draw


def times(rng: np.random.Generator) -> Draw:
    risk = rng.normal(size=ROWS)
    time = rng.exponential(np.exp(-risk))
    event = (rng.random(ROWS) < 0.6).astype(int)

    def draw(rows: NDArray[np.int64]) -> tuple[Sums, dict[str, float]]:
        sums = survival_sums(np.round(risk[rows], 1), time[rows], event[rows])
        return sums, survival_figures(sums)

    return draw


@pytest.mark.parametrize(
    ("make", "loose"),
    [(two_classes, {"average_precision"}), (three_classes, {"auc", "brier"}), (numbers, set()),
     (times, set())],
)  # fmt: skip
def test_intervals_are_as_wide_as_the_bootstraps(
    make: Callable[[np.random.Generator], Draw], loose: set[str]
) -> None:
    """Within a quarter; ``loose`` ones are upper bounds, up to twice as wide."""
    rng = np.random.default_rng(7)
    draw = make(rng)
    sums, figures = draw(np.arange(ROWS))
    found = figure_intervals(figures, sums)
    samples = [draw(rng.integers(0, ROWS, ROWS))[1] for _ in range(RESAMPLES)]
    without = {"auc_error_bound", "average_precision_error_bound", "calibration_error"}
    assert set(found) == set(figures) - without - {"examples", "events"}
    for name, (low, high) in found.items():
        spread = 2 * Z * float(np.std([sample[name] for sample in samples]))
        assert low < figures[name] < high
        most = 2.0 if name in loose else 1.25
        assert 0.8 < (high - low) / spread < most, name


def test_a_c_index_of_two_times_is_an_area_with_delongs_variance() -> None:
    """Deaths at 1 and survivors at 2: the pairs of an ROC curve; the jackknife divides by the
    number of rows, DeLong by one less."""
    rng = np.random.default_rng(3)
    truth = (rng.random(60) < 0.4).astype(int)
    risk = rng.normal(size=60) + truth
    sums = survival_sums(risk, 2 - truth, truth)
    positives, negatives = risk[truth == 1], risk[truth == 0]
    won = (positives[:, None] > negatives).astype(float)
    parts = (won.mean(axis=1), won.mean(axis=0))
    expected = sum(part.var() / len(part) for part in parts)
    hits, both, pairs = sums["pair_squares"]
    index, total = won.mean(), sums["comparable"][0]
    variance = (hits - 2 * index * both + index**2 * pairs) / total**2
    assert variance == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=9))
def test_pairs_of_rows_are_those_of_counting_one_by_one(rows: list[tuple[int, int, bool]]) -> None:
    right, both = np.zeros(len(rows)), np.zeros(len(rows))
    for i, (risk, time, event) in enumerate(rows):
        for j, (other, later, seen) in enumerate(rows):
            if event and (time < later or (time == later and not seen)):
                won = 1.0 if risk > other else 0.5 if risk == other else 0.0
                right[[i, j]] += won
                both[[i, j]] += 1
    sums = survival_sums(*([one[k] for one in rows] for k in (0, 1, 2)))
    expected = [np.sum(right**2), np.sum(right * both), np.sum(both**2)]
    np.testing.assert_array_equal(sums["pair_squares"], expected)


# --- hospitals that differ ------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scores", "truth"), [([], []), ([0.4], [1]), ([0.2, 0.3], [0, 0]), ([0.5] * 3, [0, 1, 1])]
)
def test_few_rows_or_one_class_have_the_intervals_that_they_can_have(scores, truth) -> None:
    sums = binary_sums(scores, truth)
    figures = binary_figures(sums)
    found = figure_intervals(figures, sums)
    assert set(found) <= {name for name, value in figures.items() if not math.isnan(value)}
    assert ("auc" in found) == ("auc" in figure_variances(figures, sums)) == (len(set(truth)) == 2)
    for low, high in found.values():
        assert 0 <= low <= high <= 1


def test_rows_of_unknown_classes_alone_have_no_interval() -> None:
    """Under privacy a hospital's test rows may all be of classes that nobody agreed on."""
    sums = {name: value * 0 for name, value in multiclass_sums(np.eye(3), np.arange(3)).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert figure_intervals({"balanced_accuracy": 0.5, "macro_f1": 0.5, "auc": 0.5}, sums) == {}


def test_sums_add_and_rare_events_have_wide_intervals() -> None:
    rng = np.random.default_rng(0)
    shards = []
    for _ in range(3):
        truth = (rng.random(2000) < 0.002).astype(int)
        truth[0] = 1
        shards.append(binary_sums(np.clip(0.002 + 0.01 * truth * rng.random(2000), 0, 1), truth))
    sums = add_sums(shards)
    figures = binary_figures(sums)
    found = figure_intervals(figures, sums)
    assert found["sensitivity"][1] > 0.15 and found["accuracy"][1] - found["accuracy"][0] < 0.01
    alone = figure_variances(binary_figures(shards[0]), shards[0])["auc"]
    assert figure_variances(figures, sums)["auc"] < alone


def test_what_a_task_of_ones_own_calls_by_our_names_has_no_interval() -> None:
    sums = binary_sums([0.2, 0.9], [0, 1])
    assert figure_intervals({"accuracy": 7.0}, sums) == {}
    assert figure_intervals({"accuracy": 1.0}, {"confusion": np.ones(5)}) == {}
    assert figure_variances({}, {"positives": np.ones(3)}) == {}
