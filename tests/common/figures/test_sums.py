"""Metric sums: additive over shards, and their figures are scikit-learn's on the pooled rows.

The reference for survival is a plain loop over all pairs. Shapes: N rows, C classes, K bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from wardround.common.figures.sums import (
    add_sums,
    binary_figures,
    binary_sums,
    multiclass_figures,
    multiclass_sums,
    regression_figures,
    regression_sums,
)
from wardround.common.figures.survival import survival_figures, survival_sums

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
modest = settings(deadline=None, max_examples=60)

Shapes = dict[str, tuple[int, ...]]

BINARY_SHAPES: Shapes = {
    "confusion": (2, 2),
    "positives": (1000,),
    "negatives": (1000,),
    "calibration": (10,),
    "squared_error": (1,),
    "examples": (1,),
}
MULTICLASS_SHAPES: Shapes = {
    "confusion": (3, 3),
    "positives": (3, 1000),
    "negatives": (3, 1000),
    "squared_error": (1,),
    "examples": (1,),
}
REGRESSION_SHAPES: Shapes = {
    "examples": (1,),
    "residual_sum": (1,),
    "absolute_error": (1,),
    "squared_error": (1,),
    "target_sum": (1,),
    "target_square_sum": (1,),
}
SURVIVAL_SHAPES: Shapes = {
    "concordant": (1,),
    "tied": (1,),
    "comparable": (1,),
    "examples": (1,),
    "events": (1,),
}


def zeros(shapes: Shapes) -> dict[str, Floats]:
    return {name: np.zeros(shape) for name, shape in shapes.items()}


# --- samples --------------------------------------------------------------------------------------
@st.composite
def binary_samples(draw: st.DrawFn, least: int = 0) -> tuple[Floats, Ints]:
    """Scores that are spread, few, or on bin edges and at the threshold; maybe of one class."""
    rows = draw(st.integers(least, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["spread", "few", "edges"]))
    if kind == "spread":
        scores = rng.random(rows)
    elif kind == "few":
        scores = rng.choice(rng.random(4), rows)
    else:
        scores = rng.integers(0, 11, rows) / 10
    return scores, (rng.random(rows) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))).astype(np.int64)


@st.composite
def multiclass_samples(draw: st.DrawFn) -> tuple[Floats, Ints]:
    """Probabilities of 2 to 5 classes; some classes may never occur or never be predicted."""
    rows, classes = draw(st.integers(1, 60)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.dirichlet(np.full(classes, draw(st.sampled_from([0.3, 3.0]))), rows)
    return scores, rng.integers(0, draw(st.integers(1, classes)), rows)


@st.composite
def survival_samples(draw: st.DrawFn) -> tuple[Floats, Floats, Ints]:
    """Times and risks with many ties, few or none; censoring from none to all."""
    rows = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    risks = rng.integers(-2, draw(st.sampled_from([-1, 1, 10**6])), rows).astype(np.float64)
    times = rng.integers(0, draw(st.sampled_from([1, 4, 10**6])), rows).astype(np.float64) / 4
    events = rng.random(rows) < draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]))
    return risks, times, events.astype(np.int64)


def shards(rows: int, seed: int) -> list[Ints]:
    """Any split of the rows into 1 to 6 parts, some perhaps empty, in no order."""
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, rng.integers(1, 7), rows)
    return [rng.permutation(np.flatnonzero(owner == part)) for part in range(6)]


def assert_additive(
    sums_of: Callable[[Ints], Mapping[str, Floats]], rows: int, seed: int, exact: set[str]
) -> None:
    whole = sums_of(np.arange(rows))
    total = add_sums(sums_of(part) for part in shards(rows, seed))
    assert total.keys() == whole.keys()
    for name, value in whole.items():
        assert isinstance(total[name], np.ndarray) and total[name].dtype == np.float64
        assert total[name].shape == value.shape
        if name in exact:
            np.testing.assert_array_equal(total[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(total[name], value, rtol=1e-9, atol=1e-9, err_msg=name)


# --- additivity -----------------------------------------------------------------------------------
@modest
@given(binary_samples(), st.integers(0, 2**32 - 1))
def test_binary_sums_of_shards_add_up_to_those_of_all_rows(
    sample: tuple[Floats, Ints], seed: int
) -> None:
    scores, targets = sample
    counts = {"confusion", "positives", "negatives", "examples"}
    assert_additive(
        lambda part: binary_sums(scores[part], targets[part]), len(scores), seed, counts
    )


@modest
@given(multiclass_samples(), st.integers(0, 2**32 - 1))
def test_multiclass_sums_of_shards_add_up_to_those_of_all_rows(
    sample: tuple[Floats, Ints], seed: int
) -> None:
    scores, targets = sample
    counts = {"confusion", "positives", "negatives", "examples"}
    assert_additive(
        lambda part: multiclass_sums(scores[part], targets[part]), len(scores), seed, counts
    )


@modest
@given(st.integers(0, 80), st.integers(0, 2**32 - 1))
def test_regression_sums_of_shards_add_up_to_those_of_all_rows(rows: int, seed: int) -> None:
    targets, guesses = np.random.default_rng(seed).normal(3, 10, (2, rows))
    assert_additive(
        lambda part: regression_sums(guesses[part], targets[part]), rows, seed, {"examples"}
    )


def test_add_sums_counts_a_missing_key_as_zero_and_leaves_its_parts_alone() -> None:
    first = {"a": np.array([1.0, 2.0]), "lone": np.array(1.0)}
    total = add_sums([first, {"lone": np.array(2.0), "b": np.array([5.0])}, {"a": np.ones(2)}])
    np.testing.assert_array_equal(total["a"], [2.0, 3.0])
    np.testing.assert_array_equal(total["b"], [5.0])
    assert total["lone"].shape == () and total["lone"] == 3.0
    assert all(isinstance(value, np.ndarray) for value in total.values())
    np.testing.assert_array_equal(first["a"], [1.0, 2.0])
    assert add_sums([]) == {}


def test_add_sums_names_key_and_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"'hist'.*\(1, 3\).*\(3,\)"):
        add_sums([{"hist": np.zeros(3)}, {"hist": np.zeros((1, 3))}])


# --- two classes ----------------------------------------------------------------------------------
@modest
@given(binary_samples(least=1))
def test_binary_figures_are_those_of_scikit_learn(sample: tuple[Floats, Ints]) -> None:
    scores, targets = sample
    predicted = (scores >= 0.5).astype(np.int64)
    figures = binary_figures(binary_sums(scores, targets))
    nan = {"zero_division": np.nan}
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted),
        "sensitivity": reference.recall_score(targets, predicted, **nan),
        "specificity": reference.recall_score(targets, predicted, pos_label=0, **nan),
        "precision": reference.precision_score(targets, predicted, **nan),
        "f1": reference.f1_score(targets, predicted, **nan),
        "brier": np.mean((scores - targets) ** 2),
        "prevalence": targets.mean(),
        "examples": len(targets),
        "balanced_accuracy": math.nan,
    }
    if 0 < targets.mean() < 1:
        expected["balanced_accuracy"] = reference.balanced_accuracy_score(targets, predicted)
        expected["brier"] = reference.brier_score_loss(targets, scores)
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-12, abs=1e-12, nan_ok=True), name


@modest
@given(binary_samples(least=2), st.sampled_from([1, 3, 10, 50, 1000]))
def test_areas_are_within_their_stated_bounds(sample: tuple[Floats, Ints], bins: int) -> None:
    scores, targets = sample
    figures = binary_figures(binary_sums(scores, targets, bins))
    if targets.any():
        error = abs(
            figures["average_precision"] - reference.average_precision_score(targets, scores)
        )
        assert error <= figures["average_precision_error_bound"] + 1e-12
    if 0 < targets.mean() < 1:
        error = abs(figures["auc"] - reference.roc_auc_score(targets, scores))
        assert error <= figures["auc_error_bound"] + 1e-12


def test_the_auc_bound_is_reached_and_no_larger_than_stated() -> None:
    # One bin: 2 * 2 pairs, all counted one half, while the exact area is 1.
    figures = binary_figures(binary_sums([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1], bins=1))
    assert (figures["auc"], figures["auc_error_bound"]) == (0.5, 0.5)
    # Two bins, worked by hand: bin 0 has 2 of 3 negatives and 1 of 2 positives, bin 1 the rest.
    figures = binary_figures(binary_sums([0.1, 0.2, 0.3, 0.6, 0.7], [0, 0, 1, 1, 0], bins=2))
    assert figures["auc"] == pytest.approx((2 + 0.5 * 2 + 0.5 * 1) / 6, rel=1e-15)
    assert figures["auc_error_bound"] == pytest.approx(0.5 * (2 + 1) / 6, rel=1e-15)


def test_the_average_precision_bound_is_reached_from_either_side() -> None:
    # One bin, positives in front: the bin says 2/4, the exact figure is 1.
    figures = binary_figures(binary_sums([0.1, 0.2, 0.4, 0.4], [0, 0, 1, 1], bins=1))
    assert (figures["average_precision"], figures["average_precision_error_bound"]) == (0.5, 0.5)
    # A negative in front, then two positives in one bin: 2/3 instead of (1/2 + 2/3) / 2.
    figures = binary_figures(binary_sums([0.1, 0.2, 0.9], [1, 1, 0], bins=2))
    assert figures["average_precision"] == pytest.approx(2 / 3, rel=1e-15)
    assert figures["average_precision_error_bound"] == pytest.approx(1 / 12, rel=1e-14)


@modest
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_areas_are_exact_when_scores_sit_on_distinct_bins(rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = 0.0925 * (rng.permutation(340)[:rows] - 170)  # no two in a bin: the widest is .09
    scores = 1 / (1 + np.exp(-logits))
    targets = rng.permutation(np.arange(rows) % 2)
    figures = binary_figures(binary_sums(scores, targets))
    assert figures["auc_error_bound"] == 0
    assert figures["average_precision_error_bound"] == 0
    assert figures["auc"] == pytest.approx(reference.roc_auc_score(targets, scores), rel=1e-13)
    exact = reference.average_precision_score(targets, scores)
    assert figures["average_precision"] == pytest.approx(exact, rel=1e-13)


def scores_of(prevalence: float, rows: int, seed: int, steepness: float = 1.0) -> tuple[Any, Any]:
    """Well-ordered scores of a rare outcome; steepness is that of an overconfident network."""
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 1.2, rows)
    logits = risk + np.log(prevalence / (1 - prevalence)) - 0.72  # exp(N(0, 1.2)) has mean exp(.72)
    targets = (rng.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    scale = steepness * (logits + 6) - (6 if steepness == 1 else 0)
    return 1 / (1 + np.exp(-scale)), targets


@pytest.mark.parametrize(
    ("prevalence", "steepness"), [(1 / 500, 1.0), (1 / 5000, 1.0), (1 / 500, 6.0), (0.3, 1.0)]
)
def test_the_area_is_scikit_learns_at_any_prevalence(prevalence: float, steepness: float) -> None:
    scores, targets = scores_of(prevalence, 200_000, 1, steepness)
    figures = binary_figures(binary_sums(scores, targets))
    exact = reference.roc_auc_score(targets, scores)
    assert figures["auc_error_bound"] < 0.005
    assert figures["auc"] == pytest.approx(exact, abs=0.001)
    exact = reference.average_precision_score(targets, scores)
    bound = figures["average_precision_error_bound"]
    assert abs(figures["average_precision"] - exact) <= bound
    uniform = np.minimum((scores * 1000).astype(np.int64), 999)  # what bins of equal width leave
    exact = reference.roc_auc_score(targets, scores)
    rough = abs(reference.roc_auc_score(targets, uniform) - exact)
    assert abs(figures["auc"] - exact) < rough / 10 or prevalence > 0.1


@modest
@given(binary_samples(least=1))
def test_calibration_error_is_the_weighted_gap_of_ten_groups(sample: tuple[Floats, Ints]) -> None:
    scores, targets = sample
    group = np.minimum((scores * 10).astype(np.int64), 9)
    error = 0.0
    for index in np.unique(group):
        inside = group == index
        error += inside.mean() * abs(scores[inside].mean() - targets[inside].mean())
    figures = binary_figures(binary_sums(scores, targets))
    assert figures["calibration_error"] == pytest.approx(error, abs=1e-12)


def test_calibration_error_with_a_known_gap_and_few_bins() -> None:
    # Both rows say 0.9 and one is positive: |0.9 - 0.5|, in any number of groups.
    for bins in (1, 3, 7, 10, 15, 1000):
        figures = binary_figures(binary_sums([0.9, 0.9], [1, 0], bins))
        assert figures["calibration_error"] == pytest.approx(0.4, abs=1e-12)


def test_scores_at_the_edges_stay_in_range_and_the_threshold_is_inclusive() -> None:
    sums = binary_sums([-1e-7, 0.0, 0.5, 1.0, 1 + 1e-7], [0, 0, 0, 1, 1], bins=4)
    np.testing.assert_array_equal(sums["negatives"], [2, 0, 1, 0])
    np.testing.assert_array_equal(sums["positives"], [0, 0, 0, 2])
    np.testing.assert_array_equal(sums["confusion"], [[2, 1], [0, 2]])
    np.testing.assert_array_equal(sums["calibration"], [0, 0, 0, 0, 0, 0.5, 0, 0, 0, 0])


@modest
@given(st.integers(1, 5000), st.floats(0, 1))
def test_a_bin_never_decreases_with_the_score(bins: int, score: float) -> None:
    pair = [np.nextafter(score, 0), score]
    sums = binary_sums(pair, [0, 1], bins)
    assert np.argmax(sums["negatives"]) <= np.argmax(sums["positives"])


def test_single_precision_and_boolean_input_is_taken() -> None:
    scores = np.array([0.25, 0.75], dtype=np.float32)
    figures = binary_figures(binary_sums(scores, np.array([False, True])))
    assert figures["auc"] == figures["accuracy"] == 1.0


def test_one_class_leaves_only_its_own_figures() -> None:
    figures = binary_figures(binary_sums([0.2, 0.7], [1, 1]))
    undefined = {name for name, value in figures.items() if math.isnan(value)}
    assert undefined == {"auc", "auc_error_bound", "balanced_accuracy", "specificity"}
    assert figures["sensitivity"] == 0.5 and figures["average_precision"] == 1.0
    figures = binary_figures(binary_sums([0.2, 0.3], [0, 0]))
    undefined = {name for name, value in figures.items() if math.isnan(value)}
    assert undefined == {
        *("auc", "auc_error_bound", "balanced_accuracy", "sensitivity", "precision", "f1"),
        *("average_precision", "average_precision_error_bound"),
    }


# --- several classes ------------------------------------------------------------------------------
@modest
@given(multiclass_samples())
def test_multiclass_figures_are_those_of_scikit_learn(sample: tuple[Floats, Ints]) -> None:
    scores, targets = sample
    predicted = scores.argmax(axis=1)
    figures = multiclass_figures(multiclass_sums(scores, targets))
    present = np.unique(targets)
    one_hot = np.eye(scores.shape[1])[targets]
    expected = {
        "accuracy": reference.accuracy_score(targets, predicted),
        # balanced_accuracy_score by its own definition: itself warns of absent classes.
        "balanced_accuracy": reference.recall_score(
            targets, predicted, labels=present, average="macro"
        ),
        "macro_f1": reference.f1_score(targets, predicted, average="macro"),
        "brier": np.sum((scores - one_hot) ** 2) / len(targets),
        "examples": len(targets),
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-12, abs=1e-12), name


@modest
@given(multiclass_samples(), st.sampled_from([1, 5, 1000]))
def test_multiclass_auc_is_the_mean_of_the_classes_with_two_sides(
    sample: tuple[Floats, Ints], bins: int
) -> None:
    scores, targets = sample
    figures = multiclass_figures(multiclass_sums(scores, targets, bins))
    present = np.unique(targets)
    if len(present) < 2:
        assert math.isnan(figures["auc"]) and math.isnan(figures["auc_error_bound"])
        return
    areas = [reference.roc_auc_score(targets == c, scores[:, c]) for c in present]
    assert abs(figures["auc"] - np.mean(areas)) <= figures["auc_error_bound"] + 1e-12
    parts = [binary_figures(binary_sums(scores[:, c], targets == c, bins)) for c in present]
    for name in ("auc", "auc_error_bound"):
        assert figures[name] == pytest.approx(np.mean([part[name] for part in parts]), abs=1e-12)


def test_two_classes_agree_with_the_binary_figures() -> None:
    rng = np.random.default_rng(3)
    scores, targets = rng.random(200), rng.integers(0, 2, 200)
    both = multiclass_figures(multiclass_sums(np.stack([1 - scores, scores], 1), targets))
    one = binary_figures(binary_sums(scores, targets))
    for name in ("accuracy", "balanced_accuracy"):
        assert both[name] == pytest.approx(one[name], abs=1e-12)
    assert both["brier"] == pytest.approx(2 * one["brier"], abs=1e-12)


# --- regression -----------------------------------------------------------------------------------
@modest
@given(st.integers(2, 200), st.sampled_from([0.0, 10.0, -1e3]), st.integers(0, 2**32 - 1))
def test_regression_figures_are_those_of_scikit_learn(rows: int, mean: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = mean + rng.permutation(np.linspace(-1, 1, rows))
    guesses = targets + rng.normal(0.1, 0.5, rows)
    figures = regression_figures(
        add_sums(regression_sums(guesses[part], targets[part]) for part in shards(rows, seed))
    )
    expected = {
        "rmse": reference.root_mean_squared_error(targets, guesses),
        "mae": reference.mean_absolute_error(targets, guesses),
        "bias": np.mean(guesses - targets),
        "examples": rows,
    }
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=1e-9, abs=1e-12), name
    # The stated loss: a few eps * (mean^2 + variance) / variance of 1 - r2.
    loss = 50 * 2.3e-16 * (mean**2 + targets.var()) / targets.var()
    exact = reference.r2_score(targets, guesses)
    assert abs(figures["r2"] - exact) <= (loss + 1e-12) * (1 - exact) + 1e-12


def test_a_shared_shift_saves_r2_from_cancellation() -> None:
    rng = np.random.default_rng(5)
    targets = 1e7 + rng.normal(0, 1, 500)
    guesses = targets + rng.normal(0, 0.5, 500)
    assert math.isnan(regression_figures(regression_sums(guesses, targets))["r2"])
    parts = [regression_sums(guesses[i::3], targets[i::3], target_shift=1e7) for i in range(3)]
    figures = regression_figures(add_sums(parts))
    assert figures["r2"] == pytest.approx(reference.r2_score(targets, guesses), rel=1e-9)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean((guesses - targets) ** 2)), rel=1e-12)


@pytest.mark.parametrize("targets", [[0.1] * 10, [0.0, 0.0], [7.0]])
def test_r2_of_constant_targets_is_undefined(targets: list[float]) -> None:
    figures = regression_figures(regression_sums(np.zeros(len(targets)), targets))
    assert math.isnan(figures["r2"])
    assert figures["mae"] == pytest.approx(targets[0]) and figures["bias"] == -figures["mae"]


# --- survival -------------------------------------------------------------------------------------
def pairs_by_loop(risk: Floats, time: Floats, event: Ints) -> tuple[int, int, int]:
    """Concordant, tied and comparable pairs, pair by pair from the definition."""
    concordant = tied = comparable = 0
    for i in range(len(risk)):
        for j in range(i + 1, len(risk)):
            if time[i] == time[j]:
                if event[i] == event[j]:
                    continue
                first, other = (i, j) if event[i] else (j, i)
            else:
                first, other = (i, j) if time[i] < time[j] else (j, i)
                if not event[first]:
                    continue
            comparable += 1
            concordant += int(risk[first] > risk[other])
            tied += int(risk[first] == risk[other])
    return concordant, tied, comparable


def survival_counts(sums: Mapping[str, Floats]) -> tuple[float, ...]:
    return tuple(float(sums[name][0]) for name in ("concordant", "tied", "comparable"))


@settings(deadline=None, max_examples=200)
@given(survival_samples())
def test_survival_counts_equal_a_loop_over_all_pairs(sample: tuple[Floats, Floats, Ints]) -> None:
    sums = survival_sums(*sample)
    assert survival_counts(sums) == pairs_by_loop(*sample)
    assert sums["examples"][0] == len(sample[0]) and sums["events"][0] == sample[2].sum()


def test_survival_counts_of_a_larger_shard_equal_the_loop() -> None:
    rng = np.random.default_rng(8)
    risk, time = rng.integers(0, 50, 600) / 7, rng.integers(0, 60, 600) / 3
    event = rng.integers(0, 2, 600)
    assert survival_counts(survival_sums(risk, time, event)) == pairs_by_loop(risk, time, event)


@pytest.mark.parametrize(
    ("risk", "time", "event", "counts"),
    [
        ([2, 1], [1, 2], [1, 1], (1, 0, 1)),  # sooner and riskier
        ([1, 2], [1, 2], [1, 1], (0, 0, 1)),
        ([1, 1], [1, 2], [1, 0], (0, 1, 1)),  # tied risk
        ([2, 1], [1, 2], [0, 1], (0, 0, 0)),  # the sooner was censored
        ([2, 1], [1, 1], [1, 1], (0, 0, 0)),  # two events at once
        ([2, 1], [1, 1], [1, 0], (1, 0, 1)),  # the event counts as first
        ([2, 1], [1, 1], [0, 1], (0, 0, 1)),
        ([2, 1], [1, 1], [0, 0], (0, 0, 0)),
        ([-0.0, 0.0], [1, 2], [1, 1], (0, 1, 1)),
    ],
)
def test_survival_convention(
    risk: list[float], time: list[float], event: list[int], counts: tuple[int, int, int]
) -> None:
    assert survival_counts(survival_sums(risk, time, event)) == counts


@modest
@given(survival_samples(), st.integers(0, 2**32 - 1))
def test_c_index_over_hospitals_is_weighted_by_their_comparable_pairs(
    sample: tuple[Floats, Floats, Ints], seed: int
) -> None:
    risk, time, event = sample
    counts = np.zeros(3)
    parts = []
    for part in shards(len(risk), seed):
        parts.append(survival_sums(risk[part], time[part], event[part]))
        counts += pairs_by_loop(risk[part], time[part], event[part])
    figures = survival_figures(add_sums(parts))
    assert figures["examples"] == len(risk) and figures["events"] == event.sum()
    if counts[2]:
        stratified = (counts[0] + counts[1] / 2) / counts[2]
        assert figures["c_index"] == pytest.approx(stratified, rel=1e-15)
    else:
        assert math.isnan(figures["c_index"])


def test_c_index_of_a_large_shard_needs_no_square_of_memory_or_time() -> None:
    rows = 200_000
    time = np.arange(rows, dtype=np.float64)
    figures = survival_figures(survival_sums(-time, time, np.ones(rows)))
    assert figures["c_index"] == 1.0
    sums = survival_sums(time, time, np.ones(rows))
    assert survival_counts(sums) == (0, 0, rows * (rows - 1) // 2)


# --- empty, refused, hostile ----------------------------------------------------------------------
EMPTY_SHARDS: list[tuple[Mapping[str, Floats], Shapes]] = [
    (binary_sums([], []), BINARY_SHAPES),
    (multiclass_sums(np.zeros((0, 3)), []), MULTICLASS_SHAPES),
    (regression_sums([], []), REGRESSION_SHAPES),
    (survival_sums([], [], []), SURVIVAL_SHAPES | {"pair_squares": (3,)}),
]
FIGURES: list[tuple[Callable[..., dict[str, float]], Shapes]] = [
    (binary_figures, BINARY_SHAPES),
    (multiclass_figures, MULTICLASS_SHAPES),
    (regression_figures, REGRESSION_SHAPES),
    (survival_figures, SURVIVAL_SHAPES),
]


@pytest.mark.parametrize(("sums", "shapes"), EMPTY_SHARDS)
def test_an_empty_shard_has_zeros_of_the_usual_shapes(
    sums: Mapping[str, Floats], shapes: Shapes
) -> None:
    assert {name: value.shape for name, value in sums.items()} == shapes
    assert all(value.dtype == np.float64 and not value.any() for value in sums.values())


@pytest.mark.parametrize(("figures_of", "shapes"), FIGURES)
def test_figures_of_zeros_are_nan(
    figures_of: Callable[..., dict[str, float]], shapes: Shapes
) -> None:
    figures = figures_of(zeros(shapes))
    for name, value in figures.items():
        assert type(value) is float
        assert value == 0 if name in ("examples", "events") else math.isnan(value), name


@pytest.mark.parametrize(("figures_of", "shapes"), FIGURES)
@pytest.mark.parametrize("value", [-1.0, 1e-300, 1e308, -1e308])
def test_figures_survive_absurd_sums(
    figures_of: Callable[..., dict[str, float]], shapes: Shapes, value: float
) -> None:
    sums = {name: np.full(shape, value) for name, shape in shapes.items()}
    assert all(type(figure) is float for figure in figures_of(sums).values())


@pytest.mark.parametrize(("figures_of", "shapes"), FIGURES)
def test_figures_ignore_other_keys_and_refuse_what_does_not_fit(
    figures_of: Callable[..., dict[str, float]], shapes: Shapes
) -> None:
    figures_of({**zeros(shapes), "loss": np.zeros(1)})
    for name, shape in shapes.items():
        sums: dict[str, NDArray[Any]] = dict(zeros(shapes))
        del sums[name]
        with pytest.raises(ValueError, match=name):
            figures_of(sums)
        for wrong in (
            np.zeros((*shape, 1)),
            np.zeros(()),
            np.zeros((0,) * len(shape)),
            np.full(shape, np.nan),
            np.full(shape, np.inf),
            np.full(shape, "1"),
            np.full(shape, 1j),
        ):
            with pytest.raises(ValueError, match="sum '"):
                figures_of({**zeros(shapes), name: wrong})
    for name in ("confusion", "negatives", "calibration"):
        if name in shapes:
            larger = np.zeros([side + 1 for side in shapes[name]])
            with pytest.raises(ValueError, match="found shape"):
                figures_of({**zeros(shapes), name: larger})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_sums([0.5, np.nan], [0, 1]), "probabilities: found 1 of 2"),
        (lambda: binary_sums([0.5, np.inf], [0, 1]), "probabilities: found 1 of 2"),
        (lambda: binary_sums([0.5, 1.0001], [0, 1]), "probabilities: found 1 of 2"),
        (lambda: binary_sums([-0.0001, 0.5], [0, 1]), "probabilities: found 1 of 2"),
        (lambda: binary_sums([0.5], [0, 1]), "targets: found 2 rows, expected 1"),
        (lambda: binary_sums([[0.5]], [0]), r"probabilities: found shape \(1, 1\)"),
        (lambda: binary_sums([0.5], [[0]]), r"targets: found shape \(1, 1\)"),
        (lambda: binary_sums([0.5, 0.5], [0, 2]), "targets: found 1 of 2.*from 0 to 1"),
        (lambda: binary_sums([0.5, 0.5], [0, -1]), "targets: found 1 of 2"),
        (lambda: binary_sums([0.5, 0.5], [0, 0.5]), "targets: found 1 of 2"),
        (lambda: binary_sums([0.5, 0.5], [0, np.nan]), "targets: found 1 of 2"),
        (lambda: binary_sums(["0.5"], [0]), "probabilities: found dtype"),
        (lambda: binary_sums([0.5], [0], bins=0), "bins: found 0, expected at least 1"),
        (lambda: multiclass_sums([0.5], [0]), r"probabilities: found shape \(1,\)"),
        (lambda: multiclass_sums([[1.0]], [0]), r"found 1 class\(es\), expected at least 2"),
        (lambda: multiclass_sums([[0.5, 0.5]], [2]), "targets: found 1 of 1.*from 0 to 1"),
        (lambda: multiclass_sums([[0.5, 1.5]], [0]), "probabilities: found 1 of 2"),
        (lambda: multiclass_sums([[0.5, 0.5]], [0, 1]), "targets: found 2 rows, expected 1"),
        (lambda: multiclass_sums([[0.5, 0.5]], [0], bins=-1), "bins: found -1"),
        (lambda: regression_sums([1.0, np.nan], [1, 2]), "predictions: found 1 of 2"),
        (lambda: regression_sums([1.0], [1e101]), "targets: found 1 of 1"),
        (lambda: regression_sums([1.0], [1.0, 2.0]), "targets: found 2 rows, expected 1"),
        (lambda: regression_sums([1.0], [1.0], target_shift=math.nan), "target_shift"),
        (lambda: survival_sums([np.nan], [1], [1]), "risk: found 1 of 1"),
        (lambda: survival_sums([1.0], [-1], [1]), "time: found 1 of 1"),
        (lambda: survival_sums([1.0], [np.inf], [1]), "time: found 1 of 1"),
        (lambda: survival_sums([1.0], [1], [2]), "event: found 1 of 1"),
        (lambda: survival_sums([1.0], [1, 2], [1]), "time: found 2 rows, expected 1"),
        (lambda: survival_sums([1.0], [1], [1, 0]), "event: found 2 rows, expected 1"),
    ],
)
def test_wrong_input_is_refused_with_found_and_expected(
    call: Callable[[], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_refusal_never_shows_a_value_of_a_row() -> None:
    with pytest.raises(ValueError) as refused:
        binary_sums([0.5, 7.654321], [0, 1])
    assert "7.65" not in str(refused.value)
