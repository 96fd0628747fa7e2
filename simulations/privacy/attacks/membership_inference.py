"""Who was in the training data, judged by the loss alone (Yeom et al. 2018, 1709.01604).

Reported as Carlini et al. 2022 (2112.03570) ask: not only how well on average, but how many members
are found while few others are taken for members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta
from sklearn.metrics import roc_auc_score, roc_curve

Losses = NDArray[np.float64]
_RATES = (0.001, 0.01, 0.1)
_THRESHOLDS = 200


@dataclass(frozen=True)
class Membership:
    """How well the loss tells members of the training data from others.

    auc : 0.5 is guessing; interval : of it, 95 % (Hanley, McNeil 1982)
    found : share of members found where a share of at most the key of others is taken for members;
        keys below 1 / others are left out, as too few others can't show them
    lower_bound : on epsilon, by the best threshold of one half of the records, counted on the other
        (Clopper-Pearson, 95 %)
    """

    members: int
    others: int
    auc: float
    interval: tuple[float, float]
    found: dict[float, float]
    lower_bound: float


def loss_threshold(
    member_losses: Losses, other_losses: Losses, delta: float, seed: int = 0
) -> Membership:
    """The attack. Raises ValueError with fewer than two records on a side."""
    members, others = len(member_losses), len(other_losses)
    if min(members, others) < 2:
        raise ValueError("at least two members and two others are needed")
    truth = np.concatenate([np.ones(members), np.zeros(others)])
    scores = -np.concatenate([member_losses, other_losses])
    auc = float(roc_auc_score(truth, scores))
    false, true, _ = roc_curve(truth, scores)
    found = {
        rate: float(true[np.flatnonzero(false <= rate)[-1]])
        for rate in _RATES
        if rate * others >= 1
    }
    reach = 1.96 * _deviation(auc, members, others)
    return Membership(
        members=members,
        others=others,
        auc=auc,
        interval=(max(0.0, auc - reach), min(1.0, auc + reach)),
        found=found,
        lower_bound=_lower_bound(truth, scores, delta, seed),
    )


def _deviation(auc: float, members: int, others: int) -> float:
    """Of an AUC A over m and n records (Hanley, McNeil 1982): the root of
    (A (1 - A) + (m - 1) (Q1 - A^2) + (n - 1) (Q2 - A^2)) / (m n),
    with Q1 = A / (2 - A) and Q2 = 2 A^2 / (1 + A)."""
    one, two = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (members - 1) * (one - auc**2) + (others - 1) * (two - auc**2)
    return math.sqrt(max(variance, 0.0) / (members * others))


def _lower_bound(truth: Losses, scores: Losses, delta: float, seed: int) -> float:
    """log of (TPR - delta) / FPR, both at the pessimistic end, either way round.

    Under (epsilon, delta)-DP TPR <= e^epsilon FPR + delta for every test. The test is chosen on one
    half of the records and counted on the other, so that the choice itself proves nothing.
    """
    half = np.random.default_rng(seed).permutation(len(truth)) % 2 == 0
    best, chosen = -math.inf, (0.0, True)
    for threshold in np.unique(np.quantile(scores[half], np.linspace(0, 1, _THRESHOLDS))):
        for above in (True, False):
            value = _bound(truth[half], scores[half], threshold, above, delta)
            if value > best:
                best, chosen = value, (float(threshold), above)
    return max(0.0, _bound(truth[~half], scores[~half], *chosen, delta))


def _bound(truth: Losses, scores: Losses, threshold: float, above: bool, delta: float) -> float:
    """Of one test: ``above`` takes scores from the threshold on for members; else scores below it
    for others, with the two sides' roles exchanged. Clopper-Pearson, 2.5 % at each end."""
    guessed = scores >= threshold if above else scores < threshold
    inside, outside = (truth == 1, truth == 0) if above else (truth == 0, truth == 1)
    hits, all_in = int(guessed[inside].sum()), int(inside.sum())
    wrong, all_out = int(guessed[outside].sum()), int(outside.sum())
    low = float(beta.ppf(0.025, hits, all_in - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, wrong + 1, all_out - wrong)) if wrong < all_out else 1.0
    return math.log((low - delta) / high) if low > delta else -math.inf
