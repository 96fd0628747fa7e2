"""Regressions over unlike hospitals are statsmodels' on their rows together."""

import contextlib
import json
import re

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

from tests.common.procedures.statistics.unlike import asked, hospitals, tables
from wardround.common.config.load import parse_config
from wardround.common.config.task import make_task
from wardround.common.errors import ConfigError, TaskError
from wardround.common.procedures.known import make_procedure

FAMILIES = {
    "linear": sm.families.Gaussian(),
    "logistic": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
    "negative_binomial": sm.families.NegativeBinomial(alpha=0.7),
}


def consortium(seed=0):
    """Six hospitals: one of 33 rows without a woman or an event, two of one row, level C at one
    alone, years on another scale, gaps, a column that is constant at one."""
    frames = hospitals(seed, rows=(400, 33, 150, 1, 80, 1))
    rng = np.random.default_rng(seed + 1)
    for place, frame in enumerate(frames):
        n = len(frame)
        frame["year"] = 2000.0 + rng.integers(0, 20, n)
        frame["years"] = rng.uniform(0.5, 4, n).round(2)
        frame["cost"] = np.exp(1 + 0.02 * frame["age"] + rng.gamma(2.0, 0.5, n)).round(2)
        frame["w"] = rng.uniform(0.5, 2, n).round(2)
        frame["pid"] = [f"{place}-{row // 2}" for row in range(n)]
        frame["pressure"] = 100 + 0.3 * frame["age"] + rng.normal(0, 9, n).round(1) + 4 * place
        frame["hospital"] = place
    return frames


def answer(frames, settings="", **options):
    files = asked(frames, {"name": "a", "kind": "regression"} | options, settings=settings)
    return json.loads(files["statistics.json"])["analyses"][0]


def compare(found, reference, rtol=1e-9):
    """Coefficients, errors and p-values by name."""
    ours = {plain(name): value for name, value in found["values"]["coefficients"].items()}
    theirs = [plain(name) for name in reference.params.index]
    assert sorted(ours) == sorted(theirs)
    for place, name in enumerate(theirs):
        value, error = reference.params.iloc[place], reference.bse.iloc[place]
        assert abs(ours[name]["estimate"] - value) <= rtol * max(abs(value), error), name
        np.testing.assert_allclose(ours[name]["standard_error"], error, rtol=rtol)
        np.testing.assert_allclose(ours[name]["p"], reference.pvalues.iloc[place], atol=1e-9)


def plain(name):
    """Columns of a curve are counted from 1 here."""
    name = name.replace("np.", "").replace(" ", "")
    if curve := re.fullmatch(r"bs\((\w+),.*\)\[(\d)\]", name):
        return f"{curve[1]}{int(curve[2]) + ('lower' in name)}"
    return name


FORMULAS = {
    "linear": "pressure ~ age + C(sex) * C(stage) + weight + year",
    "logistic": "event ~ C(sex) + bs(age, knots=[50, 65], bounds=(0, 130), degree=2) + year",
    "poisson": "score ~ age + C(stage) + log(dose + 1) + offset(log(years))",
    "gamma": "cost ~ age + C(sex) + I(weight / 10)",
    "negative_binomial": "score ~ age + C(stage) + dose + offset(log(years))",
}


def reference_of(family, text, rows, **more):
    """statsmodels' model of the same formula on all rows."""
    text = text.replace("bounds=(0, 130)", "lower_bound=0, upper_bound=130")
    if "offset" in text:
        more["offset"] = np.log(rows["years"])
    text = text.replace(" + offset(log(years))", "").replace("log(", "np.log(")
    return smf.glm(text, rows, family=FAMILIES[family], **more)


CLOSE = {"tol": 1e-15, "tol_criterion": "params", "maxiter": 500}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_equals_statsmodels(family):
    frames = consortium()
    options = {"alpha": 0.7} if family == "negative_binomial" else {}
    found = answer(frames, formula=FORMULAS[family], family=family, **options)
    rows, fit = pd.concat(frames, ignore_index=True), found["values"]["fit"]
    if family == "linear":
        reference = smf.ols(FORMULAS[family], rows).fit()
        np.testing.assert_allclose(fit["R squared"], reference.rsquared, rtol=1e-9)
    else:
        reference = reference_of(family, FORMULAS[family], rows).fit(**CLOSE)
        np.testing.assert_allclose(fit["deviance"], reference.deviance, rtol=1e-9)
    compare(found, reference)
    np.testing.assert_allclose(fit["log-likelihood"], reference.llf, rtol=1e-9)
    np.testing.assert_allclose(fit["AIC"], reference.aic, rtol=1e-9)
    assert fit["degrees of freedom"] == reference.df_resid


@pytest.mark.parametrize("family", ["linear", "logistic", "gamma"])
@pytest.mark.parametrize("errors", ["robust", "persons", "hospitals"])
def test_sandwiches_are_statsmodels(family, errors):
    frames = consortium()
    text = {"linear": "pressure ~ age + C(sex)", "logistic": "event ~ age + C(stage)"}
    text |= {"gamma": "cost ~ age + C(sex)"}
    rows = pd.concat(frames, ignore_index=True)
    groups = {"persons": "pid", "hospitals": "hospital"}
    settings = '[task.columns]\npatient_id = "pid"\n' if errors == "persons" else ""
    found = answer(frames, settings=settings, formula=text[family], family=family, errors=errors)
    model = reference_of(family, text[family], rows)
    more = {"cov_type": "HC1"}
    if errors != "robust":
        codes = pd.factorize(rows[groups[errors]])[0]
        more = {"cov_type": "cluster", "cov_kwds": {"groups": codes}}
    if family == "linear":
        model = smf.ols(text[family], rows)
        reference = model.fit(**more)
    else:
        reference = model.fit(**CLOSE, **more)
    errors_found = [one["standard_error"] for one in found["values"]["coefficients"].values()]
    expected = reference.bse
    if errors == "robust" and family != "linear":  # of GLM, statsmodels has HC1 without its factor
        expected = expected * np.sqrt(len(rows) / reference.df_resid)
    np.testing.assert_allclose(sorted(errors_found), sorted(expected), rtol=1e-9)


def test_alpha_is_estimated_as_statsmodels_does():
    frames = consortium()
    rng = np.random.default_rng(5)
    for frame in frames:
        mean = np.exp(0.5 + 0.02 * (frame["age"] - 60))
        frame["score"] = rng.poisson(mean * rng.gamma(1.6, 1 / 1.6, len(frame)))
    found = answer(frames, formula="score ~ age + C(sex)", family="negative_binomial")
    rows = pd.concat(frames, ignore_index=True)
    model = smf.negativebinomial("score ~ age + C(sex)", rows)
    reference = model.fit(method="newton", tol=1e-14, maxiter=200, disp=0)
    fit = found["values"]["fit"]
    for name, value in found["values"]["coefficients"].items():
        np.testing.assert_allclose(value["estimate"], reference.params[name], rtol=1e-8)
        np.testing.assert_allclose(value["standard_error"], reference.bse[name], rtol=1e-8)
    np.testing.assert_allclose(fit["alpha"], reference.params["alpha"], rtol=1e-8)
    np.testing.assert_allclose(fit["alpha, standard error"], reference.bse["alpha"], rtol=1e-7)
    np.testing.assert_allclose(fit["AIC"], reference.aic, rtol=1e-10)


@pytest.mark.parametrize("family", ["linear", "logistic", "poisson"])
def test_weights_multiply_the_likelihood(family):
    frames = consortium()
    text = {"linear": "pressure ~ age + C(sex)", "logistic": "event ~ age + C(sex)"}
    text |= {"poisson": "score ~ age"}
    found = answer(frames, formula=text[family], family=family, weights="w")
    rows = pd.concat(frames, ignore_index=True)
    if family == "linear":
        reference = smf.wls(text[family], rows, weights=rows["w"]).fit()
    else:
        reference = reference_of(family, text[family], rows, var_weights=rows["w"]).fit(**CLOSE)
    compare(found, reference)
    np.testing.assert_allclose(found["values"]["fit"]["log-likelihood"], reference.llf, rtol=1e-9)


# --- what has no answer ---------------------------------------------------------------------------
def said(found):
    assert found["tables"] == [] and found["plots"] == []
    return found["notes"][-1]


def test_a_column_that_follows_from_others_has_no_coefficient():
    frames = [one.assign(twice=2 * one["age"], flat=3.0) for one in consortium()]
    found = answer(frames, formula="pressure ~ age + twice + flat + C(sex)")
    assert "No coefficient, as other columns give theirs: twice, flat." in found["notes"]
    reference = smf.ols("pressure ~ age + C(sex)", pd.concat(frames)).fit()
    ours = found["values"]["coefficients"]
    assert ours["flat"]["estimate"] is None and ours["twice"]["standard_error"] is None
    for name, value in reference.params.items():
        np.testing.assert_allclose(ours[name]["estimate"], value, rtol=1e-9)


def test_separation_ends_in_a_sentence_that_names_the_column():
    frames = [frame.iloc[:90] for frame in consortium()[:3]]
    apart = [frame.assign(event=(frame["age"] > 61).astype(int)) for frame in frames]
    found = answer(apart, formula="event ~ age + dose", family="logistic")
    assert "age grows without end" in said(found)
    for frame in frames:
        frame["event"] = np.where(frame["stage"] == "C", 1, np.arange(len(frame)) % 2)
    found = answer(frames, formula="event ~ C(stage)", family="logistic")
    assert "C(stage)[T.C] grows without end" in said(found)


def test_what_would_tell_of_few_persons_is_refused_by_name():
    frames = consortium()
    for frame in frames:
        frame["event"] = 0
        frame["rare"] = 0
    frames[0].loc[:399, "event"] = (np.arange(400) % 4 == 0).astype(int)
    frames[0].loc[frames[0]["event"] == 1, "rare"] = (np.arange(100) < 3).astype(int)
    frames[0].loc[frames[0]["event"] == 0, "rare"] = (np.arange(300) < 40).astype(int)
    found = answer(frames, formula="event ~ age + rare", family="logistic")
    assert "Fewer than 5 persons of one outcome are in rare = 1" in said(found)
    found = answer(frames, formula="event ~ age + C(rare)", family="logistic")
    assert "C(rare)[1]" in said(found)
    for frame in frames:
        frame["event"] = 0
    frames[0].loc[:3, "event"] = 1
    found = answer(frames, formula="event ~ age", family="logistic")
    assert "are in the outcome" in said(found)
    few = [frame.iloc[:4] for frame in frames]
    found = answer(few, formula="pressure ~ bs(age, knots=[50, 60]) + dose", family="linear")
    assert "Too few persons for 7 columns" in said(found)


def test_errors_by_hospital_need_five_hospitals():
    found = answer(consortium()[:4], formula="pressure ~ age", errors="hospitals")
    assert "At least 5 hospitals" in said(found)


@pytest.mark.parametrize(
    "family, text, reason",
    [
        ("gamma", "score ~ age", "An outcome can't be"),
        ("poisson", "change ~ age", "An outcome can't be"),
        ("poisson", "none ~ age", "All outcomes are alike"),
        ("linear", "twice ~ age", "follows exactly"),
        ("linear", "pressure ~ bs(none, df=5)", "constant over all hospitals"),
    ],
)
def test_outcomes_that_have_no_such_model(family, text, reason):
    frames = consortium()
    for frame in frames:
        frame["change"] = frame["pressure"] - 130
        frame["none"], frame["twice"] = 0.0, 2 * frame["age"] + 1
    assert reason in said(answer(frames, formula=text, family=family))


def test_tables_and_plot_of_a_paper():
    frames = consortium()
    options = {"name": "a", "kind": "regression", "formula": "event ~ age + C(sex)"}
    files = asked(frames, options | {"family": "logistic"})
    lines = files["a.csv"].splitlines()
    assert lines[0] == (
        "term,odds ratio,odds ratio from,odds ratio to,p,coefficient,95 % from,95 % to,"
        "standard error,z"
    )
    assert [line.split(",")[0] for line in lines[1:]] == ["Intercept", "age", "C(sex)[T.m]"]
    stored = json.loads(files["statistics.json"])["analyses"][0]
    forest = stored["plots"][0]
    assert [one["name"] for one in forest["rows"]] == ["age", "C(sex)[T.m]"] and forest["log"]
    rows = pd.concat(frames)
    interval = np.exp(smf.logit("event ~ age + C(sex)", rows).fit(disp=0).conf_int().loc["age"])
    np.testing.assert_allclose([forest["rows"][0][key] for key in ("low", "high")], interval, 1e-6)


def test_no_regression_under_privacy():
    settings = '[privacy]\nunit = "example"\nnoise_multiplier = 1.0\n'
    with pytest.raises(ConfigError, match="no noise that protects"):
        answer(consortium(), settings=settings, formula="pressure ~ age")


@pytest.mark.parametrize(
    "text, named",
    [
        ("pressure ~ age + I(3 * rare + 1)", "value 2 of I(3 * rare + 1)"),
        ("pressure ~ age + center(rare)", "value 2 of center(rare)"),
        ("pressure ~ C(sex) + half", "C(sex)[m] and value 2 of half"),
        ("pressure ~ C(sex) + C(half)", "C(sex)[m] and C(half)[2]"),
    ],
)
def test_no_disguise_hides_an_indicator_of_few(text, named):
    frames = consortium()
    for frame in frames:
        frame["rare"], frame["half"] = 0, 1
        frame.loc[(frame["sex"] == "f") & (frame["age"] > 60), "half"] = 2
    frames[0].loc[:2, "rare"] = 1
    men = frames[0].index[frames[0]["sex"] == "m"][:3]
    frames[0].loc[men, "half"] = 2  # each level has many, and three persons have both
    assert named in said(answer(frames, formula=text))


def test_totals_that_no_rows_have_end_in_a_sentence():
    """Whatever a server says the totals were, a hospital's own program refuses or goes on."""
    task = make_task(parse_config(WRITTEN))
    procedure = make_procedure(parse_config(WRITTEN), task)
    parts = {"train": tables(consortium())[0]}
    honest = [procedure.sums(parts, [])]
    while procedure.more(honest) and len(honest) < 8:
        honest.append(procedure.sums(parts, honest))
    for step in range(1, len(honest)):
        for key in honest[step]:
            for false in (0.0, -1.0, 1e300, -1e300, np.inf, np.nan):
                told = [dict(one) for one in honest[: step + 1]]
                told[step][key] = np.full_like(told[step][key], false)
                with contextlib.suppress(TaskError):
                    if shapes := procedure.shapes(told):
                        assert {k: v.shape for k, v in procedure.sums(parts, told).items()} == (
                            shapes
                        )


WRITTEN = """[procedure]
name = "statistics"
[[procedure.analyses]]
name = "a"
kind = "regression"
family = "negative_binomial"
formula = "score ~ age + C(sex) + bs(dose, df=4) + scale(year)"
"""
