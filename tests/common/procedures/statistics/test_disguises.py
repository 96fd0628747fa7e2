"""No formula, outcome or weight makes figures in full that are equations for few persons."""

import json

import numpy as np
import pytest
from patsy import dmatrix

from tests.common.procedures.statistics.unlike import asked, hospitals
from wardround.common.procedures.statistics.regression.formula import read_formula
from wardround.common.procedures.statistics.regression.leverage import Limit, leverages
from wardround.common.procedures.statistics.regression.solve import upper

SPIKE = "exp(0 - 1000 * (age - 140) ** 2)"


def people():
    """One is 140 years old; three have anything to weigh; ``rare`` are three, one in arm A."""
    frames, rng = hospitals(5, rows=(150, 33, 60)), np.random.default_rng(9)
    for frame in frames:
        frame["rare"], frame["w"] = 0.0, 1e-9
        frame["pressure"] = rng.normal(120, 12, len(frame)).round(1)
        frame["visits"] = rng.integers(0, 2, len(frame)).astype(float)
        frame["treated"] = rng.integers(0, 2, len(frame))
    frames[0].loc[[3, 8, 11], "rare"] = 1.0
    frames[0].loc[[1, 2, 3], "w"] = 1.0
    frames[0].loc[4, "visits"] = 2.0
    frames[0].loc[7, "age"] = 140.0
    return frames


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"formula": "rare ~ C(stage)"}, "value 2 of the outcome"),
        ({"formula": "I(3 * rare + 1) ~ age"}, "value 2 of the outcome"),
        ({"formula": "I(age == 140) ~ dose"}, "value 2 of the outcome"),
        ({"formula": "visits ~ age", "family": "poisson"}, "value 3 of the outcome"),
        ({"formula": "visits ~ dose", "kind": "penalised_regression"}, "of the outcome"),
        ({"formula": f"pressure ~ age + I(age + 20 * {SPIKE})"}, "may decide a coefficient"),
        ({"formula": f"treated ~ age + I(age + 9 * {SPIKE})", "family": "logistic"}, "may decide"),
        ({"formula": "pressure ~ dose", "weights": "w"}, "may decide a coefficient"),
        ({"formula": "pressure ~ bs(age, knots=[60, 130], bounds=[0, 150])"}, "from 130 to"),
        ({"kind": "propensity", "formula": "treated ~ dose", "outcome": "rare"}, "no effect"),
    ],
)
def test_few_persons_are_named_and_no_figure_is_shown(options, named):
    files = asked(people(), {"name": "a", "kind": "regression"} | options)
    found = json.loads(files["statistics.json"])["analyses"][0]
    assert named in " ".join(found["notes"])
    assert not {"coefficients", "effect", "fit"} & {*found["values"]}


def test_an_outcome_of_two_values_is_looked_at_in_each_level():
    frames = people()
    frames[0].loc[frames[0]["stage"] == "A", "visits"] = 0.0
    frames[1].loc[:, "visits"] = 0.0
    frames[2].loc[frames[2]["stage"] != "B", "visits"] = 0.0
    frames[0].loc[4, "visits"] = 0.0
    frames[0].loc[frames[0].index[frames[0]["stage"] == "A"][:2], "visits"] = 1.0
    found = asked(frames, {"name": "a", "kind": "regression", "formula": "visits ~ C(stage)"})
    assert "Fewer than 5 persons of one outcome are in C(stage)[A]" in found["statistics.json"]
    for frame in frames:
        frame["visits"] = np.arange(len(frame)) % 2
    found = asked(frames, {"name": "a", "kind": "regression", "formula": "visits ~ age"})
    assert "coefficients" in json.loads(found["statistics.json"])["analyses"][0]["values"]


@pytest.mark.parametrize("few", [1, 2, 3, 4])
def test_columns_of_which_few_persons_have_a_combination_are_beyond_the_limit(few):
    """By the theorem: their leverages add up to 1, however the columns are mixed."""
    rng = np.random.default_rng(few)
    x = np.column_stack([np.ones(90), rng.normal(size=(90, 2)), np.arange(90) < few])
    weights, limit = rng.uniform(0.5, 2, 90), Limit.of(read_formula("y ~ x + I(x ** 2)"), False, 5)
    for columns, reached in ((x @ rng.normal(size=(4, 4)), True), (x[:, :3], False)):
        found = leverages(columns, weights, upper(columns.T @ (columns * weights[:, None])))
        root = columns * np.sqrt(weights)[:, None]
        hat = root @ np.linalg.pinv(root.T @ root) @ root.T
        np.testing.assert_allclose(found, np.diag(hat), atol=1e-9)
        assert limit.reached(limit.powers(found)) is reached


def test_persons_rows_are_one_persons():
    """Of twelve rows of one person none has much; together they have a column."""
    indicator = np.r_[np.ones(12), np.zeros(88)]
    x = np.asarray(dmatrix("i", {"i": indicator}))
    rows = leverages(x, np.ones(100), upper(x.T @ x))
    limit = Limit.of(read_formula("y ~ i"), False, 5)
    assert not limit.reached(limit.powers(rows))
    assert limit.reached(limit.powers(np.r_[rows[:12].sum(), rows[12:]]))
