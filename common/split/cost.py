"""What noise on a split network costs: epsilon of one party's columns of one person."""

from __future__ import annotations

import math

from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.settings import SplitOptions


def most_appearances(options: SplitOptions, persons: int) -> int:
    """The most batches that one of so many linked persons is in; 0 where there are too few."""
    in_one_order = (persons - options.held_out) // options.batch_size
    return math.ceil(options.batches / in_one_order) if in_one_order > 0 else 0


def spent(options: SplitOptions, persons: int) -> float:
    """Epsilon of one party's columns of one of so many linked persons, inf without noise: in each
    batch that it is in its numbers cross, and a step of the weights is made, each with noise of
    ``noise_multiplier`` times the most that other values of that person could change."""
    if not options.noise_multiplier:
        return math.inf
    releases = [Release(options.noise_multiplier, 1.0, 2 * most_appearances(options, persons))]
    return epsilon(releases, options.delta)
