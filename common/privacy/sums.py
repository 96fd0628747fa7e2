"""The noise on sums of whole numbers that a procedure asks for, and what it costs.

A unit changes a step's sums by at most S (L2), which the procedure says. Discrete Gaussian noise of
standard deviation z S on each number costs no more than a Gaussian of multiplier z (Canonne,
Kamath, Steinke 2020). It is drawn in parts of 1 / 64, of which whole numbers are multiples, so that
a hospital's share may be small: shares add up to the whole as an update's do
(``accounting.share_of_noise``). Every step is a release of everything: its sampling rate is 1.
"""

from __future__ import annotations

import math

from wardround.common.config.load import Config
from wardround.common.privacy.accounting import Release, epsilon, share_of_noise
from wardround.common.privacy.budget import announcement, sum_release

FINENESS = 64
"""Parts of one that noise is drawn in: exact in float64 and in the ring of exact sums."""


def step_release(config: Config, steps: int) -> Release:
    """One step's, of as many as the plan has: as ``privacy.noise_multiplier`` says, or so that all
    of them and the announced sizes stay within ``privacy.epsilon``."""
    return sum_release(config, "statistics", steps)


def steps_epsilon(config: Config, steps: int) -> float:
    """Of all steps, with the announced sizes, at ``privacy.delta``."""
    release = step_release(config, steps)
    every = Release(release.noise_multiplier, 1.0, steps)
    return epsilon([*announcement(config.privacy), every], config.privacy.delta)


def own_multiplier(config: Config, release: Release, honest: int | None) -> float:
    """What one hospital's noise is of S: all of it, or its share of it in a masked sum.

    honest : the fewest honest hospitals in a sum of the group; None without masks
    """
    if config.privacy.noise != "distributed" or honest is None:
        return release.noise_multiplier
    return share_of_noise(release.noise_multiplier, honest)


def summed_noise(
    config: Config, steps: int, sensitivity: float, hospitals: int, honest: int | None
) -> float:
    """Standard deviation of what is on each number of a sum over so many hospitals."""
    own = own_multiplier(config, step_release(config, steps), honest)
    return own * sensitivity * math.sqrt(hospitals)
