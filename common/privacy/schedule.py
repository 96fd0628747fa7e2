"""What a hospital is going to release, and what it costs: used to plan, to train and to account.

Three forms, by ``[privacy]``:

*stepwise* (example or patient, local noise): DP-SGD (Abadi et al. 2016, 1607.00133). Every step
samples units by Poisson, clips, sums, adds noise, and divides by the expected batch.

*summed* (example or patient, distributed or central noise): one such step per round, on the sum of
all hospitals' clipped gradients; the sampling rate is the same everywhere.

*hospital*: one clipped update of each hospital per round (McMahan et al. 2018, 1710.06963). No
amplification is claimed for the draw of a cohort, because the server sees it.

The server proposes the number of rounds, the rate and the norm; a hospital charges its ledger for
what it really does with them, so a false proposal can only make it stop sooner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from wardround.common.config.load import Config
from wardround.common.privacy.accounting import (
    Release,
    adaptive_noise,
    calibrate,
    epsilon,
    share_of_noise,
)
from wardround.common.privacy.budget import before_training
from wardround.common.privacy.mechanism import ring_reach
from wardround.common.settings import PrivacyTable

# Andrew et al. (2021) take the expected number of units over 20 for the deviation of the count
_QUANTILE_SHARE = 20.0
_QUANTILE_LEAST = 2.5
"""Noise on the count of unclipped units, in the mechanism's own multiplier: costs 2 % more noise on
the gradient."""
_MOST_EXPONENT = 600.0
"""Of a clipping norm that adapts: beyond it there is no number."""


@dataclass(frozen=True)
class Schedule:
    """One hospital's releases over a run.

    noise_multiplier : z, noise over sensitivity
    sampling_rate : q, of each step
    steps : releases per round
    rounds : in which this hospital takes part
    expected_units : q times the (announced) number of units; what a clipped sum is divided by
    before : what the same units pay beside: the noised announcement of how many there are, and the
        preparation where it is covered
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    rounds: int
    expected_units: float
    before: tuple[Release, ...] = ()

    def one_round(self) -> Release:
        """What one round releases."""
        return Release(self.noise_multiplier, self.sampling_rate, self.steps)

    def epsilon(self, delta: float, rounds: int | None = None) -> float:
        """Spent after so many rounds (default: all)."""
        steps = self.steps * (self.rounds if rounds is None else rounds)
        train = [Release(self.noise_multiplier, self.sampling_rate, steps)] if steps else []
        return epsilon([*self.before, *train], delta)


def stepwise_schedule(config: Config, units: int, rounds: int) -> Schedule:
    """Local DP-SGD over ``units`` (announced) units: q = batch_size / units, and local_steps or
    local_epochs times ceil(1 / q) steps a round.

    What is announced carries noise, so q is right in expectation only; but q and the steps are what
    the hospital really does, and the ledger is charged for those.
    """
    training, units = config.training, max(1, units)
    rate = min(1.0, training.batch_size / units)
    steps = training.local_steps or training.local_epochs * math.ceil(1 / rate)
    return _schedule(config, rate, steps, rounds, rate * units)


def summed_schedule(config: Config, rate: float, expected_units: float, rounds: int) -> Schedule:
    """One step per round over all hospitals together.

    rate : q, the same at every hospital: with different ones no single q would describe the sum
    expected_units : of one hospital, q times the mean announced number
    """
    return _schedule(config, rate, 1, rounds, expected_units)


def hospital_schedule(config: Config, rounds: int) -> Schedule:
    """One clipped update per round; the unit is the hospital, so there is nothing to sample (q = 1)
    and one unit to expect."""
    return _schedule(config, 1.0, 1, rounds, 1.0)


def summed_sampling(config: Config, units: Sequence[int]) -> tuple[float, float]:
    """The common rate and each hospital's expected units, from all announced numbers of units:
    q = batch_size * hospitals / sum(units), at most 1, and q * sum(units) / hospitals.

    So ``training.batch_size`` units per hospital on average, more at a larger one.
    """
    total = max(1, sum(units))
    rate = min(1.0, config.training.batch_size * len(units) / total)
    return rate, rate * total / len(units)


def _schedule(
    config: Config, rate: float, steps: int, rounds: int, expected_units: float
) -> Schedule:
    table, before = config.privacy, before_training(config)
    z = table.noise_multiplier
    if z is None:
        assert table.epsilon is not None  # the configuration has one or the other
        z = _calibrated(table.epsilon, table.delta, rate, steps * rounds, before)
    return Schedule(z, rate, steps, rounds, expected_units, before)


@lru_cache(maxsize=4096)
def _calibrated(
    target: float, delta: float, rate: float, steps: int, before: tuple[Release, ...]
) -> float:
    return calibrate(target, delta, rate, steps, before)


@dataclass(frozen=True)
class Bound:
    """The clipping of one release.

    norm : C
    quantile_scale : s, of the coordinate (1[norm <= C] - 1/2) s that each unit adds, noised like
        the others, from which an adaptive norm learns (Andrew et al. 2021, 1905.03871); 0 if fixed
    """

    norm: float
    quantile_scale: float = 0.0

    @property
    def sensitivity(self) -> float:
        """L2, of one unit's gradient (or update) and its quantile coordinate together."""
        return math.hypot(self.norm, self.quantile_scale / 2)


def clipping_bound(
    table: PrivacyTable, norm: float, noise_multiplier: float, units: float
) -> Bound:
    """Of a release over ``units`` (expected) units in all.

    With s = z' C / sigma_b the quantile coordinate's noise is sigma_b counts, and
    1/z^2 = 1/z'^2 + 1/(2 sigma_b)^2: both queries together cost what z says.
    """
    if table.clipping != "adaptive":
        return Bound(norm)
    count_noise = max(units / _QUANTILE_SHARE, _QUANTILE_LEAST * noise_multiplier)
    own = adaptive_noise(noise_multiplier, count_noise)
    return Bound(norm, own * norm / count_noise)


def round_bound(
    table: PrivacyTable, norm: float, noise_multiplier: float, expected_units: float, clients: int
) -> Bound:
    """Of a round's one release by ``clients`` hospitals (summed or hospital form).

    Server and hospital both call it, with what the request says: the hospital clips by it, the
    server sizes the ring (and a central run's noise) by it.
    """
    together = clients if table.noise != "local" else 1
    return clipping_bound(table, norm, noise_multiplier, expected_units * together)


def norm_range(table: PrivacyTable, server_round: int) -> tuple[float, float]:
    """The least and the largest clipping norm that a request of this round can have: the settings'
    own, but where it adapts, moved by ``adapted_norm`` once for each round before."""
    norm, reach = table.clipping_norm, table.clipping_lr * max(0, server_round - 1)
    if table.clipping != "adaptive" or table.stepwise:
        return norm, norm
    down, up = (min(reach * share, _MOST_EXPONENT) for share in _shares(table))
    return norm * math.exp(-down), norm * math.exp(up)


def _shares(table: PrivacyTable) -> tuple[float, float]:
    """How far a round moves the norm at most, in ``clipping_lr``: down and up."""
    return 1.0 - table.target_quantile, table.target_quantile


def adapted_norm(table: PrivacyTable, norm: float, unclipped: float) -> float:
    """C <- C exp(-eta (b - gamma)), b the share of units within C (Andrew et al. 2021, alg. 1).

    unclipped : b, noised, so outside 0..1 it is cut off; eta is ``privacy.clipping_lr``, gamma
        ``privacy.target_quantile``
    """
    share = min(1.0, max(0.0, unclipped))
    return norm * math.exp(-table.clipping_lr * (share - table.target_quantile))


def sum_reach(
    config: Config, schedule: Schedule, sensitivity: float, clients: int, honest: int
) -> float:
    """The magnitude that one hospital's coordinate may need in a masked sum of ``clients``.

    sensitivity : L2, of the sum to one unit, in the released unit
    honest : the fewest honest hospitals in any sum that can be opened, who carry the noise

    Server and hospital both work it out: the ring is sized by it. Every hospital works with the
    same ring, so a large reach makes the grid coarse for all: the number of units that happen to be
    drawn is bounded at twice the expected one (more would be clipped, which costs nothing but
    accuracy).
    """
    z = schedule.noise_multiplier
    if config.privacy.noise == "distributed":
        z = share_of_noise(z, honest)
    return ring_reach(2 * sensitivity * schedule.expected_units, z * sensitivity, clients)
