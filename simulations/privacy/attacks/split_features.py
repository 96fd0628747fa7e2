"""Features read from the numbers that cross to the outcome's holder, by a learnt inverse.

The attacker knows the features of some of the persons (auxiliary data, as after a leak, or from
patients that both places have treated) and learns from these what the numbers stand for: a ridge
regression and a small network, of which the better one counts (He et al. 2019, «Model inversion
attacks against collaborative inference», the query-free case).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
_KNOWN = 0.25
_STEPS = 300
_C1, _C2 = 0.01**2, 0.03**2


@dataclass(frozen=True)
class Inverted:
    """How well features were read, of persons whose features the attacker doesn't know.

    explained : share of the features' variance that the attack explains (R2, all columns together)
    best, column : of the column that is read best
    similarity, mean_similarity : of images, the structural similarity (Wang et al. 2004, of the
        whole image as one window) of what was drawn, and of the mean image, with the truth
    """

    explained: float
    best: float
    column: int
    similarity: float | None = None
    mean_similarity: float | None = None


def read_features(
    crossed: Floats, truth: Floats, seed: int, images: tuple[int, ...] | None = None
) -> Inverted:
    """The attack.

    crossed : N x D, what the attacker has of each person
    truth : N x Q features; pixels in [0, 1] of images
    images : shape of one, if they are such
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(crossed))
    cut = max(2, int(_KNOWN * len(order)))
    known, asked = order[:cut], order[cut:]
    middle, spread = crossed[known].mean(0), crossed[known].std(0)
    inputs = (crossed - middle) / np.where(spread > 0, spread, 1.0)
    mean = truth[known].mean(0)
    guesses = [_ridge(inputs, truth, known, asked), _network(inputs, truth, known, asked, seed)]
    errors = [(np.square(truth[asked] - guess)).sum(0) for guess in guesses]
    error, guess = min(zip(errors, guesses, strict=True), key=lambda one: float(one[0].sum()))
    whole = np.square(truth[asked] - mean).sum(0)
    each = 1 - error / np.where(whole > 0, whole, np.inf)
    each[whole == 0] = -np.inf
    column = int(each.argmax())
    total = float(1 - error.sum() / max(float(whole.sum()), 1e-30))
    if images is None:
        return Inverted(total, float(each[column]), column)
    similar = [structural(a, b) for a, b in zip(guess, truth[asked], strict=True)]
    plain = [structural(mean, b) for b in truth[asked]]
    return Inverted(
        total, float(each[column]), column, float(np.mean(similar)), float(np.mean(plain))
    )


def _ridge(inputs: Floats, truth: Floats, known: Rows, asked: Rows) -> Floats:
    model = RidgeCV(alphas=np.logspace(-2, 4, 13)).fit(inputs[known], truth[known])
    return np.asarray(model.predict(inputs[asked])).reshape(len(asked), -1)


def _network(inputs: Floats, truth: Floats, known: Rows, asked: Rows, seed: int) -> Floats:
    mean, spread = truth[known].mean(0), truth[known].std(0)
    scale = np.where(spread > 0, spread, 1.0)
    wanted = (truth[known] - mean) / scale
    model = MLPRegressor(
        hidden_layer_sizes=(64,), alpha=1e-2, max_iter=_STEPS, random_state=seed, tol=1e-4
    )
    with warnings.catch_warnings():  # it may go on getting better: an attacker has no deadline
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs[known], wanted if wanted.shape[1] > 1 else wanted[:, 0])
    found = np.asarray(model.predict(inputs[asked]), np.float64).reshape(len(asked), -1)
    return np.asarray(found * scale + mean)


def structural(one: Floats, other: Floats) -> float:
    """Structural similarity of two images in [0, 1], over the whole of them: at most 1."""
    means = one.mean(), other.mean()
    both = float(((one - means[0]) * (other - means[1])).mean())
    light = (2 * means[0] * means[1] + _C1) / (means[0] ** 2 + means[1] ** 2 + _C1)
    return float(light * (2 * both + _C2) / (one.var() + other.var() + _C2))
