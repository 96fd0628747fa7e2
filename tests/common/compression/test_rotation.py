"""The rotation is an orthogonal matrix that anybody can work out; after it no number stands out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard

from wardround.common.compression.rotation import BLOCK, signs, turn, turn_back


def turned(vector: np.ndarray, seed: int = 7) -> np.ndarray:
    result = vector.astype(np.float32)
    turn(result, signs(len(result), seed, "layer"))
    return result


@pytest.mark.parametrize("size", [1, 2, 8, 512, BLOCK])
def test_one_block_is_the_hadamard_matrix_times_signs(size: int) -> None:
    vector = np.random.default_rng(size).normal(size=size)
    minus = np.unpackbits(signs(size, 7, "layer"), count=size)
    expected = hadamard(size) @ (vector * (1.0 - 2.0 * minus)) / np.sqrt(size)
    assert np.abs(turned(vector) - expected).max() < 1e-5 * np.abs(vector).max() * np.sqrt(size)


@settings(max_examples=40)
@given(st.integers(1, 3 * BLOCK + 5), st.integers(0, 2**32 - 1))
def test_it_keeps_lengths_and_comes_back(size: int, seed: int) -> None:
    vector = np.random.default_rng(seed).standard_t(3, size).astype(np.float32)
    there = turned(vector, seed)
    assert float(there @ there) == pytest.approx(float(vector @ vector), rel=1e-4)
    turn_back(there, signs(size, seed, "layer"))
    assert np.abs(there - vector).max() <= 1e-5 * np.abs(vector).max()


@pytest.mark.parametrize("size", [1000, BLOCK - 1, 5000, 2 * BLOCK + 1, 12 * BLOCK])
@pytest.mark.parametrize("place", ["first", "last"])
def test_one_large_number_is_spread_over_a_block(size: int, place: str) -> None:
    """A vector of one number becomes one whose largest is a few root mean squares of a block: 1 in
    whole blocks, and where blocks overlap as the largest of so many normal numbers, of which some
    have twice the variance."""
    vector = np.zeros(size)
    vector[0 if place == "first" else -1] = 1.0
    assert np.abs(turned(vector)).max() <= 6 / np.sqrt(min(size, BLOCK))


def test_signs_are_of_the_seed_the_round_and_the_layer() -> None:
    drawn = [signs(800, 1, 2, "a"), signs(800, 1, 3, "a"), signs(800, 1, 2, "b")]
    drawn.append(signs(800, 2, 2, "a"))
    assert np.array_equal(drawn[0], signs(800, 1, 2, "a"))
    for one, other in zip(drawn, drawn[1:], strict=False):
        bits = np.unpackbits(one ^ other)
        assert 300 < bits.sum() < 500  # 400 of 800 differ; 7 standard deviations


def test_what_is_beyond_the_one_block_comes_into_all_of_it() -> None:
    """Of 96 the last 64 are turned after the first 64; a lone number there is in the first 32 by a
    third pass only. By Sylvester's halves: half of its square comes to 32 to 63, half of that on
    to 0 to 31."""
    lone = np.zeros(96)
    lone[-1] = 1.0
    result = turned(lone).astype(np.float64)
    assert (result[:32] ** 2).sum() == pytest.approx(0.25, abs=1e-6)
    assert (result[64:] ** 2).sum() == pytest.approx(0.5, abs=1e-6)
