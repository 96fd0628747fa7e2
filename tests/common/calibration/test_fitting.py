"""Corrections against scikit-learn, scipy and closed forms; shards that differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, log_softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LinearRegression, LogisticRegression

from wardround.common.calibration import isotonic
from wardround.common.calibration.compared import figures, gain
from wardround.common.calibration.correction import Correction
from wardround.common.calibration.families import FAMILIES, logit
from wardround.common.calibration.fitting import Rows, check_enough, fit, methods, parts_of, tried
from wardround.common.calibration.newton import MOST_STEPS, Pull, course
from wardround.common.errors import CalibrationRefused, DataError
from wardround.common.figures.sums import Sums, add_sums


def binary(rows: int, seed: int, intercept: float = -1.0, slope: float = 0.6) -> Rows:
    """A model that is overconfident and says too much: its logits, and what happened."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, rows)
    truth = (generator.random(rows) < expit(intercept + slope * scores)).astype(float)
    return Rows("binary", scores, truth, np.arange(rows))


def several(rows: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 2, (rows, 3))
    chances = np.exp(log_softmax(0.5 * scores, axis=1))
    truth = (generator.random(rows)[:, None] > np.cumsum(chances, axis=1)).sum(axis=1)
    return Rows("multiclass", log_softmax(scores, axis=1), truth.astype(float), np.arange(rows))


def survival(rows: int, seed: int) -> Rows:
    generator = np.random.default_rng(seed)
    risk = generator.normal(0, 1, rows)
    time = np.ceil(generator.exponential(5 * np.exp(-0.4 * risk)))  # with ties
    event = (generator.random(rows) < 0.6).astype(float)
    return Rows("survival", risk, np.column_stack([time, event]), np.arange(rows))


def added(rows: Rows, method: str, parts: int, pull: Pull | None = None) -> tuple[float, ...]:
    """The numbers from sums of so many hospitals, of which one has one row and one has none."""
    family = FAMILIES[method]
    ends = [1, 1, *np.linspace(1, len(rows), parts).astype(int)[1:]]
    pieces = np.split(np.arange(len(rows)), ends[:-1])
    steps: list[Sums] = []
    found = course(steps, pull or family.pull)
    while not found.done:
        assert len(steps) < MOST_STEPS
        shards = [rows.select(one).sums(family, found.at) for one in pieces]
        steps.append(add_sums(shards))
        found = course(steps, pull or family.pull)
    return found.at


def test_sums_of_hospitals_give_what_scikit_learn_has_of_all_rows() -> None:
    rows = binary(700, 1)
    at = added(rows, "logistic", 5, Pull((0.0, 1.0), (0.0, 0.0)))
    peer = LogisticRegression(C=np.inf, tol=1e-10).fit(rows.values[:, None], rows.targets)
    assert at == pytest.approx((peer.intercept_[0], peer.coef_[0, 0]), abs=1e-6)


def test_the_pull_is_the_normal_prior_that_is_stated() -> None:
    rows = binary(40, 2)

    def posterior(x: np.ndarray) -> float:
        score = x[0] + x[1] * rows.values
        loss = np.sum(np.logaddexp(0, score) - rows.targets * score)
        return float(loss + x[0] ** 2 / 2 + (x[1] - 1) ** 2 / (2 * 0.25**2))

    peer = minimize(posterior, [0.0, 1.0], tol=1e-12).x
    assert added(rows, "logistic", 4) == pytest.approx(peer, abs=1e-5)


def test_a_temperature_is_what_scipy_finds() -> None:
    rows = several(300, 3)

    def posterior(b: np.ndarray) -> float:
        said = log_softmax(b * rows.values, axis=1)
        own = said[np.arange(len(rows)), rows.targets.astype(int)]
        return float(-own.sum() + (b[0] - 1) ** 2 / (2 * 0.25**2))

    peer = minimize(posterior, [1.0], tol=1e-12).x
    assert added(rows, "temperature", 3) == pytest.approx(peer, abs=1e-5)


def test_a_slope_of_the_risk_is_lifelines_of_strata() -> None:
    """Without the pull; Breslow's ties, which lifelines hasn't, by the formula on a small set."""
    rows = survival(60, 4)

    def negative(b: np.ndarray, part: Rows) -> float:
        time, event = part.targets.T
        risk = b[0] * part.values
        terms = [
            np.log(np.exp(risk[time >= time[i]]).sum()) - risk[i] for i in np.flatnonzero(event)
        ]
        return float(sum(terms))

    halves = [rows.select(np.arange(0, 20)), rows.select(np.arange(20, 60))]
    peer = minimize(lambda b: sum(negative(b, one) for one in halves), [1.0], tol=1e-12).x
    steps: list[Sums] = []
    pull = Pull((1.0,), (0.0,))
    while not (found := course(steps, pull)).done:
        steps.append(add_sums([one.sums(FAMILIES["slope"], found.at) for one in halves]))
    assert found.at == pytest.approx(peer, abs=1e-5)


def test_a_line_is_least_squares_and_in_the_targets_unit() -> None:
    generator = np.random.default_rng(5)
    said = generator.normal(50, 8, 4000)
    truth = 10 + 0.7 * said + generator.normal(0, 3, 4000)
    rows = Rows.of("regression", {"prediction": said}, truth, np.arange(4000), (48.0, 9.0))
    found = fit(rows, "linear")
    peer = LinearRegression().fit(said[:, None], truth)
    assert found.slope == pytest.approx(peer.coef_[0], abs=2e-3)  # the pull weighs four rows
    moved = found.apply({"prediction": said})["prediction"]
    assert moved == pytest.approx(peer.predict(said[:, None]), abs=0.05)


def test_a_curve_is_scikit_learns() -> None:
    rows = binary(1500, 6)
    rounded = np.round(rows.values / isotonic.STEP) * isotonic.STEP
    peer = IsotonicRegression(out_of_bounds="clip").fit(rounded, rows.targets)
    least = 0.5 / len(rows)
    places = np.linspace(-9, 9, 400)
    kept = np.clip(peer.y_thresholds_, least, 1 - least)
    expected = np.interp(places, peer.X_thresholds_, kept)
    found = Correction("binary", "isotonic", knots=isotonic.fit(rows.values, rows.targets))
    said = found.apply({"probability": expit(places)})["probability"]
    assert said == pytest.approx(expected, abs=2e-6)


@given(st.integers(0, 10**6), st.integers(1, 200), st.floats(-4, 4), st.floats(0.01, 10))
@settings(max_examples=40, deadline=None)
def test_every_shard_has_a_minimum_and_the_steps_find_it(
    seed: int, size: int, shift: float, scale: float
) -> None:
    """Scores in any unit, one class, one row: the gradient with the pull is 0 there."""
    generator = np.random.default_rng(seed)
    scores = np.clip(generator.normal(shift, scale, size), -16, 16)
    truth = (generator.random(size) < generator.choice([0.0, 0.002, 0.5, 1.0])).astype(float)
    rows = Rows("binary", scores, truth, np.arange(size))
    for method in ("logistic", "intercept"):
        family = FAMILIES[method]
        at = added(rows, method, 1)
        sums = rows.sums(family, at)
        pull = family.pull
        pulled = np.array(pull.precision) * (np.array(at) - np.array(pull.centre))
        assert sums["gradient"] + pulled == pytest.approx(np.zeros(len(at)), abs=1e-4)


def test_few_rows_and_one_class_are_said() -> None:
    with pytest.raises(DataError, match="1 patients .* are too few .* at least 10"):
        check_enough(binary(1, 7))
    one = binary(33, 8)
    none = Rows("binary", one.values, np.zeros(33), one.groups)
    assert methods(none) == ["intercept"] and methods(one) == ["logistic"]
    found = fit(none, "intercept")
    assert found.slope == 1.0 and -4 < found.intercept < -1  # as far as the pull lets it
    with pytest.raises(DataError, match="0 events are too few"):
        check_enough(Rows("survival", one.values, np.ones((33, 2)) * [1, 0], one.groups))
    assert methods(binary(1500, 9)) == ["logistic", "isotonic"]


def test_a_model_that_ranks_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(CalibrationRefused, match="ranks these rows the wrong way round"):
        fit(binary(500, 10, slope=-0.8), "logistic")


def test_rows_are_tried_on_what_other_patients_give() -> None:
    """Patient by patient: a patient's rows are in one part, and the value of a row doesn't follow
    its own outcome."""
    rows = binary(120, 11)
    groups = np.repeat(np.arange(40), 3)
    rows = Rows("binary", rows.values, rows.targets, groups)
    part = parts_of(groups)
    assert all(len(set(part[groups == one])) == 1 for one in range(40)) and len(set(part)) == 10
    other = rows.targets.copy()
    other[part == 0] = 1 - other[part == 0]
    before, after = (
        tried(rows, "logistic"),
        tried(Rows("binary", rows.values, other, groups), "logistic"),
    )
    assert np.array_equal(before[part == 0], after[part == 0])
    assert not np.array_equal(before[part == 1], after[part == 1])


def test_figures_get_better_on_unused_rows_and_the_order_stays() -> None:
    rows = binary(800, 12)
    after = tried(rows, "logistic")
    was, now = figures(rows), figures(rows, after)
    assert now["brier"][0] < was["brier"][0] and gain(rows, after).figure[1] > 0  # type: ignore
    assert abs(now["in_the_large"][0]) < abs(was["in_the_large"][0])  # type: ignore
    low, high = was["slope"][1:]
    assert low < 0.6 < high < 1  # type: ignore
    assert now["slope"][1] < 1 < now["slope"][2]  # type: ignore
    whole = fit(rows, "logistic")
    kept = figures(rows, whole.logits(rows.values))
    assert kept["auc"] == was["auc"]


def test_intervals_are_those_of_formulas() -> None:
    """The mean's is Student's where a row is a patient; the slope's is as wide as the model-based
    one where the model is right; rows that are there twice don't narrow it."""
    rows = binary(900, 13, intercept=0.0, slope=1.0)
    losses = (expit(rows.values) - rows.targets) ** 2
    value, low, high = figures(rows)["brier"]
    assert value == pytest.approx(losses.mean())
    assert high - low == pytest.approx(2 * 1.9626 * losses.std(ddof=1) / 30, rel=1e-4)  # type: ignore
    twice = rows.select(np.tile(np.arange(900), 2))
    for name in ("brier", "slope", "in_the_large"):
        assert figures(twice)[name] == pytest.approx(figures(rows)[name], rel=1e-3)
    _, low, high = figures(rows)["slope"]
    weight = expit(rows.values) * (1 - expit(rows.values))
    design = np.column_stack([np.ones(900), rows.values])
    error = np.sqrt(np.linalg.inv(design.T @ (design * weight[:, None]))[1, 1])
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)  # type: ignore


def test_predictions_are_corrected_by_name_and_the_rest_stays() -> None:
    found = Correction("binary", "logistic", 0.5, 2.0)
    said = {"probability": np.array([0.0, 0.5, 0.9, 1.0], np.float32), "row": np.arange(4)}
    new = found.apply(said)
    assert new["probability"].dtype == np.float32 and new["row"] is said["row"]
    assert logit(new["probability"][1:3]) == pytest.approx([0.5, 0.5 + 2 * np.log(9)], abs=1e-5)
    assert np.all(np.diff(new["probability"]) >= 0)
    three = Correction("multiclass", "temperature", slope=0.5)
    scores = np.array([[1.0, 2.0, 4.0]])
    chances = np.exp(log_softmax(scores, axis=1))
    names = {f"probability_{name}": chances[:, n] for n, name in enumerate("abc")}
    peer = np.exp(log_softmax(scores / 2, axis=1))[0]
    assert [x[0] for x in three.apply(names).values()] == pytest.approx(peer)
    with pytest.raises(CalibrationRefused, match="of a survival model"):
        Correction("survival", "slope").apply(said)
