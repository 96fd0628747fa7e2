"""What each purpose of a run costs: its share of the budget, its sums, their noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wardround.common.config.covers import covered, noised_sums, obstacle
from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.privacy.accounting import Release, epsilon
from wardround.common.privacy.budget import (
    announcement,
    before_training,
    evaluations,
    held_out_releases,
    sum_release,
)
from wardround.common.privacy.preparing import phases_of
from wardround.common.settings import PURPOSES
from wardround.simulations.privacy.plan import HospitalPlan

TRAINING_UNIT, HELD_OUT_UNIT, BOTH = "training", "held out", "both"


@dataclass(frozen=True)
class Price:
    """What a purpose costs those who pay for it, at the hospital that it is dearest for.

    who : whose units pay
    sums : noised sums in the whole run (of training: steps)
    noise_multiplier : of each sum
    epsilon : of this purpose alone; all that a unit pays for adds up to less than their sum
    """

    purpose: str
    who: str
    sums: int
    noise_multiplier: float
    epsilon: float


@dataclass(frozen=True)
class Prices:
    """What a run costs.

    epsilons : of each kind of unit, all together
    exact : purposes whose sums carry no noise, and why where they can't
    """

    prices: Sequence[Price]
    epsilons: dict[str, float]
    exact: Mapping[str, str]


def prices(config: Config, plans: Sequence[HospitalPlan]) -> Prices:
    """Of a run with these hospitals."""
    table, found = config.privacy, list[Price]()

    def price(purpose: str, who: str, sums: int, one: Release) -> None:
        found.append(Price(purpose, who, sums, one.noise_multiplier, epsilon([one], table.delta)))

    for one in announcement(table):
        price("sizes", BOTH, 1, one)
    purposes, rounds = covered(config), config.federation.rounds
    if "preparation" in noised_sums(config):
        sums = phases_of(config, make_task(config))
        each = sum_release(config, "preparation", sums).noise_multiplier
        price("preparation", TRAINING_UNIT, sums, Release(each, 1.0, sums))
    dearest = max(plans, key=lambda one: one.schedule.epsilon(table.delta)).schedule
    steps = dearest.steps * dearest.rounds
    price(
        "training",
        TRAINING_UNIT,
        steps,
        Release(dearest.noise_multiplier, dearest.sampling_rate, steps),
    )
    if "evaluation" in purposes:
        count = evaluations(config, rounds)
        each = sum_release(config, "evaluation", count).noise_multiplier
        price("evaluation", HELD_OUT_UNIT, count, Release(each, 1.0, count))
    exact: dict[str, str] = {
        one: _why(config, one)
        for one in PURPOSES
        if one not in (*purposes, "statistics") and config.procedure.trains
    }
    training = Release(dearest.noise_multiplier, dearest.sampling_rate, steps)
    epsilons = {TRAINING_UNIT: epsilon([*before_training(config), training], table.delta)}
    if "evaluation" in purposes:
        epsilons[HELD_OUT_UNIT] = epsilon(held_out_releases(config, rounds), table.delta)
    return Prices(found, epsilons, exact)


def _why(config: Config, purpose: str) -> str:
    for known in PURPOSES:
        if known == purpose and (found := obstacle(config, known)) is not None:
            return f"{found[1]}; {found[2]}"
    return "privacy.covers leaves it out"
