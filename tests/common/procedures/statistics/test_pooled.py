"""Meta-analyses and mixed models over unlike hospitals are statsmodels'."""

import json

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.meta_analysis import combine_effects

from tests.common.procedures.statistics.test_regression import FAMILIES, consortium
from tests.common.procedures.statistics.unlike import asked
from wardround.common.errors import ConfigError


def answer(frames, **options):
    files = asked(frames, {"name": "a"} | options)
    return json.loads(files["statistics.json"])["analyses"][0]


def seven(spread=4.0):
    """Seven hospitals with rows enough, two of which lack women, and two of one row."""
    frames = consortium() + [one.iloc[:60] for one in consortium(7)[:3]]
    rng = np.random.default_rng(11)
    return [
        one.assign(
            pressure=one["pressure"] + spread * rng.normal() + 0.2 * rng.normal() * one["age"],
            hospital=place,
        )
        for place, one in enumerate(frames)
    ]


def alone(frames, text, family, term):
    """Each hospital's coefficient and variance of it, of those that have it."""
    found = []
    for frame in frames:
        sexes = frame["sex"].nunique() > 1
        if len(frame) < 9 or not (term == "age" or sexes):
            continue
        own = text if sexes else text.replace(" + C(sex)", "")
        model = smf.glm(own, frame, family=FAMILIES[family]).fit(tol=1e-14, maxiter=200)
        found.append((model.params[term], model.bse[term] ** 2))
    return np.array(found)


@pytest.mark.parametrize("family, text", [("linear", "pressure"), ("poisson", "score")])
def test_pooled_effects_are_statsmodels(family, text):
    frames, text = seven(), f"{text} ~ age + C(sex)"
    found = answer(frames, kind="meta_analysis", formula=text, family=family)
    seen = []
    heterogeneity = {row[0]: row[1:] for row in found["tables"][2]["rows"]}
    for term in ("Intercept", "age", "C(sex)[T.m]"):
        own = alone(frames, text, family, term)
        reference = combine_effects(*own.T, method_re="dl")
        table = reference.summary_frame()
        # statsmodels lets tau squared be negative
        random = "random effect" if reference.tau2 > 0 else "fixed effect"
        for kind, row in (("fixed", "fixed effect"), ("random", random)):
            ours = found["values"][kind]["coefficients"][term]
            np.testing.assert_allclose(ours["estimate"], table.loc[row, "eff"], rtol=1e-9)
            np.testing.assert_allclose(ours["standard_error"], table.loc[row, "sd_eff"], rtol=1e-9)
        hospitals, tau, _, share, q, _ = heterogeneity[term]
        assert hospitals == len(own)
        np.testing.assert_allclose(tau, max(0, reference.tau2), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(q, reference.q, rtol=1e-9)
        np.testing.assert_allclose(share, max(0, reference.i2), rtol=1e-8, atol=1e-12)
        seen.append(tau)
    assert max(seen) > 0
    # those without women have no intercept of the same meaning
    assert heterogeneity["Intercept"][0] == heterogeneity["C(sex)[T.m]"][0]
    assert heterogeneity["age"][0] == heterogeneity["C(sex)[T.m]"][0] + 2


def test_few_hospitals_are_not_pooled():
    found = answer(seven()[:6], kind="meta_analysis", formula="pressure ~ age + C(sex)")
    assert "Fewer than 5 hospitals" in found["notes"][-1] and not found["tables"]
    frames = [one.assign(sex="f") if n == 2 else one for n, one in enumerate(seven())]
    found = answer(frames, kind="meta_analysis", formula="pressure ~ age + C(sex)")
    assert any("not pooled: Intercept, C(sex)[T.m]" in note for note in found["notes"])
    assert found["values"]["random"]["coefficients"]["C(sex)[T.m]"]["estimate"] is None


@pytest.mark.parametrize("method", ["reml", "ml"])
def test_a_random_intercept_is_statsmodels(method):
    frames = seven()
    text = "pressure ~ age + C(sex) + year"
    found = answer(frames, kind="mixed_model", formula=text, method=method, tells_hospitals=True)
    rows = pd.concat([one for one in frames if len(one) >= 5])
    model = MixedLM.from_formula(text, rows.assign(year=rows["year"] - 2010), groups="hospital")
    reference = model.fit(reml=method == "reml", method=["bfgs", "nm"], gtol=1e-6, maxiter=5000)
    fit, ours = found["values"]["fit"], found["values"]["coefficients"]
    for name in ("age", "C(sex)[T.m]", "year"):
        np.testing.assert_allclose(ours[name]["estimate"], reference.fe_params[name], rtol=1e-5)
    between = float(np.asarray(reference.cov_re)[0, 0])
    # of statsmodels' variances: its own errors have the variances' doubt in them, lme4's haven't
    design = np.column_stack([np.ones(len(rows)), rows["age"], rows["sex"] == "m", rows["year"]])
    same = rows["hospital"].to_numpy()[:, None] == rows["hospital"].to_numpy()
    inside = fit["variance within"] * np.eye(len(rows)) + fit["variance between hospitals"] * same
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ np.linalg.solve(inside, design))))
    mine = [ours[name]["standard_error"] for name in ("Intercept", "age", "C(sex)[T.m]", "year")]
    np.testing.assert_allclose(mine, errors, rtol=1e-6)
    np.testing.assert_allclose(fit["variance between hospitals"], between, rtol=1e-4)
    np.testing.assert_allclose(fit["variance within"], reference.scale, rtol=1e-6)
    likelihood = fit[next(name for name in fit if name.startswith("log-likelihood"))]
    assert likelihood >= reference.llf - 1e-9 * abs(reference.llf)  # ours is the better one
    np.testing.assert_allclose(likelihood, reference.llf, rtol=1e-7)


def test_hospitals_that_differ_no_more_than_rows_have_no_variance():
    frames = seven()
    rng = np.random.default_rng(2)
    for frame in frames:
        frame["pressure"] = rng.normal(0, 1, len(frame)) + frame["age"]
        frame["pressure"] -= frame["pressure"].mean() - frame["age"].mean()
    found = answer(frames, kind="mixed_model", formula="pressure ~ age", tells_hospitals=True)
    assert found["values"]["fit"]["variance between hospitals"] == 0.0
    rows = pd.concat([one for one in frames if len(one) >= 5])
    reference = smf.ols("pressure ~ age", rows).fit()
    np.testing.assert_allclose(
        found["values"]["coefficients"]["age"]["estimate"], reference.params["age"], rtol=1e-9
    )


def test_a_mixed_model_needs_a_word_in_the_plan():
    with pytest.raises(ConfigError, match="tells_hospitals"):
        answer(seven(), kind="mixed_model", formula="pressure ~ age")
