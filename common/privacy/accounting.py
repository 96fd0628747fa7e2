"""Privacy accounting: what Gaussian releases, sampled by Poisson, cost together.

The neighbouring relation is *add or remove one unit* everywhere. What a unit is (example, patient,
hospital) is the caller's business.

Every figure is an upper bound, by privacy loss distributions: the loss of one step is put on a grid
with spacing h so that no divergence shrinks (Connect the Dots, Doroshenko et al. 2022, 2207.04380),
all steps of all releases are convolved by one FFT, and both directions are kept. Releases of
everything (sampling rate 1) need no grid: they add up to one Gaussian mechanism, whose curve is
known (Balle, Wang 2018, 1805.06530).

Invariants
----------
- Cut tails count as an infinite loss; so does what the FFT's window may have wrapped around.
- Before the FFT the losses are tilted, p(l) exp(lambda l) / M(lambda), with Chernoff's lambda at
  the wanted delta, so rounding errors are relative to that delta, not to 1 (Alghamdi et al. 2022,
  2202.12326, call it the saddle point).
- h is fine enough for a variance that is at most 0.4 % too large. ``benchmarks/accountant.py``
  compares with dp-accounting's bounds from both sides and with Opacus' PRV accountant.
- The order of releases makes no difference.

dp-accounting's own composition isn't called, because it takes 0.4 to 1.6 s where a ledger asks
every round; it is the reference in the tests instead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import PrivacyRefused

Reals = NDArray[np.float64]
Group = tuple[float, float, int]
"""Noise multiplier, sampling rate below 1, steps."""

MOST_STEPS = 10**8
_INFLATION = 0.004
"""Of the variance of the composed loss, by the grid."""
_FINEST, _COARSEST = 1e-7, 0.05
_LONGEST_STEP, _LONGEST_WINDOW = 1 << 20, 1 << 22
_STEP_TAIL = 1e-24
_WRAPPED = 1e-12
"""Share of the tilted mass that may lie outside the window, on each side."""
_EXPONENT = 700.0


@dataclass(frozen=True)
class Release:
    """One Gaussian mechanism, ``steps`` times.

    noise_multiplier : standard deviation of the noise over the L2 sensitivity to one unit; 0 hides
        nothing
    sampling_rate : of each step's Poisson sample of units; 1 means that all take part
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        if not self.noise_multiplier >= 0:
            raise ValueError(f"noise_multiplier = {self.noise_multiplier} must be at least 0")
        if not 0 <= self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate = {self.sampling_rate} must be in 0..1")
        if not 0 <= self.steps <= MOST_STEPS:
            raise ValueError(f"steps = {self.steps} must be in 0..{MOST_STEPS}")


def epsilon(releases: Iterable[Release], delta: float) -> float:
    """Smallest epsilon at ``delta``, rounded up; inf without noise, 0 without releases.

    Raises ValueError unless 1e-13 <= delta < 1.
    """
    if not 1e-13 <= delta < 1:
        raise ValueError(f"delta = {delta} must be at least 1e-13 and below 1")
    return _epsilon(*merged(releases), float(delta))


def delta(releases: Iterable[Release], epsilon: float) -> float:
    """Smallest delta at ``epsilon`` >= 0, rounded up; never below about 1e-17 with sampling."""
    if not epsilon >= 0:
        raise ValueError(f"epsilon = {epsilon} must be at least 0")
    return _delta(*merged(releases), float(epsilon))


def merged(releases: Iterable[Release]) -> tuple[float, tuple[Group, ...]]:
    """The same cost in canonical form: the mu of one Gaussian (1 over its noise multiplier, inf
    without noise) and sampled releases, each (noise, rate) once."""
    precisions: list[float] = []
    steps: dict[tuple[float, float], int] = defaultdict(int)
    for one in releases:
        if one.steps == 0 or one.sampling_rate == 0 or math.isinf(one.noise_multiplier):
            continue
        if one.noise_multiplier == 0:
            precisions.append(math.inf)
        elif one.sampling_rate == 1:
            precisions.append(one.steps / one.noise_multiplier**2)
        else:
            steps[one.noise_multiplier, one.sampling_rate] += one.steps
    mu = math.inf if math.inf in precisions else math.sqrt(math.fsum(precisions))
    return mu, tuple((z, q, count) for (z, q), count in sorted(steps.items()))


def calibrate(
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    before: Sequence[Release] = (),
) -> float:
    """The noise multiplier with which ``steps`` more releases stay within ``target_epsilon``.

    At most a factor 1.001 above the smallest one that does, never below it. 0 for no steps. Raises
    PrivacyRefused if ``before`` alone leaves nothing, ValueError for a target that isn't positive.
    """
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"epsilon = {target_epsilon} must be positive and finite")
    spent = epsilon(before, delta)
    if spent > target_epsilon or (spent == target_epsilon and steps and sampling_rate):
        raise PrivacyRefused(
            f"epsilon = {target_epsilon:g} leaves nothing to calibrate: earlier releases took "
            f"{spent:.4g} at delta = {delta:g}"
        )
    if not steps or not sampling_rate:
        return 0.0

    def excess(log_z: float) -> float:
        """Log of how far above the target; rises with less noise."""
        more = Release(math.exp(log_z), sampling_rate, steps)
        value = epsilon([*before, more], delta)
        return math.log(max(value, 1e-12) / target_epsilon) if value < math.inf else math.inf

    return math.exp(_smallest(excess, _first_guess(target_epsilon, delta, sampling_rate, steps)))


def steps_left(
    release: Release, limit_epsilon: float, delta: float, before: Sequence[Release] = ()
) -> int:
    """How many times ``release`` (with its steps) still fits below the limit after ``before``; at
    most 1e8 steps. 0 if ``before`` has passed it already."""
    each = max(1, release.steps)

    def fits(times: int) -> bool:
        more = Release(release.noise_multiplier, release.sampling_rate, times * each)
        return epsilon([*before, more], delta) <= limit_epsilon

    most = MOST_STEPS // each
    if not fits(0) or not fits(1):
        return 0
    low, high = 1, 2
    while high < most and fits(high):
        low, high = high, 4 * high
    if high >= most:
        if fits(most):
            return most
        high = most
    while high - low > 1:
        middle = (low + high) // 2 if high < 16 else round(math.sqrt(low * high))
        middle = min(max(middle, low + 1), high - 1)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def adaptive_noise(noise_multiplier: float, count_noise: float) -> float:
    """The gradient's noise multiplier when a count of unclipped units goes with it (Andrew et al.
    2021, 1905.03871, theorem 1), so that both together cost what ``noise_multiplier`` says.

    count_noise : standard deviation on a sum of +-1/2, in units

    Raises ValueError unless 2 count_noise > noise_multiplier.
    """
    if not 2 * count_noise > noise_multiplier:
        raise ValueError(
            f"noise {count_noise:g} on the count is too small: more than {noise_multiplier / 2:g}, "
            "half the noise multiplier, is needed"
        )
    if noise_multiplier == 0:
        return 0.0
    return float((noise_multiplier**-2 - (2 * count_noise) ** -2) ** -0.5)


def share_of_noise(noise_multiplier: float, survivors: int, colluding: int) -> float:
    """Each party's own noise multiplier, so that any ``survivors - colluding`` of them add up to
    the whole. Raises ValueError if nobody honest is left."""
    if not 0 <= colluding < survivors:
        raise ValueError(
            f"{colluding} colluding among {survivors} survivors leave nobody to carry the noise"
        )
    return noise_multiplier / math.sqrt(survivors - colluding)


def integer_noise_excess(sigma: float, parties: int) -> float:
    """tau: bound on |log ratio| per coordinate between the sum of ``parties`` discrete Gaussians
    of this ``sigma`` each and one discrete Gaussian (Kairouz et al. 2021, 2102.06387, theorem 1:
    10 sum_k exp(-2 pi^2 sigma^2 k / (k + 1)), k = 1..parties - 1)."""
    if not sigma > 0 or parties < 1:
        raise ValueError(f"sigma = {sigma} must be positive, parties = {parties} at least 1")
    k = np.arange(1, parties)
    return float(10 * np.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)).sum())


# --- one Gaussian ---------------------------------------------------------------------------------
def _gaussian_delta(mu: float, epsilon: Reals | float) -> Reals:
    """Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu), without cancelling the two."""
    log_ndtr = _special().log_ndtr
    above, below = (log_ndtr(sign * mu / 2 - np.asarray(epsilon) / mu) for sign in (1, -1))
    return np.asarray(-np.exp(above) * np.expm1(np.minimum(0, epsilon + below - above)))


def _gaussian_epsilon(mu: float, delta: float) -> float:
    low, high = 0.0, mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1e-300
    if _gaussian_delta(mu, low) <= delta:
        return 0.0
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(mu, middle) > delta else (low, middle)
    return high


# --- one step's loss on a grid --------------------------------------------------------------------
@dataclass(frozen=True)
class _Step:
    """One part of a composition, in one direction (``remove`` a unit, or add it)."""

    z: float
    q: float
    count: int
    remove: bool

    def loss(self, x: Reals) -> Reals:
        """Of an output x: log of N(0, z^2) against its mixture with N(1, z^2)."""
        odds = math.log(self.q) + (2 * x - 1) / (2 * self.z**2)
        mixed = np.logaddexp(math.log1p(-self.q), odds) if self.q < 1 else odds
        return mixed if self.remove else -mixed

    def sample(self) -> tuple[Reals, Reals]:
        """Losses and weights that stand for the distribution, to choose grid and tilt by."""
        u = np.linspace(-10, 10, 801)
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
        """The hockey-stick divergence, with small relative error."""
        sign = 1 if self.remove else -1
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # t: log of (e^(+-eps) - (1 - q)) / q, the loss of the unsampled mechanism
            t = sign * eps + np.log1p(-(1 - self.q) * np.exp(-sign * eps)) - math.log(self.q)
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
        """First index, probabilities, and the mass at an infinite loss: Connect the Dots."""
        low, high = self.ends()
        first = math.floor(low / spacing)
        grid = np.arange(first, max(math.ceil(high / spacing), first + 1) + 1) * spacing
        deltas = np.minimum.accumulate(np.clip(self.delta(grid), 0, 1))
        slopes = np.diff(deltas) / math.expm1(spacing)
        probs = np.concatenate([[1 - deltas[0]], -math.exp(spacing) * slopes])
        probs[:-1] += slopes
        return first, np.maximum(probs, 0), float(deltas[-1])


# --- many steps -----------------------------------------------------------------------------------
class _Losses:
    """The loss of a whole composition in one direction."""

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
        total = sum(step.count for step in self._steps)
        widest = max(high - low for low, high in (step.ends() for step in self._steps))
        spacing = math.sqrt(2 * _INFLATION / total) * self._deviation
        spacing = min(max(spacing, _FINEST), _COARSEST)
        self._spacing = max(spacing, widest / _LONGEST_STEP, 30 * self._deviation / _LONGEST_WINDOW)

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon at ``delta``."""
        rates, moments = self._log_moments(math.log(1 / delta))
        tilt = float(rates[np.argmin((moments - math.log(delta)) / rates)])
        return _Curve(self._steps, tilt, self._spacing).epsilon(delta)

    def delta(self, epsilon: float) -> float:
        """Smallest delta at ``epsilon``."""
        rates, moments = self._log_moments(20.0)
        tilt = float(rates[np.argmin(moments - rates * epsilon)])
        return _Curve(self._steps, tilt, self._spacing).delta(epsilon)

    def _log_moments(self, log_odds: float) -> tuple[Reals, Reals]:
        """lambda and about log E[exp(lambda loss)]."""
        middle = math.sqrt(2 * log_odds + 1) / self._deviation
        rates = middle * np.geomspace(1e-3, 1e3, 61)
        moments = np.zeros_like(rates)
        for step, (losses, weights) in zip(self._steps, self._samples, strict=True):
            moments += step.count * _log_moment(np.log(weights), losses, rates)
        return rates, moments


class _Curve:
    """delta against epsilon of a composition, near the epsilon that the tilt was chosen for.

    With r the middle of the window, delta(eps) <= infinite + scale (A - e^(eps - r) B + wrapped),
    A and B sums over the losses above eps.
    """

    def __init__(self, steps: Sequence[_Step], tilt: float, spacing: float) -> None:
        self._tilt, self._spacing = tilt, spacing
        parts = [(step.count, *step.on_grid(spacing)) for step in steps]
        self._infinite = -math.expm1(sum(n * math.log1p(-inf) for n, _, _, inf in parts))
        with np.errstate(divide="ignore"):
            logs = [np.log(p) for _, _, p, _ in parts]
        grids = [(first + np.arange(len(p))) * spacing for _, first, p, _ in parts]

        def moment(rate: float) -> float:
            return sum(
                part[0] * float(_log_moment(log, grid, np.array([rate]))[0])
                for part, log, grid in zip(parts, logs, grids, strict=True)
            )

        mass = moment(tilt)
        tilted, variance = [], 0.0
        for log, grid in zip(logs, grids, strict=True):
            weights = np.exp(log + tilt * grid - (log + tilt * grid).max())
            tilted.append(weights / weights.sum())
        for (count, *_), p, grid in zip(parts, tilted, grids, strict=True):
            mean = float(p @ grid)
            variance += count * float(p @ (grid - mean) ** 2)
        self._window(parts, tilted, moment, mass, math.sqrt(variance))

    def _window(
        self,
        parts: Sequence[tuple[int, int, Reals, float]],
        tilted: Sequence[Reals],
        moment: Callable[[float], float],
        mass: float,
        deviation: float,
    ) -> None:
        """Convolve within Chernoff's bounds of the tilted loss."""
        spacing, rare = self._spacing, -math.log(_WRAPPED)
        rate = math.sqrt(2 * rare) / max(deviation, spacing)
        high = (moment(self._tilt + rate) - mass + rare) / rate
        low = -(moment(self._tilt - rate) - mass + rare) / rate
        start = math.floor(low / spacing)
        size = _fft().next_fast_len(max(math.ceil(high / spacing) - start + 1, 2), real=True)
        spectrum = np.ones(size // 2 + 1, dtype=np.complex128)
        offset = 0
        for (count, first, _, _), p in zip(parts, tilted, strict=True):
            folded = np.pad(p, (0, -len(p) % size)).reshape(-1, size).sum(0)
            spectrum *= _fft().rfft(folded) ** count
            offset += count * first
        found = np.roll(_fft().irfft(spectrum, size), (offset - start) % size)
        middle = start + size // 2
        self._middle = middle * spacing
        self._losses = (start + np.arange(size)) * spacing
        away = (np.arange(size) - size // 2) * spacing
        found = np.maximum(found, 0)
        self._scale = math.exp(min(mass - self._tilt * self._middle, _EXPONENT))
        above = found * np.exp(np.clip(-self._tilt * away, -_EXPONENT, _EXPONENT))
        below = found * np.exp(np.clip(-(1 + self._tilt) * away, None, _EXPONENT))
        # sums over the losses from k on
        self._above = np.cumsum(above[::-1])[::-1]
        self._below = np.cumsum(below[::-1])[::-1]
        self._away = away

    def _wrapped(self, away: Reals) -> Reals:
        return _WRAPPED * np.exp(np.clip(-self._tilt * away, -_EXPONENT, _EXPONENT))

    def epsilon(self, delta: float) -> float:
        """Smallest epsilon at ``delta``."""
        room = (delta - self._infinite) / self._scale
        if room <= 0:
            return math.inf
        away, above, below = self._away, self._above, self._below
        at = above - np.exp(np.minimum(away, _EXPONENT)) * below + self._wrapped(away)
        over = np.flatnonzero(at > room)
        if not len(over):
            return max(0.0, float(self._losses[0]))
        last = int(over[-1])
        if last + 1 == len(away):
            return math.inf
        # between two grid points the sums stay the same
        rest = room - float(self._wrapped(away[last : last + 1])[0])
        excess = float(above[last + 1]) - rest
        step = (
            math.log(excess / below[last + 1]) if excess > 0 and below[last + 1] > 0 else -math.inf
        )
        within = min(max(step, float(away[last])), float(away[last + 1]))
        return max(0.0, self._middle + within)

    def delta(self, epsilon: float) -> float:
        """Smallest delta at ``epsilon``."""
        away = epsilon - self._middle
        next_one = int(np.searchsorted(self._away, away, side="right"))
        value = float(self._wrapped(np.array([away]))[0])
        if next_one < len(self._away):
            value += float(self._above[next_one])
            value -= math.exp(min(away, _EXPONENT)) * float(self._below[next_one])
        return min(1.0, self._infinite + self._scale * max(value, 0.0))


def _log_moment(log_weights: Reals, losses: Reals, rates: Reals) -> Reals:
    """log sum_i w_i exp(rate losses_i), for every rate."""
    found = np.empty_like(rates)
    for place, rate in enumerate(rates):
        exponents = log_weights + rate * losses
        top = exponents.max()
        found[place] = top + math.log(np.exp(exponents - top).sum())
    return found


# --- all together ---------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def _epsilon(mu: float, groups: tuple[Group, ...], delta: float) -> float:
    if math.isinf(mu):
        return math.inf
    if not groups:
        return _gaussian_epsilon(mu, delta) if mu else 0.0
    return max(_Losses(mu, groups, remove).epsilon(delta) for remove in (True, False))


@lru_cache(maxsize=4096)
def _delta(mu: float, groups: tuple[Group, ...], epsilon: float) -> float:
    if math.isinf(mu):
        return 1.0
    if math.isinf(epsilon) or not (mu or groups):
        return 0.0
    if not groups:
        return float(_gaussian_delta(mu, epsilon))
    return max(_Losses(mu, groups, remove).delta(epsilon) for remove in (True, False))


def _first_guess(target: float, delta: float, rate: float, steps: int) -> float:
    """log z by the central limit theorem: mu^2 = q^2 T (e^(1/z^2) - 1) (Dong et al. 2022); exact
    for rate 1."""
    low, high = 1e-9, 1e9
    while high > 1.0001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _gaussian_epsilon(middle, delta) < target else (low, middle)
    precision = low**2 / steps
    if rate < 1:
        precision = math.log1p(precision / rate**2)
    return -math.log(precision) / 2


def _smallest(excess: Callable[[float], float], guess: float) -> float:
    """The least place to within 0.0009, from above, where a falling function is at most 0."""
    width, low, high = 0.02, guess, guess
    at_low = at_high = excess(guess)
    while at_low <= 0:
        high, at_high, low = low, at_low, low - width
        at_low, width = excess(low), 3 * width
    while at_high > 0:
        low, at_low, high = high, at_high, high + width
        at_high, width = excess(high), 3 * width
    while high - low > 0.0009:
        share = at_low / (at_low - at_high) if at_low < math.inf else 0.5
        # a little past the line's zero, so that both ends move
        place = low + (high - low) * min(max(share, 0.02), 0.98)
        place = min(max(place + 0.0004, low + 0.0004), high - 0.0002)
        value = excess(place)
        low, at_low, high, at_high = (
            (place, value, high, at_high) if value > 0 else (low, at_low, place, value)
        )
        if value <= 0 and high - low > 0.0009 and excess(high - 0.0009) > 0:
            return high
    return high


def _special() -> Any:
    import scipy.special

    return scipy.special


def _fft() -> Any:
    import scipy.fft

    return scipy.fft
