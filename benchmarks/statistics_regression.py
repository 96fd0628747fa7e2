"""Regressions beside statsmodels and scikit-learn: for ``benchmarks/statistics.py``.

Coefficients differ in parts of the larger of themselves and their standard errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from sklearn.linear_model import Lasso
from statsmodels.regression.mixed_linear_model import MixedLM

Values = Mapping[str, Any]
Difference = tuple[str, float, float | None, str]
TERMS = "age + dose + C(arm)"
FORMULAS = {
    "linear": f"time ~ {TERMS} + age:dose",
    "logistic": "event ~ C(arm) + bs(age, knots=[55, 65], bounds=(0, 130), degree=2)",
    "poisson": f"event ~ {TERMS} + offset(log(time + 1))",
    "gamma": f"I(time + 1) ~ {TERMS}",
    "negative_binomial": f"event ~ {TERMS} + offset(log(time + 1))",
}
LAWS = {
    "linear": sm.families.Gaussian(),
    "logistic": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
    "negative_binomial": sm.families.NegativeBinomial(alpha=0.5),
}
CLOSE = {"tol": 1e-15, "tol_criterion": "params", "maxiter": 500}


def regressions(
    frames: Mapping[str, pd.DataFrame], ask: Callable[..., Mapping[str, Any]]
) -> Iterable[Difference]:
    """Differences of everything by a formula."""
    pooled = pd.concat([one.assign(hospital=name) for name, one in frames.items()])
    every, pooled = pooled.reset_index(drop=True), pooled.dropna().reset_index(drop=True)
    plain = [
        {"name": family, "kind": "regression", "family": family, "formula": text}
        | ({"alpha": 0.5} if family == "negative_binomial" else {})
        for family, text in FORMULAS.items()
    ]
    robust = plain[1] | {"name": "robust", "errors": "robust"}
    lasso = {"name": "lasso", "kind": "penalised_regression", "strength": 5.0}
    mixed = {"name": "mixed", "kind": "mixed_model", "tells_hospitals": True}
    formula = {"formula": "time ~ age + dose"}
    found = ask(*plain, robust, lasso | formula, mixed | formula)
    for family in FORMULAS:
        rows = every if family == "logistic" else pooled  # no time is in it, so no gap
        reference = _model(family, rows).fit(**({} if family == "linear" else CLOSE))
        yield from _compared(family, found[family], reference)
    white = _model("logistic", every).fit(**CLOSE, cov_type="HC1")
    more = np.sqrt(white.nobs / white.df_resid)  # statsmodels' GLM leaves HC1's factor out
    errors = _column(found["robust"], "standard_error")
    off = np.abs(errors / (np.asarray(white.bse) * more) - 1).max()
    yield "logistic, robust errors", float(off), 1e-9, "statsmodels"
    yield _lasso(found["lasso"], pooled)
    if found["mixed"]["tables"]:
        yield _mixed(found["mixed"], pooled)


def _model(family: str, pooled: pd.DataFrame) -> Any:
    text = FORMULAS[family].replace("bounds=(0, 130)", "lower_bound=0, upper_bound=130")
    if family == "linear":
        return smf.ols(text, pooled)
    offset = np.log(pooled["time"] + 1) if "offset" in text else None
    text = text.split(" + offset")[0]
    return smf.glm(text, pooled, family=LAWS[family], offset=offset)


def _compared(family: str, found: Values, reference: Any) -> Iterable[Difference]:
    """In the order of columns, which is patsy's: categories first."""
    values, errors = _column(found, "estimate"), _column(found, "standard_error")
    theirs, bse = np.asarray(reference.params), np.asarray(reference.bse)
    order = _order(found, reference)
    values, errors = values[order], errors[order]
    off = np.abs(values - theirs) / np.maximum(np.abs(theirs), bse)
    yield f"{family}, coefficients", float(off.max()), 1e-9, "statsmodels"
    yield f"{family}, errors", float(np.abs(errors / bse - 1).max()), 1e-9, "statsmodels"
    likelihood = abs(found["values"]["fit"]["log-likelihood"] / reference.llf - 1)
    yield f"{family}, log-likelihood", float(likelihood), 1e-9, "statsmodels"


def _order(found: Values, reference: Any) -> list[int]:
    ours = [_plain(name) for name in found["values"]["coefficients"]]
    theirs = [_plain(name) for name in reference.params.index]
    if sorted(ours) == sorted(theirs):
        return [ours.index(name) for name in theirs]
    return list(range(len(ours)))  # a curve's columns are numbered otherwise, and stand last


def _plain(name: str) -> str:
    return name.replace(" ", "")


def _column(found: Values, key: str) -> Any:
    return np.array([one[key] for one in found["values"]["coefficients"].values()])


def _lasso(found: Values, pooled: pd.DataFrame) -> Difference:
    x = pooled[["age", "dose"]].to_numpy()
    z = (x - x.mean(0)) / x.std(0)
    model = Lasso(alpha=5.0, tol=1e-14, max_iter=100_000).fit(z, pooled["time"])
    ours = found["values"]["coefficients"]
    mine = np.array([ours["age"], ours["dose"]]) * x.std(0)
    off = np.abs(mine - model.coef_).max() / np.abs(model.coef_).max()
    return "lasso, coefficients", float(off), 1e-8, "scikit-learn"


def _mixed(found: Values, pooled: pd.DataFrame) -> Difference:
    """Ours is the better likelihood where they differ: statsmodels' search is the coarser one."""
    model = MixedLM.from_formula("time ~ age + dose", pooled, groups="hospital")
    reference = model.fit(gtol=1e-8)
    likelihood = found["values"]["fit"]["log-likelihood, restricted"]
    off = (reference.llf - likelihood) / abs(reference.llf)
    return "mixed model, log-likelihood less", float(max(0.0, off)), 1e-9, "statsmodels"
