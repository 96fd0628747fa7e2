"""Whole regressions of parties that differ, against the pooled one of statsmodels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from tests.common.vertical.consortium import Consortium
from tests.common.vertical.table import DEALER
from wardround.common.errors import JointRefused
from wardround.common.joint.party import Party
from wardround.common.vertical.told import TOLD

ROWS = 600


def draw(rows: int = ROWS, seed: int = 0, intercept: float = -0.5) -> dict[str, Any]:
    """Columns of several parties, and a two-valued outcome of them."""
    random = np.random.default_rng(seed)
    age = random.normal(60, 12, rows)
    smoker = (random.random(rows) < 0.3).astype(float)
    marker = 1e-4 * np.exp(random.normal(0, 1, rows) + 0.02 * (age - 60))
    stage = random.choice(["I", "II", "III"], rows, p=[0.5, 0.3, 0.2])
    dose = 1000.0 + 50 * random.normal(0, 1, rows)
    eta = intercept + 0.04 * (age - 60) + 0.8 * smoker + 0.6 * (stage == "III")
    eta += 3e3 * np.minimum(marker, 5e-4) - 0.005 * (dose - 1000)
    outcome = (random.random(rows) < 1 / (1 + np.exp(-eta))).astype(float)
    return {
        "age": age,
        "smoker": smoker,
        "marker": marker,
        "stage": stage,
        "dose": dose,
        "constant": np.full(rows, 3.0),
        "y": outcome,
        "eta": eta + random.normal(0, 2, rows),
    }


def consortium(found: dict[str, Any], holders: int = 2, **options: Any) -> Consortium:
    """Of 2 or 3 parties; the category has a level that nobody has."""
    columns = [
        {name: found[name] for name in ("age", "smoker", "constant")},
        {name: found[name] for name in ("marker", "stage", "dose")},
    ]
    if holders == 3:
        columns[1].pop("dose")
        columns.append({"dose": found["dose"]})
    names = ("hospital", "lab", "registry")
    linear = options.get("model") == "linear"
    return Consortium(
        dict(zip(names, columns, strict=False)),
        (names[holders - 1], found["eta" if linear else "y"]),
        levels={"stage": ["I", "II", "III", "IV"]},
        options=options,
    )


def matrix(found: dict[str, Any]) -> Any:
    """What the pooled regression is of."""
    levels = [(found["stage"] == text).astype(float) for text in ("II", "III")]
    return sm.add_constant(
        np.column_stack([found["age"], found["smoker"], found["marker"], found["dose"], *levels])
    )


ORDER = ("age", "smoker", "marker", "dose", "stage=II", "stage=III")


def read(text: str) -> tuple[Any, Any, Any]:
    """(all that was told, coefficients, standard errors) in the order of ``matrix``."""
    told = json.loads(text)
    found = {one["column"]: one for one in told["coefficients"]}
    parts = [[found[name][key] for name in ORDER] for key in ("coefficient", "standard_error")]
    return told, np.array([told["intercept"], *parts[0]]), np.array(parts[1])


@pytest.mark.parametrize("holders", [2, 3])
def test_a_logistic_regression_is_the_pooled_one(holders: int) -> None:
    data = draw()
    last, _ = consortium(data, holders).run()
    texts = {turn.told[TOLD] for name, turn in last.items() if name != DEALER}
    assert len(texts) == 1 and not last[DEALER].told
    told, coefficients, errors = read(texts.pop())
    pooled = sm.Logit(data["y"], matrix(data)).fit(disp=0)
    assert (np.abs(coefficients - pooled.params) < pooled.bse / 10).all()
    np.testing.assert_allclose(errors, pooled.bse[1:], rtol=1e-2)
    np.testing.assert_allclose(told["figures"]["deviance"], -2 * pooled.llf, rtol=5e-4)
    np.testing.assert_allclose(told["figures"]["null_deviance"], -2 * pooled.llnull, rtol=1e-5)
    assert told["persons_at_most"] == ROWS and len(told["coefficients"]) == len(ORDER)
    assert [one["column"] for one in told["left_out"]] == ["constant", "stage=IV"]


def test_a_linear_regression_is_the_pooled_one() -> None:
    data = draw(rows=211, seed=2)
    last, _ = consortium(data, 3, model="linear").run()
    told, coefficients, errors = read(last["lab"].told[TOLD])
    pooled = sm.OLS(data["eta"], matrix(data)).fit()
    assert (np.abs(coefficients - pooled.params) < pooled.bse / 10).all()
    np.testing.assert_allclose(errors, pooled.bse[1:], rtol=1e-2)
    # sums of 211 persons are told to 2^-4 at a party, which is 1 / 3000 of their mean square
    np.testing.assert_allclose(told["figures"]["r_squared"], pooled.rsquared, atol=1e-3)
    assert told["persons_at_most"] == 216


def test_a_rare_outcome_with_a_penalty() -> None:
    data = draw(rows=20_000, seed=3, intercept=-7.0)
    assert data["y"].mean() < 0.004
    last, _ = consortium(data, 2, ridge=1e-4).run()
    told = json.loads(last["lab"].told[TOLD])
    found = {one["column"]: one["coefficient"] for one in told["coefficients"]}
    x = (full := matrix(data)) - full.mean(0) * np.r_[0, np.ones(6)]
    x[:, 1:] /= full[:, 1:].std(0)
    keep = [0, *(1 + ORDER.index(name) for name in ORDER if name in found)]
    x, point = x[:, keep], np.zeros(len(keep))
    penalty = 1e-4 * np.r_[0, np.ones(len(keep) - 1)]
    for _ in range(30):  # Newton, pooled
        mean = 1 / (1 + np.exp(-x @ point))
        slope = x.T @ (data["y"] - mean) / len(x) - penalty * point
        curvature = (x.T * (mean * (1 - mean))) @ x / len(x) + np.diag(penalty)
        point = point + np.clip(np.linalg.solve(curvature, slope), -1, 1)
    got = [found[ORDER[place - 1]] * full[:, place].std() for place in keep[1:]]
    np.testing.assert_allclose(got, point[1:], atol=0.02)
    assert len(got) >= 4


def test_columns_whose_counts_with_others_are_few_are_left_out_together() -> None:
    data = draw()
    data["smoker"] = np.where(data["stage"] == "III", 0.0, data["smoker"])
    last, _ = consortium(data).run()
    told = json.loads(last["lab"].told[TOLD])
    (gone,) = [one for one in told["left_out"] if "another column" in one["why"]]
    assert gone == {
        "party": "lab",
        "column": "stage=III",
        "why": "a count with another column has too few persons",
    }
    x = np.delete(matrix(data), 6, axis=1)
    pooled = sm.Logit(data["y"], x).fit(disp=0)
    got = [one["coefficient"] for one in told["coefficients"] if one["column"] == "smoker"]
    np.testing.assert_allclose(got, pooled.params[2], atol=pooled.bse[2] / 10)


def test_parties_that_are_killed_at_every_step_send_the_same_bytes() -> None:
    """So no mask hides two values, whenever a party or the dealer is killed."""
    group = consortium(draw(rows=200), 3, iterations=6)

    def killed(_: int, parties: dict[str, Party]) -> None:
        for name, party in parties.items():
            state = party.state()
            kept = {key: array.copy() for key, array in state.items()}
            parties[name] = group.party(
                name, kept if "step" in kept and kept["step"][0] >= 0 else None
            )

    whole, sent = group.run()
    again, resent = group.run(before=killed)
    assert resent == sent
    assert {name: turn.told for name, turn in again.items()} == {
        name: turn.told for name, turn in whole.items()
    }


def few(rows: int) -> Consortium:
    data = draw(rows=rows)
    data["y"][: rows // 2] = 1.0
    data["y"][rows // 2 :] = 0.0
    return consortium(data, smallest_cell=3)


def few_numbers() -> Consortium:
    return consortium(draw(rows=24), model="linear", smallest_cell=3)


def separated() -> Consortium:
    data = draw()
    data["age"] = np.where(data["y"] == 1, 70.0, 50.0) + np.arange(ROWS) / ROWS
    return consortium(data)


def collinear() -> Consortium:
    data = draw()
    data["dose"] = 2 * data["age"] + 1
    return consortium(data)


def three_valued() -> Consortium:
    data = draw()
    data["y"][0] = 2.0
    return consortium(data)


def rare() -> Consortium:
    data = draw()
    data["y"][:] = 0
    data["y"][:4] = 1
    return consortium(data)


def other_links() -> Consortium:
    found = consortium(draw())
    found.digests = {"lab": b"e" * 32}
    return found


def two_valued() -> Consortium:
    data = draw()
    return consortium(data | {"eta": data["y"]}, model="linear")


def all_constant() -> Consortium:
    data = draw()
    return Consortium(
        {"a": {"x": data["constant"]}, "b": {"z": data["constant"]}}, ("b", data["y"])
    )


@pytest.mark.parametrize(
    ("case", "words", "step"),
    [
        (lambda: few(33), "could be solved for outcomes", -1),
        (few_numbers, "more numbers would be opened than persons", 1),
        (lambda: few(1), "too few persons", -1),
        (separated, "tell the outcome by itself", None),
        (collinear, "determine each other", None),
        (three_valued, "two-valued", -1),
        (two_valued, "take model = 'logistic'", -1),
        (rare, "too few persons", -1),
        (other_links, "links differ", 1),
        (all_constant, "no input is left", 1),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(case: Any, words: str, step: int | None) -> None:
    reached = [-1]

    def before(number: int, _: dict[str, Party]) -> None:
        reached[0] = number

    with pytest.raises(JointRefused, match=words):
        case().run(before)
    if step is not None:
        assert reached[0] == step, "before anything was opened"
