"""The algebra of the lying server, by hand and against numpy's ranks."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.lying.solving import Equation, solutions, vanishing

TRUTH = {"a": 3.0, "b": -5.0, "c": 7.0, "d": 11.0}


def equation(question: str, **coefficients: float) -> Equation:
    factors = {name: Fraction(one).limit_denominator() for name, one in coefficients.items()}
    value = sum(float(one) * TRUTH[name] for name, one in factors.items())
    return Equation(question, factors, np.array([value]))


def told(equations: list[Equation], fewest: int) -> dict[str, float]:
    return {
        "".join(sorted(names)): round(float(value[0]), 9)
        for _, names, value in solutions(equations, fewest)
    }


def test_two_sums_that_differ_by_one_are_that_ones_numbers() -> None:
    both = [equation("x", a=1, b=1, c=1, d=1), equation("x", a=1, b=1, c=1)]
    assert told(both, 3) == {"d": 11.0}
    assert told(both[:1], 3) == {} and told(both, 1) == {}
    # of another question nothing is told
    assert told([both[0], equation("y", a=1, b=1, c=1)], 3) == {}


def test_three_weights_are_three_equations() -> None:
    asked = [equation("x", a=1 / n, b=1 / 2, c=n) for n in (1, 2, 4)]
    assert told(asked, 3) == {"a": 3.0, "b": -5.0, "c": 7.0}


def test_a_pair_that_stands_alone_is_fewer_than_three() -> None:
    pair = [equation("x", a=1, b=1, c=1, d=1), equation("x", c=1, d=1)]
    assert told(pair, 3) == {"ab": -2.0, "cd": 18.0}
    assert told(pair, 2) == {}


@given(st.lists(st.lists(st.integers(-2, 2), min_size=5, max_size=5), max_size=5), st.data())
def test_ranks_say_the_same(numbers: list[list[int]], data: st.DataObject) -> None:
    """A combination that is left outside some columns is there iff these have a smaller rank."""
    columns = data.draw(st.lists(st.integers(0, 4), unique=True, max_size=4))
    rows = [[Fraction(one) for one in row] for row in numbers]
    mix = vanishing(rows, columns)
    whole = np.array(numbers, float).reshape(-1, 5)
    ranks = [np.linalg.matrix_rank(x) if x.size else 0 for x in (whole, whole[:, columns])]
    assert (mix is not None) == (ranks[0] > ranks[1])
    if mix is not None:
        combined = np.array([float(one) for one in mix]) @ whole
        assert np.allclose(combined[columns], 0) and np.abs(combined).max() > 1e-9
