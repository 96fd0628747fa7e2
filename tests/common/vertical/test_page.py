"""A vertical model's table: ratios, intervals and p of coefficients and standard errors."""

from __future__ import annotations

import math

import pytest
from scipy.stats import norm

from wardround.common.vertical.page import PAGE, TABLE, files, text
from wardround.common.vertical.procedure import Vertical
from wardround.common.vertical.told import TOLD

FOUND = {
    "model": "logistic",
    "outcome": {"party": "registry", "column": "died"},
    "parties": ["lab", "registry"],
    "dealer": "coordinator",
    "persons_at_most": 1000,
    "coefficients": [
        {"party": "lab", "column": "<crp>", "coefficient": 0.07, "standard_error": 0.03},
        {"party": "lab", "column": "=cmd", "coefficient": -2.0, "standard_error": 0.1},
    ],
    "left_out": [{"party": "lab", "column": "rare", "why": "too few"}],
    "ridge": 0.0,
    "figures": {"deviance": 931.5},
    "intercept": -3.0,
}


def test_ratios_intervals_and_p_are_those_of_the_normal_distribution() -> None:
    head, first, second, last = files(FOUND)[TABLE].splitlines()
    assert head == "column,at,coefficient,std. error,odds ratio,95 % from,to,p"
    *_, ratio, low, high, p = first.split(",")
    assert float(ratio) == pytest.approx(math.exp(0.07), rel=1e-5)
    assert float(low) == pytest.approx(math.exp(0.07 + 0.03 * norm.ppf(0.025)), rel=1e-5)
    assert float(high) == pytest.approx(math.exp(0.07 + 0.03 * norm.ppf(0.975)), rel=1e-5)
    assert float(p) == pytest.approx(2 * norm.sf(0.07 / 0.03), rel=1e-4)
    assert second.startswith("'=cmd,lab,-2,0.1,") and last == "(intercept),,-3,,,,,"


def test_the_page_and_the_terminal_say_what_was_left_out() -> None:
    page = files(FOUND)[PAGE]
    assert "&lt;crp&gt;" in page and "<crp>" not in page and "left out: rare (lab)" in page
    shown = text(FOUND)
    assert "< .001" in shown and "deviance 931.5" in shown and "left out: rare" in shown


@pytest.mark.parametrize(
    "told",
    ["[" * 100_000, "[]", "{}", '{"model": 3}', '{"model": "cox", "coefficients": [1]}', "x"],
)
def test_what_no_party_of_ours_tells_is_published_as_it_came(told: str) -> None:
    procedure = object.__new__(Vertical)
    assert set(procedure.published({TOLD: told})) == {TOLD}


def test_with_a_ridge_there_are_no_intervals() -> None:
    shown = text({**FOUND, "ridge": 0.5})
    assert "without intervals" in shown and "< .001" not in shown
    linear = files({**FOUND, "model": "linear"})[TABLE].splitlines()
    assert linear[0] == "column,at,coefficient,std. error,95 % from,to,p"
