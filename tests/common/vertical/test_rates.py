"""Whole Poisson and Cox regressions of parties that differ, against statsmodels and lifelines."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import CoxPHFitter
from pandas import DataFrame
from statsmodels.duration.hazard_regression import PHReg

from tests.common.vertical.consortium import Consortium
from tests.common.vertical.table import DEALER
from wardround.common.errors import JointRefused
from wardround.common.joint.party import Party
from wardround.common.vertical import rates
from wardround.common.vertical.coarse import Coarse, cleared, opened
from wardround.common.vertical.exposure import Exposure
from wardround.common.vertical.precision import (
    Precision,
    checked_factor,
    dithered,
    heaviest,
)
from wardround.common.vertical.ring import decode
from wardround.common.vertical.told import TOLD

ROWS = 1500
NAMES = ("hospital", "lab", "registry", "upper", "west")
ORDER = ("age", "smoker", "marker", "dose", "stage=II", "stage=III")


def draw(rows: int = ROWS, seed: int = 0) -> dict[str, Any]:
    """Columns of several parties; survival with ties and few events of late times; a count."""
    random = np.random.default_rng(seed)
    age = random.normal(60, 12, rows)
    smoker = (random.random(rows) < 0.3).astype(float)
    marker = 1e-4 * np.exp(random.normal(0, 0.5, rows) + 0.02 * (age - 60))
    stage = random.choice(["I", "II", "III"], rows, p=[0.5, 0.3, 0.2])
    dose = 1000.0 + 50 * random.normal(0, 1, rows)
    eta = 0.03 * (age - 60) + 0.6 * smoker + 0.7 * (stage == "III") - 0.004 * (dose - 1000)
    time = random.exponential(np.exp(-eta)) ** 0.7 * 3
    until = random.random(rows) * 5
    survival = np.stack([np.ceil(6 * np.minimum(time, until)), time <= until], axis=1)
    return {
        "age": age,
        "smoker": smoker,
        "marker": marker,
        "stage": stage,
        "dose": dose,
        "constant": np.full(rows, 3.0),
        "rare": (np.arange(rows) < 3).astype(float),
        "survival": survival.astype(float),
        "count": random.poisson(np.exp(eta - 1)).astype(float),
    }


def consortium(found: dict[str, Any], model: str, holders: int = 2, **options: Any) -> Consortium:
    """Of 2 to 5 parties, the outcome at the second; one has a level that nobody has."""
    columns: list[list[str]] = [["age", "smoker", "constant"], ["marker", "stage", "dose", "rare"]]
    for name in ("dose", "marker", "smoker")[: holders - 2]:
        for own in columns:
            if name in own:
                own.remove(name)
        columns.append([name])
    parties = {
        party: {name: found[name] for name in names}
        for party, names in zip(NAMES, columns, strict=False)
    }
    result = found["survival" if model == "cox" else "count"]
    levels = {"stage": ["I", "II", "III", "IV"]}
    return Consortium(parties, ("lab", result), levels, {"model": model, "padded": 8} | options)


def matrix(found: dict[str, Any]) -> Any:
    """What the pooled regression is of, in ``ORDER``."""
    levels = [(found["stage"] == text).astype(float) for text in ("II", "III")]
    return np.column_stack([*(found[name] for name in ORDER[:4]), *levels])


def read(text: str) -> tuple[Any, Any, Any]:
    """(all that was told, coefficients, standard errors) in ``ORDER``."""
    told = json.loads(text)
    found = {one["column"]: one for one in told["coefficients"]}
    assert set(found) == set(ORDER)
    parts = [[found[name][key] for name in ORDER] for key in ("coefficient", "standard_error")]
    return told, np.array(parts[0]), np.array(parts[1])


@pytest.mark.parametrize("holders", [2, 3, 5])
def test_cox_is_the_pooled_one_by_efron(holders: int) -> None:
    found = draw()
    turns, _ = consortium(found, "cox", holders).run()
    texts = {turn.told[TOLD] for name, turn in turns.items() if name != DEALER}
    assert len(texts) == 1
    told, coefficients, errors = read(texts.pop())
    survival = found["survival"]
    values = matrix(found)
    reference = PHReg(survival[:, 0], values, status=survival[:, 1], ties="efron").fit(disp=0)
    np.testing.assert_allclose((coefficients - reference.params) / reference.bse, 0, atol=0.1)
    assert (np.abs(coefficients - reference.params) * values.std(axis=0) < 0.01).all()
    np.testing.assert_allclose(errors, reference.bse, rtol=0.02)
    assert told["figures"]["events"] == survival[:, 1].sum()
    assert 10 < told["figures"]["intervals"] <= 20
    assert {one["column"] for one in told["left_out"]} == {"constant", "rare", "stage=IV"}
    assert "intercept" not in told


@pytest.mark.filterwarnings("ignore:Starting with pandas")  # lifelines' calls
def test_a_ridge_is_that_of_lifelines() -> None:
    found = draw()
    turns, _ = consortium(found, "cox", ridge=0.1).run()
    _, coefficients, _ = read(turns["lab"].told[TOLD])
    values, survival = matrix(found), found["survival"]
    scale = values.std(axis=0)
    table = DataFrame((values - values.mean(axis=0)) / scale, columns=list(ORDER))
    table = table.assign(t=survival[:, 0], e=survival[:, 1])
    fitter = CoxPHFitter(penalizer=0.1).fit(table, "t", "e")
    reference = fitter.params_[list(ORDER)].to_numpy()
    np.testing.assert_allclose(coefficients * scale, reference, atol=0.01)


@pytest.mark.parametrize("holders", [2, 4])
def test_poisson_is_the_pooled_one(holders: int) -> None:
    found = draw(seed=1)
    turns, _ = consortium(found, "poisson", holders).run()
    told, coefficients, errors = read(turns["hospital"].told[TOLD])
    values = matrix(found)
    family = sm.families.Poisson()
    reference = sm.GLM(found["count"], sm.add_constant(values), family=family).fit()
    np.testing.assert_allclose(
        (coefficients - reference.params[1:]) / reference.bse[1:], 0, atol=0.1
    )
    assert (np.abs(coefficients - reference.params[1:]) * values.std(axis=0) < 0.01).all()
    np.testing.assert_allclose(errors, reference.bse[1:], rtol=0.02)
    at_means = told["intercept"] + coefficients @ values.mean(axis=0)
    expected = reference.params[0] + reference.params[1:] @ values.mean(axis=0)
    assert abs(at_means - expected) < 0.02


def test_a_party_that_is_killed_goes_on_to_the_same_bytes() -> None:
    """Each party, and the dealer, is made of its state again before a third of all steps."""
    asked = consortium(draw(), "cox", 3, intervals=4, iterations=8)
    turns, sent = asked.run()

    def before(number: int, parties: dict[str, Party]) -> None:
        for place, name in enumerate(parties):
            if number and (number + place) % 3 == 0:
                parties[name] = asked.party(name, parties[name].state())

    again, sent_again = asked.run(before)
    assert sent_again == sent
    assert again["lab"].told == turns["lab"].told


def refusal(asked: Consortium) -> tuple[str, int]:
    """Why a run was refused, and how many steps of it were done."""
    steps = []
    with pytest.raises(JointRefused) as caught:
        asked.run(lambda number, _: steps.append(number))
    return str(caught.value), len(steps)


def test_a_long_tail_is_refused_before_its_exponential_is_sent() -> None:
    """With the effect in few rows that are far out, a part of the predictor has no range."""
    found = draw()
    random = np.random.default_rng(3)
    far = np.exp(random.normal(0, 1.2, ROWS))
    found["age"] = far
    found["count"] = random.poisson(np.exp(np.minimum(0.5 * far, 9.0))).astype(float)
    asked = consortium(found, "poisson")
    why, steps = refusal(asked)
    assert "leaves the range of exp on shares" in why
    assert steps < asked.procedure.most_steps


def test_an_effect_without_end_is_refused() -> None:
    """The older, the sooner, without exception: the coefficient has no maximum."""
    found = draw()
    found["survival"][:, 0] = 200 - found["age"]
    why, _ = refusal(consortium(found, "cox"))
    assert "no end" in why or "leaves the range" in why


@pytest.mark.parametrize("model", ["cox", "poisson"])
def test_an_input_with_few_events_is_left_out(model: str) -> None:
    """Three smokers have one: slope and curvature together would say how many."""
    found = draw()
    gone = np.flatnonzero(found["smoker"] > 0)[3:]
    found["survival"][gone, 1] = 0
    found["count"][gone] = 0
    turns, _ = consortium(found, model).run()
    told = json.loads(turns["lab"].told[TOLD])
    why = {one["column"]: one["why"] for one in told["left_out"]}
    assert "too few persons" in why["smoker"]


@pytest.mark.parametrize(
    ("alter", "model", "said"),
    [
        (
            lambda found: found["survival"].__setitem__((slice(4, None), 1), 0),
            "cox",
            "too few persons",
        ),
        (lambda found: found["survival"].__setitem__((0, 0), np.inf), "cox", "no finite number"),
        (lambda found: found["count"].__setitem__(0, 0.5), "poisson", "isn't a count"),
        (lambda found: found["count"].__setitem__(0, -1), "poisson", "isn't a count"),
        (lambda found: found.update(dose=found["age"] * 2 + 5), "poisson", "determine each other"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(alter: Any, model: str, said: str) -> None:
    found = draw(600)
    alter(found)
    why, _ = refusal(consortium(found, model))
    assert said in why and "\n" not in why


@pytest.mark.parametrize("events", [0.0, 5e-324, 4.0, np.nan, np.inf, -1e308])
def test_a_number_of_events_that_cannot_be_ends_it(
    events: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A holder of outcomes that tells another one than its model lets it have."""
    honest = rates.constant

    def lying(counts: Any) -> Exposure:
        return replace(honest(counts), events=np.array([events]))

    monkeypatch.setattr(rates, "constant", lying)
    why, _ = refusal(consortium(draw(600), "poisson"))
    assert why == "the outcome's holder told events or intervals that can't be"


@pytest.mark.parametrize("rows", [1, 33, 150])
def test_of_few_persons_nothing_is_opened(rows: int) -> None:
    """Sums that might be solved for rows: refused before a first one is opened."""
    why, steps = refusal(consortium(draw(rows), "cox"))
    assert "few persons" in why or "no input is left" in why or "than persons" in why
    assert steps < 10


def test_a_rare_event_is_the_pooled_one_too() -> None:
    """47 events among 20,000 persons."""
    found, random = draw(20_000, 3), np.random.default_rng(1)
    time = 50 * random.exponential(np.exp(-0.03 * (found["age"] - 60)))
    until = 0.2 * random.random(20_000)
    survival = np.stack([np.minimum(time, until), time <= until], axis=1).astype(float)
    found["survival"] = survival
    turns, _ = consortium(found, "cox").run()
    _, coefficients, errors = read(turns["lab"].told[TOLD])
    values = matrix(found)
    scale = values.std(axis=0)
    with warnings.catch_warnings():  # its slope isn't as small as it likes
        warnings.simplefilter("ignore")
        model = PHReg(survival[:, 0], values / scale, status=survival[:, 1], ties="efron")
        reference = model.fit(disp=0)
    np.testing.assert_allclose(
        (coefficients * scale - reference.params) / reference.bse, 0, atol=0.1
    )
    np.testing.assert_allclose(errors * scale, reference.bse, rtol=0.02)


def test_sums_by_interval_go_to_the_holder_and_rotated_ones_to_one_other() -> None:
    """Letters of as many words as there are intervals: of three parties the holder alone gets the
    exposures' sums, and one other the rotated sums."""
    asked = consortium(draw(800), "cox", 3, intervals=7)
    turns, sent = asked.run()
    told = json.loads(turns["lab"].told[TOLD])
    intervals = int(told["figures"]["intervals"])
    columns = len(told["coefficients"])
    by_size: dict[int, list[tuple[str, str]]] = {}
    for step in sent:
        for (sender, to), letter in step.items():
            if sender != DEALER:
                by_size.setdefault(len(letter) // 8, []).append((sender, to))
    sums, rotated = by_size[intervals], by_size[intervals * columns]
    points = told["gradients_opened"] + 2
    assert len(sums) == 2 * points and {to for _, to in sums} == {"lab"}
    assert len(rotated) == 4 and {to for _, to in rotated} == {"hospital"}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(2, 1 << 20))
def test_sums_fit_the_range_whatever_the_rows(parties: int, rows: int) -> None:
    found = Precision.of(rows, parties)
    room = 62 - np.ceil(np.log2(rows))
    assert parties * found.slope + found.exposure + heaviest(parties) <= room
    assert parties * found.slope + found.column + 4 <= room
    assert parties * found.curvature + 2 * found.column + 8 <= room
    assert min(found.slope, found.curvature) >= 3 and found.exposure >= 5


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_factors_within_their_parts_have_a_sum_that_fits(parties: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    predictors = random.normal(0, random.uniform(0, 2), (parties, 50))
    try:
        factors = [checked_factor(one, parties) for one in predictors]
    except JointRefused:
        return
    assert np.prod(factors, axis=0).mean() <= 2.0 ** heaviest(parties)


@pytest.mark.parametrize("value", [800.0, np.nan, np.inf])
def test_a_factor_without_range_is_refused(value: float) -> None:
    with pytest.raises(JointRefused, match="range of exp"):
        checked_factor(np.array([0.0, value]), 2)


def test_rounding_by_chance_is_right_on_average() -> None:
    values = np.random.default_rng(0).normal(size=20_000)
    rounded = decode(dithered(values, 3, bytes(32), "x"), 3)
    assert np.abs(rounded - values).max() < 2.0**-3
    assert abs((rounded - values).mean()) < 5 * 2.0**-3 / np.sqrt(6 * 20_000)


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(2, 5), st.integers(-12, 12), st.integers(0, 2**32 - 1))
def test_what_is_cleared_is_less_than_a_unit_of_each(
    value: float, parties: int, units: int, seed: int
) -> None:
    draws = np.random.default_rng(seed).integers(0, 2**64, parties - 1, dtype=np.uint64)
    words = np.array([round(value * 2.0**20)], np.int64).view(np.uint64)
    shares = [*draws[:, None], words - draws.sum(dtype=np.uint64)]
    total = sum((cleared(one, units, 20) for one in shares), np.zeros(1, np.uint64))
    assert abs(opened(total, units, 20, parties)[0] - value) <= parties / 2 * 2.0**units + 2.0**-20


def test_what_may_be_opened_is_less_than_a_bit_for_each_person_and_column() -> None:
    exact = Coarse(2000, 500.0, 10)
    points = exact.points([5, 3], 25)
    assert exact.bits(3, 8, points) <= 3 * 2000 < exact.bits(3, 8, points + 1) or points == 25
    with pytest.raises(JointRefused, match="too few persons"):
        Coarse(300, 100.0, 10).points([5, 3], 25)
