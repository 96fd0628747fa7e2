"""The privacy loss of many sampled Gaussian steps together, from above.

The loss of an output x is log P(x) / Q(x), x drawn from P, with P and Q the outputs on neighbours.
The loss of one step goes on a grid of spacing h so that no divergence shrinks (Connect the
Dots, Doroshenko et al. 2022, 2207.04380); all steps are convolved by one FFT; delta at epsilon is
E[(1 - exp(epsilon - loss))+].

Invariants
----------
- Cut tails count as an infinite loss; so does what the window of the FFT may have wrapped around.
- Before the FFT the losses are tilted, p(l) exp(lambda l) / M(lambda), with Chernoff's lambda for
  the wanted delta (or epsilon), so that rounding errors are relative to that delta, not to 1
  (Alghamdi et al. 2022, 2202.12326, use the same saddle point).
- h is fine enough for a variance that is at most 0.05 % too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
Group = tuple[float, float, int]
"""Noise multiplier, sampling rate, steps."""

_INFLATION = 0.0005
"""Of the variance of the composed loss, by the grid."""
_FINEST, _COARSEST = 1e-13, 0.05
_LONGEST_STEP, _LONGEST_WINDOW = 1 << 19, 1 << 22
_STEP_TAIL = 1e-24
_WRAPPED = 1e-12
"""Share of the tilted mass that may lie outside the window, on each side."""
_TILTS, _WEAKER, _SLACK = 12, 0.6, 1e-3
_LARGE, _EXPONENT = 30.0, 700.0


# --- one Gaussian ---------------------------------------------------------------------------------
def gaussian_delta(mu: float, epsilon: Reals | float) -> Reals:
    """Of noise multiplier 1 / mu: Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu) (Balle, Wang
    2018, theorem 8), without cancelling the two: a - b is written a (1 - exp(log b - log a)), so a
    delta of 1e-13 keeps its digits."""
    log_ndtr = _special().log_ndtr
    above, below = (log_ndtr(sign * mu / 2 - np.asarray(epsilon) / mu) for sign in (1, -1))
    return np.asarray(-np.exp(above) * np.expm1(np.minimum(0, epsilon + below - above)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon at ``delta``, rounded up by at most 1e-10."""
    # the loss is N(mu^2 / 2, mu^2): its Gaussian tail bound is above epsilon
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1e-300
    if gaussian_delta(mu, low) <= delta:
        return 0.0
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(mu, middle) > delta else (low, middle)
    return high


# --- one step's loss on a grid --------------------------------------------------------------------
@dataclass(frozen=True)
class _Step:
    """One part of a composition, in one direction (``remove`` a unit, or add it).

    z : noise multiplier; outputs are in units of the sensitivity
    q : sampling rate
    count : how many such steps there are

    With A = N(0, z^2) and B = (1 - q) N(0, z^2) + q N(1, z^2), removing is P = B, Q = A, and adding
    the reverse. These two are the worst neighbours (Zhu, Dong, Wang 2022, 2106.08567).
    """

    z: float
    q: float
    count: int
    remove: bool

    def loss(self, x: Reals) -> Reals:
        """Of an output x: +-log(B / A) = +-log(1 - q + q exp((2 x - 1) / (2 z^2))); x and the
        result any shape, float64."""
        odds = math.log(self.q) + (2 * x - 1) / (2 * self.z**2)
        mixed = np.logaddexp(math.log1p(-self.q), odds) if self.q < 1 else odds
        return mixed if self.remove else -mixed

    def sample(self) -> tuple[Reals, Reals]:
        """Losses and weights that stand for the distribution, to choose grid and tilt by."""
        u = np.linspace(-10.5, 10.5, 211)  # further than ``ends``
        weights = np.exp(-u * u / 2)
        weights /= weights.sum()
        if not self.remove:
            return self.loss(self.z * u), weights
        losses = self.loss(np.concatenate([self.z * u, 1 + self.z * u]))
        return losses, np.concatenate([(1 - self.q) * weights, self.q * weights])

    def ends(self) -> tuple[float, float]:
        """Losses beyond which next to nothing lies; the upper one cuts ``_STEP_TAIL``."""
        reach = -self.z * float(_special().ndtri(_STEP_TAIL))
        ends = self.loss(np.array([-reach, 1 + reach] if self.remove else [reach, -reach]))
        return float(ends[0]), float(ends[1])

    def delta(self, eps: Reals) -> Reals:
        """The hockey-stick divergence P(L > eps) - e^eps Q(L > eps), with small relative error.

        L > eps is x > x0 (remove) or x < x0 (add), with x0 = z^2 t + 1/2. For ``remove`` that makes
        q (Phi((1 - x0) / z) - e^t Phi(-x0 / z)), for adding (1 - (1 - q) e^eps) (Phi(x0 / z) -
        e^-t Phi((x0 - 1) / z)). Where t doesn't exist all outputs are on one side of eps.
        """
        sign = 1 if self.remove else -1
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # t: log of (e^s - (1 - q)) / q, the loss of the unsampled mechanism
            s = sign * eps
            t = np.where(
                s < _LARGE,
                np.log1p(np.expm1(np.minimum(s, _LARGE)) / self.q),
                s + np.log1p(-(1 - self.q) * np.exp(-s)) - math.log(self.q),
            )
            x = self.z**2 * t + 0.5
            log_ndtr = _special().log_ndtr
            if self.remove:
                own, other = log_ndtr((1 - x) / self.z), log_ndtr(-x / self.z)
                value = -self.q * np.exp(own) * np.expm1(np.minimum(0, t + other - own))
                return np.where(np.isfinite(t), value, -np.expm1(eps))
            own, other = log_ndtr(x / self.z), log_ndtr((x - 1) / self.z)
            value = (self.q - 1) * np.exp(eps) + 1
            value *= -np.exp(own) * np.expm1(np.minimum(0, other - own - t))
            return np.where(np.isfinite(t), value, 0.0)

    def on_grid(self, spacing: float) -> tuple[int, Reals, float]:
        """First index, probabilities, and the mass at an infinite loss: Connect the Dots.

        delta is convex in e^eps, so the chords between grid points lie above it. The losses on the
        grid whose delta are just these chords have the probabilities p_k = s_k - e^h s_(k-1), with
        s_k the slope of the chord from point k on, in units of e^-eps_k.
        """
        low, high = self.ends()
        first = math.floor(low / spacing)
        grid = np.arange(first, max(math.ceil(high / spacing), first + 1) + 1) * spacing
        # rounding may make the curve rise in its last digits, which would be a negative probability
        deltas = np.minimum.accumulate(np.clip(self.delta(grid), 0, 1))
        slopes = np.diff(deltas) / math.expm1(spacing)
        probs = np.concatenate([[1 - deltas[0]], -math.exp(spacing) * slopes])
        probs[:-1] += slopes
        return first, np.maximum(probs, 0), float(deltas[-1])


# --- many steps -----------------------------------------------------------------------------------
class Losses:
    """The loss of a whole composition in one direction.

    Parameters
    ----------
    mu : of a Gaussian of everything (1 over its noise multiplier); 0 for none
    groups : with sampling rates below 1
    remove : the direction: remove a unit, or add one
    """

    def __init__(self, mu: float, groups: tuple[Group, ...], remove: bool) -> None:
        self._steps = [_Step(z, q, count, remove) for z, q, count in groups]
        if mu:
            self._steps.append(_Step(1 / mu, 1.0, 1, remove))
        self._samples = [step.sample() for step in self._steps]
        variance = 0.0
        for step, (losses, weights) in zip(self._steps, self._samples, strict=True):
            mean = float(weights @ losses)
            variance += step.count * float(weights @ (losses - mean) ** 2)
        self._deviation = max(math.sqrt(variance), 1e-12)
        self._spacing = self._choose_spacing()
        self._grids: list[tuple[int, Reals, float]] = []

    def _choose_spacing(self) -> float:
        """h^2 / 4 per step is the most that a grid adds to the variance: a loss moves to the two
        ends of its cell. So N h^2 / 4 is held to ``_INFLATION`` times the variance."""
        total = sum(step.count for step in self._steps)
        spacing = math.sqrt(4 * _INFLATION / total) * self._deviation
        spacing = min(max(spacing, _FINEST), _COARSEST)
        widest = max(high - low for low, high in (step.ends() for step in self._steps))
        return max(spacing, widest / _LONGEST_STEP, 30 * self._deviation / _LONGEST_WINDOW)

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon at ``delta``."""
        odds = -math.log(delta)
        rates = self._rates(odds)
        moments = self._moment(rates)
        # Chernoff: delta(eps) <= M(lambda) e^(-lambda eps), so eps = (log M + log 1/delta) / lambda
        found, tilt = math.inf, float(rates[np.argmin((moments + odds) / rates)])
        # every tilt gives a bound; with heavy tails the first ones are too strong for a tight one
        for _ in range(_TILTS):
            bound, tight = self._curve(tilt).epsilon(delta)
            found = min(found, bound)
            if tight:
                break
            tilt = min(float(rates[np.argmin(moments - rates * found)]), tilt * _WEAKER)
        return found

    def delta(self, epsilon: float) -> float:
        """Smallest delta at ``epsilon``."""
        rates = self._rates(20.0)
        found, tilt = 1.0, float(rates[np.argmin(self._moment(rates) - rates * epsilon)])
        for _ in range(_TILTS):
            bound, tight = self._curve(tilt).delta(epsilon)
            found = min(found, bound)
            if tight:
                break
            tilt *= _WEAKER
        return found

    def _rates(self, odds: float) -> Reals:
        """lambdas to choose from: those that a Gaussian loss would need, and far around."""
        return math.sqrt(2 * odds + 1) / self._deviation * np.geomspace(1e-3, 1e3, 61)

    def _moment(self, rates: Reals) -> Reals:
        """About log E[exp(lambda loss)]; good enough to choose by."""
        total = np.zeros_like(rates)
        for step, (losses, weights) in zip(self._steps, self._samples, strict=True):
            total += step.count * _log_moment(weights, losses, rates)
        return total

    def _curve(self, tilt: float) -> Curve:
        """The window's ends are where Chernoff's bound of the tilted loss says ``_WRAPPED``."""
        if not self._grids:
            self._grids = [step.on_grid(self._spacing) for step in self._steps]
        parts = [
            _Part.of(step.count, *grid, self._spacing, tilt)
            for step, grid in zip(self._steps, self._grids, strict=True)
        ]
        rare = -math.log(_WRAPPED)
        deviation = math.sqrt(sum(part.count * part.variance for part in parts))
        rates = math.sqrt(2 * rare) / max(deviation, self._spacing) * np.geomspace(1 / 64, 4, 19)
        here = float(self._moment(np.array([tilt]))[0])
        ends = []
        for sign in (-1, 1):
            bounds = (self._moment(tilt + sign * rates) - here + rare) / rates
            rate = float(rates[np.argmin(bounds)])
            moved = sum(part.count * part.moment(sign * rate) for part in parts)
            ends.append(sign * (moved + rare) / rate)
        return Curve(parts, tilt, self._spacing, ends[0], ends[1])


@dataclass(frozen=True)
class _Part:
    """One step's tilted loss: probabilities from grid index ``first`` on.

    log_mass : log E[exp(tilt loss)], what the tilt was divided by
    infinite : mass at an infinite loss, untilted
    """

    count: int
    first: int
    grid: Reals
    tilted: Reals
    log_mass: float
    infinite: float

    @classmethod
    def of(
        cls, count: int, first: int, probs: Reals, infinite: float, spacing: float, tilt: float
    ) -> _Part:
        """Tilt a step that is on its grid."""
        grid = (first + np.arange(len(probs))) * spacing
        with np.errstate(divide="ignore"):
            exponents = np.log(probs) + tilt * grid
        top = float(exponents.max())
        weights = np.exp(exponents - top)
        mass = float(weights.sum())
        return cls(count, first, grid, weights / mass, top + math.log(mass), infinite)

    @property
    def mean(self) -> float:
        """Of the tilted loss."""
        return float(self.tilted @ self.grid)

    @property
    def variance(self) -> float:
        """Of the tilted loss."""
        return float(self.tilted @ (self.grid - self.mean) ** 2)

    def moment(self, rate: float) -> float:
        """log E[exp(rate loss)] of the tilted loss."""
        return float(_log_moment(self.tilted, self.grid, np.array([rate]))[0])


class Curve:
    """delta against epsilon of a composition, near the epsilon that the tilt was chosen for.

    With m the tilted mean, delta(eps) <= infinite + scale (A - e^(eps - m) B + W e^(-lambda (eps -
    m))), A and B sums over the losses above eps, W what may be missing from the window.
    """

    def __init__(
        self, parts: Sequence[_Part], tilt: float, spacing: float, low: float, high: float
    ) -> None:
        self._tilt = tilt
        self._infinite = -math.expm1(sum(p.count * math.log1p(-p.infinite) for p in parts))
        self._middle = sum(part.count * part.mean for part in parts)
        log_mass = sum(part.count * part.log_mass for part in parts)
        self._scale = math.exp(min(log_mass - tilt * self._middle, _EXPONENT))
        start = math.floor(low / spacing)
        probs = _convolve(parts, start, math.ceil(high / spacing) - start + 1)
        self._away = (start + np.arange(len(probs))) * spacing - self._middle
        # sums over the losses from k on
        self._above = np.cumsum((probs * self._decay(tilt, self._away))[::-1])[::-1]
        self._below = np.cumsum((probs * self._decay(1 + tilt, self._away))[::-1])[::-1]

    def epsilon(self, delta: float) -> tuple[float, bool]:
        """Smallest epsilon at ``delta``, and whether the window's part in it is negligible."""
        away, above, below = self._away, self._above, self._below
        room = (delta - self._infinite) / self._scale if self._scale > 0 else math.inf
        wrapped = _WRAPPED * self._decay(self._tilt, away)
        over = np.flatnonzero(above - self._decay(-1.0, away) * below + wrapped > room)
        if not len(over):
            low = self._middle + float(away[0])
            return max(0.0, low), low <= 0
        last = int(over[-1])
        if last + 1 == len(away):
            return math.inf, False
        # between two grid points the sums stay the same
        excess = float(above[last + 1] + wrapped[last]) - room
        within = float(away[last])
        if excess > 0:
            within = max(within, math.log(excess) - math.log(below[last + 1]))
        found = self._middle + min(within, float(away[last + 1]))
        return max(0.0, found), bool(wrapped[last] <= _SLACK * room)

    def delta(self, epsilon: float) -> tuple[float, bool]:
        """Smallest delta at ``epsilon``, and whether the window's part in it is negligible."""
        away = np.array([epsilon - self._middle])
        wrapped = float(_WRAPPED * self._decay(self._tilt, away)[0])
        value = 0.0
        place = int(np.searchsorted(self._away, away[0], side="right"))
        if place < len(self._away):
            value = float(self._above[place] - self._decay(-1.0, away)[0] * self._below[place])
        total = self._infinite + self._scale * (max(value, 0.0) + wrapped)
        return min(1.0, total), self._scale * wrapped <= _SLACK * total

    @staticmethod
    def _decay(rate: float, away: Reals) -> Reals:
        return np.asarray(np.exp(np.clip(-rate * away, -_EXPONENT, _EXPONENT)))


def _convolve(parts: Sequence[_Part], start: int, length: int) -> Reals:
    """Probabilities of the sum of all steps, from grid index ``start`` on, wrapped around.

    ``count`` equal steps are a power of one spectrum, so a million cost no more than one. What lies
    outside the window comes in again at its other end; ``Curve`` counts it as missing.
    """
    size = int(_fft().next_fast_len(max(length, 2), real=True))
    spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
    for part in parts:
        # a step may be longer than the window: folded, it has the spectrum of its periodic sum
        folded = np.pad(part.tilted, (0, -len(part.tilted) % size)).reshape(-1, size).sum(0)
        spectrum *= _fft().rfft(folded) ** part.count
    offset = sum(part.count * part.first for part in parts)
    found = np.roll(_fft().irfft(spectrum, size), (offset - start) % size)
    return np.asarray(np.maximum(found, 0))


def _log_moment(weights: Reals, losses: Reals, rates: Reals) -> Reals:
    """log sum_i w_i exp(rate losses_i), for every rate; the largest exponent is taken out first, so
    that nothing overflows."""
    found = np.empty_like(rates)
    for place, rate in enumerate(rates):
        exponents = rate * losses
        top = exponents[weights > 0].max()
        found[place] = top + math.log(weights @ np.exp(np.minimum(exponents - top, 0)))
    return found


def _special() -> Any:
    import scipy.special

    return scipy.special


def _fft() -> Any:
    import scipy.fft

    return scipy.fft
