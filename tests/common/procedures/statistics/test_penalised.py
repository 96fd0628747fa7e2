"""Ridge, lasso and elastic net over unlike hospitals are scikit-learn's on their rows together."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge

from tests.common.procedures.statistics.test_regression import consortium
from tests.common.procedures.statistics.unlike import asked

TERMS = ["age", "dose", "weight", "year"]


def answer(frames, **options):
    files = asked(frames, {"name": "a", "kind": "penalised_regression"} | options)
    return json.loads(files["statistics.json"])["analyses"][0]


def standard(rows):
    """Columns of the formula below, standardised, in its order."""
    numbers = rows[TERMS].to_numpy()
    dummies = np.column_stack([rows["sex"] == "m", rows["stage"] == "B", rows["stage"] == "C"])
    both = np.column_stack([numbers, dummies.astype(float)])
    return (both - both.mean(0)) / both.std(0)


RIGHT = " + ".join([*TERMS, "C(sex)", "C(stage)"])
ORDER = [*TERMS, "C(sex)[T.m]", "C(stage)[T.B]", "C(stage)[T.C]"]


def standardised(found):
    """Coefficients of the standard columns by name."""
    return {row[0]: row[2] for row in found["tables"][0]["rows"]}


@pytest.mark.parametrize("mix", [1.0, 0.5, 0.0])
def test_linear_ones_are_scikit_learns(mix):
    frames = consortium()
    found = answer(frames, formula=f"pressure ~ {RIGHT}", strength=0.8, mix=mix)
    rows = pd.concat(frames).dropna()
    z, y = standard(rows), rows["pressure"].to_numpy()
    close = {"tol": 1e-14, "max_iter": 100_000}
    if mix == 0:
        model = Ridge(alpha=0.8 * len(rows), tol=1e-14, solver="cholesky")
    else:
        model = ElasticNet(alpha=0.8, l1_ratio=mix, **close)
    reference = model.fit(z, y).coef_
    ours = standardised(found)
    np.testing.assert_allclose([ours[name] for name in ORDER], reference, rtol=1e-8, atol=1e-10)
    if mix == 1:
        assert sum(ours[name] == 0.0 for name in ORDER) == int((reference == 0).sum()) > 0


def test_the_strength_with_the_least_error_over_folds():
    frames = consortium()
    rng = np.random.default_rng(3)
    found = answer(frames, formula=f"pressure ~ {RIGHT}")
    tried = np.array(found["tables"][1]["rows"])
    strength = found["values"]["strength"]
    assert strength == tried[np.argmin(tried[:, 1]), 0]
    rows = pd.concat(frames).dropna()
    z, y = standard(rows), rows["pressure"].to_numpy()
    # other folds than ours: errors agree as far as folds do
    place = rng.integers(0, 5, len(y))
    errors = []
    for fold in range(5):
        model = Lasso(alpha=strength).fit(z[place != fold], y[place != fold])
        errors.append((y[place == fold] - model.predict(z[place == fold])) ** 2)
    assert abs(np.concatenate(errors).mean() / tried[:, 1].min() - 1) < 0.05
    largest = tried[0, 0]
    assert np.allclose(Lasso(alpha=largest * 1.0001).fit(z, y).coef_, 0)
    assert not np.allclose(Lasso(alpha=largest * 0.99, tol=1e-12).fit(z, y).coef_, 0)


@pytest.mark.parametrize("mix", [1.0, 0.4, 0.0])
def test_logistic_ones_are_scikit_learns(mix):
    frames = consortium()
    found = answer(frames, formula=f"event ~ {RIGHT}", family="logistic", strength=0.02, mix=mix)
    rows = pd.concat(frames).dropna()
    z, y = standard(rows), rows["event"].to_numpy()
    model = LogisticRegression(
        C=1 / (0.02 * len(rows)), l1_ratio=mix, solver="saga", tol=1e-10, max_iter=100_000
    )
    reference = model.fit(z, y).coef_[0]
    ours = standardised(found)
    np.testing.assert_allclose([ours[name] for name in ORDER], reference, rtol=1e-6, atol=1e-7)


def test_of_own_units_the_penalty_is_scikit_learns_too():
    frames = consortium()
    options = {"formula": "pressure ~ age + dose + year", "strength": 0.3, "scale": False}
    found = answer(frames, **options, mix=0.5)
    rows = pd.concat(frames)
    x, y = rows[["age", "dose", "year"]].to_numpy(), rows["pressure"].to_numpy()
    model = ElasticNet(alpha=0.3, l1_ratio=0.5, tol=1e-14, max_iter=100_000).fit(x - x.mean(0), y)
    ours = found["values"]["coefficients"]
    np.testing.assert_allclose(
        [ours[name] for name in ("age", "dose", "year")], model.coef_, rtol=1e-8
    )
    np.testing.assert_allclose(ours["Intercept"], y.mean() - x.mean(0) @ model.coef_, rtol=1e-8)


def test_separation_has_an_answer_and_few_persons_no_folds():
    frames = consortium()[:3]
    for frame in frames:
        frame["event"] = (frame["age"] > 61).astype(int)
    options = {"formula": "event ~ age + C(sex)", "family": "logistic", "strength": 0.05}
    assert answer(frames, **options, mix=0.0)["values"]["coefficients"]["age"] > 0
    few = [frame.iloc[:18] for frame in frames]
    found = answer(few, formula="pressure ~ age + dose + C(sex)")
    assert "Too few persons for folds" in found["notes"][-1] and not found["tables"]
