"""A lower bound on epsilon from one run with canaries (Steinke, Nasr, Jagielski 2023, 2305.08846).

m canaries are in or out by independent fair coins. An auditor who sees the outputs guesses r of
them; under (epsilon, delta)-DP the number of right guesses is hardly more than a binomial of
e^epsilon / (1 + e^epsilon) (their theorem 5.2). So many right guesses rule small epsilons out.

A canary here is a gradient of norm C along a coordinate of its own (their white-box canaries): the
strongest unit that clipping lets through. It goes the way of every other unit: Poisson sampling,
the sum, rounding, noise.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

Reals = NDArray[np.float64]
_SHARES = (0.05, 0.1, 0.2)
"""Of the canaries that are guessed: fixed beforehand, and paid for by Bonferroni's correction."""


@dataclass(frozen=True)
class OneRun:
    """What a one-run audit found.

    guesses, correct : of the share that gave the best bound
    lower_bound : epsilon is above this with the given confidence, if the audit is right
    """

    canaries: int
    guesses: int
    correct: int
    delta: float
    confidence: float
    lower_bound: float


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """How likely so many right guesses are under (epsilon, delta)-DP, at most (theorem 5.2).

    f(v) + 2 m delta max_i (f(v - i) - f(v)) / i over i = 1..v, for v right ones of r guesses among
    m canaries, where f(v) = P[Binomial(r, e^epsilon / (1 + e^epsilon)) >= v].
    """
    right = 1 / (1 + math.exp(-epsilon))
    tail = float(binom.sf(correct - 1, guesses, right))
    if delta == 0 or correct == 0:
        return min(1.0, tail)
    below = np.cumsum(binom.pmf(correct - np.arange(1, correct + 1), guesses, right))
    alpha = float(np.max(below / np.arange(1, correct + 1)))
    return min(1.0, tail + 2 * canaries * delta * alpha)


def epsilon_lower_bound(
    canaries: int, guesses: int, correct: int, delta: float, confidence: float = 0.95
) -> float:
    """Every smaller epsilon is ruled out at this confidence; 0 if none is."""

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, correct, epsilon, delta) - (1 - confidence)

    if excess(0.0) > 0:
        return 0.0
    high = 1.0
    while excess(high) < 0 and high < 1e3:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-4)) if high < 1e3 else high


def judge(
    scores: Reals, included: NDArray[np.bool_], delta: float, confidence: float = 0.95
) -> OneRun:
    """Guess 'in' for the highest scores and 'out' for the lowest, and take the best bound."""
    order, count = np.argsort(scores), len(scores)
    best: OneRun | None = None
    for share in _SHARES:
        half = max(1, round(share * count / 2))
        correct = int(included[order[-half:]].sum() + (~included[order[:half]]).sum())
        each = 1 - (1 - confidence) / len(_SHARES)
        bound = epsilon_lower_bound(count, 2 * half, correct, delta, each)
        if best is None or bound > best.lower_bound:
            best = OneRun(count, 2 * half, correct, delta, confidence, bound)
    assert best is not None  # there is at least one share
    return best


class Canaries:
    """m canaries, each in or out by the operating system's coin, and what was seen of them.

    Parameters
    ----------
    norm : C, the clipping norm
    """

    def __init__(self, count: int, norm: float) -> None:
        coins = np.frombuffer(secrets.token_bytes(count), np.uint8)
        self.included: NDArray[np.bool_] = coins % 2 == 1
        self.norm, self.scores = norm, np.zeros(count)

    def __len__(self) -> int:
        return len(self.included)

    def contribution(self, sampled: NDArray[np.int64]) -> Reals:
        """The sum of those canaries that are in and sampled, m coordinates."""
        total = np.zeros(len(self))
        total[sampled] = self.norm * self.included[sampled]
        return total

    def observe(self, released: Reals) -> None:
        """Take in what a release says of the m coordinates."""
        self.scores += released
