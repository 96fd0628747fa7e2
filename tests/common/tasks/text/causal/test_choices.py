"""Probabilities of choices by hand: of three answers of 1, 2 and 1 tokens."""

from __future__ import annotations

import numpy as np
import pytest

from wardround.common.tasks.text.causal.figures import choice_probabilities
from wardround.common.tasks.text.causal.rows import decoded

LIKELIHOODS = ((-2.0,), (-0.5, -0.75), (-1.5,))


def targets() -> np.ndarray:
    """Two rows: a prompt of two tokens, the answers; the second begins a place later."""
    codes = np.zeros((2, 7), dtype=np.int64)
    known = {int(decoded(np.array([code]))[1][0]): code for code in range(4 * 128, 4 * 132)}
    for row in (0, 1):
        codes[row, 2 + row : 6 + row] = [known[1], known[2], known[2], known[3]]
    return codes


@pytest.mark.parametrize(
    ("mean", "scores"), [(False, (-2, -1.25, -1.5)), (True, (-2, -0.625, -1.5))]
)
def test_a_choice_has_the_likelihood_of_its_own_tokens(
    mean: bool, scores: tuple[float, ...]
) -> None:
    outputs = np.full((2, 7, 2), -9.0, dtype=np.float32)  # of tokens that no choice has
    said = [one for answer in LIKELIHOODS for one in answer]
    for row in (0, 1):
        outputs[row, 2 + row : 6 + row, 0] = said
    odds = np.exp(scores)
    found = choice_probabilities(outputs, targets(), 3, mean)
    assert found == pytest.approx(np.array([odds / odds.sum()] * 2))
