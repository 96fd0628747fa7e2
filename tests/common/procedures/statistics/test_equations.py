"""What regressions solve: symmetric equations, penalties, curves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from wardround.common.procedures.statistics.regression.penalty import Penalty, least
from wardround.common.procedures.statistics.regression.solve import (
    cholesky,
    inverse,
    solve,
    symmetric,
    upper,
)
from wardround.common.procedures.statistics.regression.splines import natural_splines

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed, size, more=0):
    """Summed products of random columns, of which ``more`` are sums of the others."""
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(5 * size, size)) * rng.uniform(0.1, 10, size)
    twice = columns @ rng.integers(1, 3, (size, more))
    columns = np.hstack([columns, twice])
    return columns.T @ columns, rng.normal(size=size + more)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 12))
def test_equations_are_solved_as_numpy_does(seed, size):
    matrix, right = drawn(seed, size)
    factor, kept = cholesky(matrix)
    assert kept.all()
    np.testing.assert_allclose(factor @ factor.T, matrix, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(
        solve(factor, kept, right), np.linalg.solve(matrix, right), rtol=1e-6, atol=1e-10
    )
    np.testing.assert_allclose(inverse(factor, kept) @ matrix, np.eye(size), atol=1e-7)
    assert np.array_equal(symmetric(upper(matrix), size), np.triu(matrix) + np.triu(matrix, 1).T)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(1, 3))
def test_columns_that_follow_from_earlier_ones_are_left_out(seed, size, more):
    matrix, right = drawn(seed, size, more)
    factor, kept = cholesky(matrix)
    assert kept.tolist() == [True] * size + [False] * more
    found = solve(factor, kept, right)
    assert (found[size:] == 0).all()
    np.testing.assert_allclose(
        found[:size], np.linalg.solve(matrix[:size, :size], right[:size]), rtol=1e-6, atol=1e-10
    )


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.integers(1, 10), st.floats(0, 1), st.floats(1e-3, 2))
def test_a_penalised_answer_holds_the_conditions_of_the_least(seed, size, mix, strength):
    matrix, right = drawn(seed, size)
    rows, factors = 5.0 * size, np.r_[0.0, np.ones(size - 1)]
    penalty = Penalty(strength, mix, factors)
    w = least(matrix, right, rows, penalty, np.zeros(size))
    slope = (right - matrix @ w) / rows - penalty.square() * w
    held = w != 0
    np.testing.assert_allclose(slope[held], (penalty.absolute() * np.sign(w))[held], atol=1e-9)
    assert (np.abs(slope[~held]) <= penalty.absolute()[~held] + 1e-9).all()


@pytest.mark.parametrize("knots", [[0.0, 1.0, 3.0], [-2.0, -1.0, 0.5, 4.0, 5.0]])
def test_natural_splines_bend_nowhere_beyond_their_knots(knots):
    beyond = np.r_[np.linspace(-9, knots[0], 7), np.linspace(knots[-1], 20, 7)]
    basis = natural_splines(beyond, knots)
    for half in (basis[:7], basis[7:]):
        np.testing.assert_allclose(np.diff(half, 2, axis=0), 0, atol=1e-8 * np.abs(basis).max())
    # each natural cubic curve through these knots is one of theirs
    rng = np.random.default_rng(0)
    inside = np.linspace(knots[0], knots[-1], 60)
    curve = CubicSpline(knots, rng.normal(size=len(knots)), bc_type="natural")(inside)
    columns = np.column_stack([np.ones(60), natural_splines(inside, knots)])
    assert columns.shape[1] == len(knots)
    found = np.linalg.lstsq(columns, curve, rcond=None)[0]
    np.testing.assert_allclose(columns @ found, curve, atol=1e-9)
