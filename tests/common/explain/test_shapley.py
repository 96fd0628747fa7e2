"""Shapley values: closed forms, and the axioms they are defined by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.common.explain.shapley import MOST_EXACT, shapley_values


def singles(count: int) -> list[np.ndarray]:
    return [np.array([number]) for number in range(count)]


@pytest.mark.parametrize("columns", [4, MOST_EXACT + 3])
def test_a_linear_model_has_weight_times_distance_from_the_mean(columns: int) -> None:
    generator = np.random.default_rng(1)
    weights, background = generator.normal(size=columns), generator.normal(size=(7, columns))
    rows = generator.normal(size=(2, columns)) * [[1.0], [1e4]]  # another scale
    parts, errors, base = shapley_values(
        lambda x: x @ weights + 3, rows, background, singles(columns)
    )
    assert np.allclose(parts, weights * (rows - background.mean(axis=0)), rtol=1e-9)
    assert np.allclose(errors, 0, atol=1e-8) and np.isclose(base, background.mean(0) @ weights + 3)


def test_a_product_is_shared_alike() -> None:
    """f = x1 x2 against zeros: each has half of it (Shapley 1953)."""
    parts, _, base = shapley_values(
        lambda x: x[:, 0] * x[:, 1], np.array([[3.0, 5.0, 9.0]]), np.zeros((1, 3)), singles(3)
    )
    assert np.allclose(parts, [[7.5, 7.5, 0.0]]) and base == 0


@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_the_parts_add_up_whatever_is_drawn(seed: int, columns: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    weights = generator.normal(size=(columns, 3))

    def model(x: np.ndarray) -> np.ndarray:
        return np.tanh(x @ weights).prod(axis=1)

    row, background = generator.normal(size=(1, columns)), generator.normal(size=(rows, columns))
    parts, _, base = shapley_values(model, row, background, singles(columns), orders=4, seed=seed)
    assert np.isclose(parts.sum() + base, model(row)[0])


def test_drawn_orders_agree_with_all_sets_within_their_errors() -> None:
    generator = np.random.default_rng(5)
    weights = generator.normal(size=(12, 2))
    pairs = [np.array([2 * k, 2 * k + 1]) for k in range(6)]  # exact: 6 groups of 2 columns
    more = [*pairs, *(np.zeros(0, np.int64) for _ in range(6))]  # drawn: the same, and 6 of nothing
    row, background = generator.normal(size=(1, 12)), generator.normal(size=(3, 12))

    def model(x: np.ndarray) -> np.ndarray:
        return np.tanh(x @ weights).prod(axis=1)

    exact, _, _ = shapley_values(model, row, background, pairs)
    drawn, errors, _ = shapley_values(model, row, background, more, orders=400)
    assert (np.abs(drawn[0, :6] - exact[0]) < 5 * errors[0, :6] + 1e-12).all()
    assert np.allclose(drawn[0, 6:], 0)
