"""Privacy accounting: what Gaussian releases, sampled by Poisson, cost together.

The neighbouring relation is *add or remove one unit* everywhere. What a unit is (example, patient,
hospital) is the caller's business.

Every figure is an upper bound by privacy loss distributions (``losses.py``), the larger one of both
directions; the order of releases makes no difference. Releases of everything (sampling rate 1) add
up to one Gaussian mechanism, whose curve is known (Balle, Wang 2018, 1805.06530).

``benchmarks/accountant.py`` compares with dp-accounting's bounds from both sides and with Opacus'
PRV accountant. dp-accounting's own composition isn't called, because it takes 0.4 to 1.6 s where a
ledger asks every round; it is the reference of the tests.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from wardround.common.errors import PrivacyRefused
from wardround.common.privacy.losses import Group, Losses, gaussian_delta, gaussian_epsilon

MOST_STEPS = 10**8
SMALLEST_DELTA = 1e-13
UNITS = ("example", "patient", "hospital")
"""From fine to coarse."""


@dataclass(frozen=True)
class Release:
    """One Gaussian mechanism, ``steps`` times, each on a fresh Poisson sample of the units:

        sum over the sample of what each unit adds (L2 norm at most S) + N(0, (z S)^2 I)

    What is summed may depend on the outcomes of earlier steps (composition is adaptive); z and q
    may not.

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

    Raises ValueError unless SMALLEST_DELTA <= delta < 1.

    One Gaussian of multiplier 1 costs what Balle and Wang's formula says, sampling makes a thousand
    steps cheaper than that one:

    >>> round(epsilon([Release(1.0)], 1e-5), 3)
    4.377
    >>> epsilon([Release(1.0, sampling_rate=0.01, steps=1000)], 1e-5) < 4.377 / 2
    True
    """
    if not SMALLEST_DELTA <= delta < 1:
        raise ValueError(f"delta = {delta} must be at least {SMALLEST_DELTA:g} and below 1")
    return _epsilon(*merged(releases), float(delta))


def delta(releases: Iterable[Release], epsilon: float) -> float:
    """Smallest delta at ``epsilon`` >= 0, rounded up; never below about 1e-17 with sampling.

    The reverse of ``epsilon``: both read the same curve. Raises ValueError for a negative epsilon.
    """
    if not epsilon >= 0:
        raise ValueError(f"epsilon = {epsilon} must be at least 0")
    return _delta(*merged(releases), float(epsilon))


def unit_epsilon(releases: Iterable[tuple[str, Release]], unit: str, delta: float) -> float:
    """Epsilon for each ``unit``, of releases that were each noised for a unit of their own.

    Those for a finer unit promise nothing: inf. Those for a coarser one protect the finer one too,
    but half as well: taking a record from a patient can turn the patient's clipped sum round, which
    is as far as taking the patient away and adding another. So they count with half their noise
    multiplier where everybody takes part, and else by group privacy for two: (2 e, (1 + exp(e)) d).
    """
    own: list[Release] = []
    coarser: list[Release] = []
    for of, one in releases:
        silent = not one.steps or not one.sampling_rate or math.isinf(one.noise_multiplier)
        if of == unit or silent:
            own.append(one)
        elif UNITS.index(of) < UNITS.index(unit):
            return math.inf
        elif one.sampling_rate == 1:
            own.append(replace(one, noise_multiplier=one.noise_multiplier / 2))
        else:
            coarser.append(one)
    if not coarser:
        return epsilon(own, delta)
    return epsilon(own, delta / 2) + _group_of_two(coarser, delta / 2)


def _group_of_two(releases: list[Release], delta: float) -> float:
    """2 e, with e the least for which (1 + exp(e)) delta(e) <= ``delta``, to half a percent."""
    guess = 0.0
    while guess < 700 and (each := delta / (1 + math.exp(guess))) >= SMALLEST_DELTA:
        found = epsilon(releases, each)
        if found <= guess:
            return 2 * guess
        guess = found * 1.005
    return math.inf


def merged(releases: Iterable[Release]) -> tuple[float, tuple[Group, ...]]:
    """The same cost in canonical form: the mu of one Gaussian (1 over its noise multiplier, inf
    without noise) and sampled releases, each (noise, rate) once.

    Unsampled Gaussians of mu_1, mu_2, ... are together one of mu = sqrt(sum mu_i^2) (Dong, Roth, Su
    2022, 1905.02383, corollary 3.3). Being canonical, it is the key of the caches below.
    """
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

    >>> z = calibrate(3.0, 1e-5, sampling_rate=0.01, steps=1000)
    >>> with_it, with_less = (epsilon([Release(x, 0.01, 1000)], 1e-5) for x in (z, z / 1.001))
    >>> with_it <= 3.0 < with_less
    True
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
    """How many steps like the release's (its own number of steps doesn't matter) still fit within
    the limit after ``before``; at most 1e8. 0 if ``before`` has passed it already.

    Epsilon rises with the steps, so the number is bracketed by powers of four, then halved.
    """

    def fits(steps: int) -> bool:
        more = Release(release.noise_multiplier, release.sampling_rate, steps)
        return epsilon([*before, more], delta) <= limit_epsilon

    most = MOST_STEPS
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


def share_of_noise(noise_multiplier: float, honest: int) -> float:
    """Each party's own noise multiplier z / sqrt(honest), so that any so many of them add up to the
    whole (variances add; who colludes can subtract its own share).

    honest : the fewest honest hospitals in any sum that can be opened, also by a server that lies
        (``Thresholds.honest``)

    More uploads carry more noise than is accounted for, never less. Raises ValueError if nobody
    honest is left.
    """
    if honest < 1:
        raise ValueError("no honest hospital is left to carry the noise")
    return noise_multiplier / math.sqrt(honest)


def integer_noise_excess(sigma: float, parties: int) -> float:
    """tau: bound on |log ratio| per coordinate between the sum of ``parties`` discrete Gaussians
    of this ``sigma`` each and one discrete Gaussian (Kairouz et al. 2021, 2102.06387, theorem 1:
    10 sum_k exp(-2 pi^2 sigma^2 k / (k + 1)), k = 1..parties - 1)."""
    if not sigma > 0 or parties < 1:
        raise ValueError(f"sigma = {sigma} must be positive, parties = {parties} at least 1")
    k = np.arange(1, parties)
    return float(10 * np.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)).sum())


# --- all together ---------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def _epsilon(mu: float, groups: tuple[Group, ...], delta: float) -> float:
    if math.isinf(mu):
        return math.inf
    if not groups:
        return gaussian_epsilon(mu, delta) if mu else 0.0
    # with sampling the two directions differ, and either may be the larger one
    return max(Losses(mu, groups, remove).epsilon(delta) for remove in (True, False))


@lru_cache(maxsize=4096)
def _delta(mu: float, groups: tuple[Group, ...], epsilon: float) -> float:
    if math.isinf(mu):
        return 1.0
    if math.isinf(epsilon) or not (mu or groups):
        return 0.0
    if not groups:
        return float(gaussian_delta(mu, epsilon))
    return max(Losses(mu, groups, remove).delta(epsilon) for remove in (True, False))


def _first_guess(target: float, delta: float, rate: float, steps: int) -> float:
    """log z by the central limit theorem: mu^2 = q^2 T (e^(1/z^2) - 1) (Dong et al. 2022); exact
    for rate 1."""
    low, high = 1e-9, 1e9
    while high > 1.0001 * low:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if gaussian_epsilon(middle, delta) < target else (low, middle)
    precision = low**2 / steps
    if rate < 1:
        precision = math.log1p(precision / rate**2)
    return -math.log(precision) / 2


def _smallest(excess: Callable[[float], float], guess: float) -> float:
    """The least place to within 0.0009, from above, where a falling function is at most 0.

    In log z, so 0.0009 is the factor 1.0009 in the noise. Every value costs a composition: the
    guess is bracketed by growing steps, then the line through both ends is followed (regula falsi).
    """
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
        # one look just below often shows that this is the least place already
        if value <= 0 and high - low > 0.0009 and excess(high - 0.0009) > 0:
            return high
    return high
