"""Families of generalised linear models: what a hospital adds up at a linear predictor.

    linear             y = eta + e
    logistic           y is 0 or 1, log(p / (1 - p)) = eta
    poisson            y counts, log(mean) = eta
    gamma              y > 0, log(mean) = eta, deviation in proportion to the mean
    negative_binomial  y counts, log(mean) = eta, variance mean + alpha mean^2

(McCullagh and Nelder, Generalized Linear Models, 1989; NB2 of Cameron and Trivedi.) A row's weight
multiplies its likelihood. ``curvature`` is the observed information, so that Newton's steps
converge in squares; ``expected`` is what statsmodels' GLM makes standard errors of.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, expit, gammaln, polygamma, xlogy

Floats = NDArray[np.float64]
MOST_PREDICTOR = 30.0
"""Linear predictors of a logarithm are cut here: a search that left the road meets no infinity."""


@dataclass(frozen=True)
class Terms:
    """Of N rows, each without its weight.

    likelihood : N, up to what the family's ``likelihood`` adds
    slope : N, its derivative by the linear predictor
    curvature : N, minus the second one
    """

    likelihood: Floats
    slope: Floats
    curvature: Floats


class Family(ABC):
    """Stateless but for ``alpha``.

    dispersed : whether the variance has a factor that is estimated
    counts : whether persons whose outcome isn't 0 are a cell of their own
    link : 'identity', 'logit' or 'log'
    effect : what an exponentiated coefficient is called; '' for none
    """

    dispersed: ClassVar[bool] = False
    counts: ClassVar[bool] = False
    link: ClassVar[str] = "log"
    effect: ClassVar[str] = "ratio"

    @abstractmethod
    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        """N: outcomes that can't be."""

    @abstractmethod
    def terms(self, y: Floats, eta: Floats) -> Terms:
        """Of each row."""

    @abstractmethod
    def expected(self, y: Floats, eta: Floats) -> Floats:
        """N, the expected information by the linear predictor."""

    @abstractmethod
    def deviance(self, y: Floats, eta: Floats) -> Floats:
        """N."""

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        """N, squared residuals over the variance."""
        mean = self.mean(eta)
        found: Floats = (y - mean) ** 2 / self.variance(mean)
        return found

    def mean(self, eta: Floats) -> Floats:
        """N, of the outcome."""
        found: Floats = np.exp(np.clip(eta, -MOST_PREDICTOR, MOST_PREDICTOR))
        return found

    @abstractmethod
    def variance(self, mean: Floats) -> Floats:
        """N, but for the dispersion."""

    def start(self, mean: float) -> float:
        """The linear predictor of a mean."""
        return float(np.log(mean))


class Linear(Family):
    """An ordinary one: constant variance."""

    dispersed, link, effect = True, "identity", ""

    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        return ~np.isfinite(y)

    def terms(self, y: Floats, eta: Floats) -> Terms:
        return Terms(-0.5 * (y - eta) ** 2, y - eta, np.ones_like(eta))

    def expected(self, y: Floats, eta: Floats) -> Floats:
        return np.ones_like(eta)

    def deviance(self, y: Floats, eta: Floats) -> Floats:
        found: Floats = (y - eta) ** 2
        return found

    def mean(self, eta: Floats) -> Floats:
        return eta

    def variance(self, mean: Floats) -> Floats:
        return np.ones_like(mean)

    def start(self, mean: float) -> float:
        return mean


class Logistic(Family):
    """Of yes and no."""

    link, effect, counts = "logit", "odds ratio", True

    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (y != 0) & (y != 1)
        return found

    def terms(self, y: Floats, eta: Floats) -> Terms:
        mean = self.mean(eta)
        return Terms(y * eta - np.logaddexp(0.0, eta), y - mean, mean * expit(-eta))

    def expected(self, y: Floats, eta: Floats) -> Floats:
        return self.terms(y, eta).curvature

    def deviance(self, y: Floats, eta: Floats) -> Floats:
        return -2 * self.terms(y, eta).likelihood

    def mean(self, eta: Floats) -> Floats:
        found: Floats = expit(eta)
        return found

    def variance(self, mean: Floats) -> Floats:
        return mean * (1 - mean)

    def pearson(self, y: Floats, eta: Floats) -> Floats:
        found: Floats = np.exp(np.where(y > 0, -1.0, 1.0) * np.clip(eta, -500.0, 500.0))
        return found

    def start(self, mean: float) -> float:
        return float(np.log(mean / (1 - mean)))


class Poisson(Family):
    """Of counts, or of events and an offset of time."""

    counts, effect = True, "rate ratio"

    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = ~(y >= 0) | ~np.isfinite(y)
        return found

    def terms(self, y: Floats, eta: Floats) -> Terms:
        mean = self.mean(eta)
        return Terms(y * np.log(mean) - mean - gammaln(y + 1), y - mean, mean)

    def expected(self, y: Floats, eta: Floats) -> Floats:
        return self.mean(eta)

    def deviance(self, y: Floats, eta: Floats) -> Floats:
        mean = self.mean(eta)
        found: Floats = 2 * (xlogy(y, y / mean) - (y - mean))
        return found

    def variance(self, mean: Floats) -> Floats:
        return mean


class Gamma(Family):
    """Of positive numbers, costs above all."""

    dispersed = True

    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = ~(y > 0) | ~np.isfinite(y)
        return found

    def terms(self, y: Floats, eta: Floats) -> Terms:
        mean = self.mean(eta)
        return Terms(-y / mean - np.log(mean), y / mean - 1, y / mean)

    def expected(self, y: Floats, eta: Floats) -> Floats:
        return np.ones_like(eta)

    def deviance(self, y: Floats, eta: Floats) -> Floats:
        mean = self.mean(eta)
        found: Floats = 2 * ((y - mean) / mean - np.log(y / mean))
        return found

    def variance(self, mean: Floats) -> Floats:
        found: Floats = mean**2
        return found


@dataclass(frozen=True)
class NegativeBinomial(Family):
    """With a given alpha; ``by_alpha`` is for one that is estimated."""

    alpha: float = 1.0
    counts = True
    effect = "rate ratio"

    def wrong(self, y: Floats) -> NDArray[np.bool_]:
        return Poisson().wrong(y)

    def terms(self, y: Floats, eta: Floats) -> Terms:
        mean, a = self.mean(eta), 1 / self.alpha
        whole = gammaln(y + a) - gammaln(a) - gammaln(y + 1) - a * np.log1p(mean * self.alpha)
        likelihood = whole + y * (np.log(mean) - np.log(a + mean))
        over = 1 + self.alpha * mean
        return Terms(likelihood, (y - mean) / over, mean * (1 + self.alpha * y) / over**2)

    def by_alpha(self, y: Floats, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """N each, by log(alpha): the slope, minus the second derivative, and minus the one by
        log(alpha) and the linear predictor."""
        mean, a = self.mean(eta), 1 / self.alpha
        slope = digamma(y + a) - digamma(a) - np.log1p(mean / a) + (mean - y) / (a + mean)
        second = polygamma(1, y + a) - polygamma(1, a) + mean / (a * (a + mean))
        second = second - (mean - y) / (a + mean) ** 2
        cross = (y - mean) * mean / (a + mean) ** 2
        return -a * slope, -(a * a * second + a * slope), a * cross

    def expected(self, y: Floats, eta: Floats) -> Floats:
        mean = self.mean(eta)
        return mean / (1 + self.alpha * mean)

    def deviance(self, y: Floats, eta: Floats) -> Floats:
        mean, a = self.mean(eta), 1 / self.alpha
        found: Floats = 2 * (xlogy(y, y / mean) - (y + a) * np.log((y + a) / (mean + a)))
        return found

    def variance(self, mean: Floats) -> Floats:
        return mean + self.alpha * mean**2


def family(name: str, alpha: float | None = None) -> Family:
    """By its name in the settings."""
    plain: dict[str, type[Family]] = {
        "linear": Linear,
        "logistic": Logistic,
        "poisson": Poisson,
        "gamma": Gamma,
    }
    return plain[name]() if name in plain else NegativeBinomial(1.0 if alpha is None else alpha)
