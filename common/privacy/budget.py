"""What a run's sums beside training cost, and what share of the budget each purpose has.

Every such sum is a release of everything (sampling rate 1) under discrete Gaussian noise of z times
its sensitivity. Gaussian releases of z_1, z_2, ... are together one of (sum 1 / z_i^2)^(-1/2), so
1 / z^2 is what is shared: the one release that would cost all of ``privacy.epsilon`` beside the
announced sizes has 1 / z_0^2; a purpose with the share s has s / z_0^2, and each of its n sums
s / (n z_0^2). Training is calibrated for what is left, by privacy loss distributions.

*Two kinds of units.* A unit lies in one part of the data. One in the training part pays for sizes,
preparation and training; a held-out one pays for sizes and figures, and trains nothing: the larger
of both is what a run costs (parallel composition). So figures take nothing from training.

With ``privacy.noise_multiplier`` a purpose's sums together cost what one release of that multiplier
does, however many they are; each step of a study that trains nothing has that multiplier itself.
"""

from __future__ import annotations

import math
from functools import lru_cache

from wardround.common.config.covers import covers, noised_sums
from wardround.common.config.load import Config
from wardround.common.privacy.accounting import Release, calibrate
from wardround.common.settings import PrivacyTable, Purpose

_ABOVE = 1 + 1e-12
"""So that no rounding of n sums' cost passes what one of them was calibrated for."""


def announcement(table: PrivacyTable) -> tuple[Release, ...]:
    """What announcing sizes costs. A hospital-level run announces none."""
    return (Release(table.size_noise),) if table.unit in ("example", "patient") else ()


def sum_release(config: Config, purpose: Purpose, sums: int) -> Release:
    """One sum's, of as many as the whole run has for this purpose.

    sums : at least 1. A hospital is charged for what it releases: if more are asked, its limit is
        passed sooner

    Raises ValueError for training, whose schedule is another (``schedule.py``).
    """
    if purpose == "training":
        raise ValueError("training has a schedule of its own")
    table = config.privacy
    if table.noise_multiplier is not None:
        times = 1 if purpose == "statistics" else max(1, sums)
        return Release(table.noise_multiplier * math.sqrt(times))
    return Release(_whole(table) * math.sqrt(max(1, sums) / _share(table, purpose)) * _ABOVE)


def before_training(config: Config) -> tuple[Release, ...]:
    """What a unit of the training part pays beside training: the announced sizes, and the whole
    preparation where it is covered and sums anything."""
    if "preparation" not in noised_sums(config):
        return announcement(config.privacy)
    return (*announcement(config.privacy), sum_release(config, "preparation", 1))


def evaluations(config: Config, rounds: int) -> int:
    """How many rounds of so many are evaluated: every ``evaluation.every``-th, and the last."""
    return math.ceil(rounds / config.evaluation.every)


def held_out_releases(config: Config, rounds: int) -> tuple[Release, ...]:
    """What a held-out unit pays in a whole run: the announced sizes, and all figures' sums where
    they are covered."""
    if not covers(config, "evaluation"):
        return announcement(config.privacy)
    each = sum_release(config, "evaluation", evaluations(config, rounds))
    every = Release(each.noise_multiplier, 1.0, evaluations(config, rounds))
    return (*announcement(config.privacy), every)


def _share(table: PrivacyTable, purpose: Purpose) -> float:
    if purpose == "preparation":
        return table.shares.preparation
    return table.shares.evaluation if purpose == "evaluation" else 1.0


def _whole(table: PrivacyTable) -> float:
    """The noise multiplier of one release that costs all of epsilon, beside the sizes."""
    assert table.epsilon is not None  # the settings have one or the other
    return _calibrated(table.epsilon, table.delta, announcement(table))


@lru_cache(maxsize=256)
def _calibrated(target: float, delta: float, before: tuple[Release, ...]) -> float:
    return calibrate(target, delta, 1.0, 1, before)
