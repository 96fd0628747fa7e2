"""Whole Poisson and Cox regressions of parties that differ, against statsmodels and lifelines."""

from __future__ import annotations

import json
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
from wardround.common.vertical.coarse import Coarse, cleared, opened
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
    assert told["figures"] == {"events": survival[:, 1].sum(), "intervals": 20}
    assert {one["column"] for one in told["left_out"]} == {"constant", "rare", "stage=IV"}
    assert "intercept" not in told


def test_a_ridge_is_that_of_lifelines() -> None:
    found = draw()
    turns, _ = consortium(found, "cox", ridge=0.1).run()
    _, coefficients, _ = read(turns["lab"].told[TOLD])
    table = DataFrame(matrix(found), columns=list(ORDER)).assign(
        t=found["survival"][:, 0], e=found["survival"][:, 1]
    )
    fitter = CoxPHFitter(penalizer=0.1).fit(table, "t", "e")
    scale = table[list(ORDER)].std().to_numpy()
    apart = (coefficients - fitter.params_[list(ORDER)].to_numpy()) * scale
    np.testing.assert_allclose(apart, 0, atol=0.01)
