"""Scores, weights, balance and effect over unlike hospitals are those of their rows together."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from tests.common.procedures.statistics.unlike import asked, hospitals

FORMULA = "treated ~ age + C(sex) + dose"


def treated():
    frames = hospitals(5)
    rng = np.random.default_rng(9)
    for place, frame in enumerate(frames):
        chance = 1 / (1 + np.exp(-(0.04 * (frame["age"] - 65) + 0.5 * (frame["sex"] == "f"))))
        frame["treated"] = (rng.random(len(frame)) < chance).astype(int)
        frame["pain"] = 20 + 0.1 * frame["age"] - 3 * frame["treated"] + place
        frame.loc[:3, "pain"] = np.nan
    return frames


def answer(frames, **options):
    files = asked(frames, {"name": "a", "kind": "propensity", "formula": FORMULA} | options)
    return json.loads(files["statistics.json"])["analyses"][0]


WEIGHTS = {
    "ate": lambda t, e: np.where(t == 1, 1 / e, 1 / (1 - e)),
    "att": lambda t, e: np.where(t == 1, 1.0, e / (1 - e)),
    "overlap": lambda t, e: np.where(t == 1, 1 - e, e),
}


@pytest.mark.parametrize("estimand", WEIGHTS)
def test_equals_the_rows_together(estimand):
    frames = treated()
    found = answer(frames, estimand=estimand, outcome="pain")["values"]
    every = pd.concat(frames, ignore_index=True)
    fit = smf.logit(FORMULA, every).fit(disp=0, tol=1e-12, maxiter=100)
    theirs = fit.params[["Intercept", *found["columns"]]]
    np.testing.assert_allclose(found["score"], theirs, rtol=1e-8)
    t = every["treated"].to_numpy()
    w = WEIGHTS[estimand](t, np.clip(fit.predict(every).to_numpy(), 0.01, 0.99))
    for place, column in enumerate(found["columns"]):
        x = fit.model.exog[:, fit.model.exog_names.index(column)]
        pooled = np.sqrt((x[t == 1].var(ddof=1) + x[t == 0].var(ddof=1)) / 2)
        plain = (x[t == 1].mean() - x[t == 0].mean()) / pooled
        after = np.average(x[t == 1], weights=w[t == 1]) - np.average(x[t == 0], weights=w[t == 0])
        assert found["before"][place] == pytest.approx(plain, rel=1e-9)
        assert found["after"][place] == pytest.approx(after / pooled, rel=1e-7, abs=1e-10)
        assert abs(found["after"][place]) < max(0.05, abs(found["before"][place]))
    y = every["pain"].to_numpy()
    there, means, variance = ~np.isnan(y), {}, 0.0
    for group in (0, 1):
        own = there & (t == group)
        means[group] = np.average(y[own], weights=w[own])
        variance += ((w[own] * (y[own] - means[group])) ** 2).sum() / w[own].sum() ** 2
    assert found["effect"] == pytest.approx(means[1] - means[0], rel=1e-8)
    assert found["standard_error"] == pytest.approx(np.sqrt(variance), rel=1e-7)


def test_without_an_outcome_there_is_balance_alone():
    found = answer(treated())
    assert [one["name"] for one in found["tables"]] == ["", "groups"]
    assert found["plots"][0]["type"] == "dots" and "effect" not in found["values"]


def test_of_few_with_an_outcome_no_effect_is_shown():
    frames = treated()
    for frame in frames:
        frame["ill"] = 0
    frames[0].loc[:2, "ill"] = 1
    found = answer(frames, outcome="ill", binary=True)
    assert "effect" not in found["values"] and "Fewer than 5 persons" in found["notes"][1]
