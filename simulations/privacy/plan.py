"""``wardround privacy plan``: what a configuration will cost each hospital, before anyone trains.

The same schedules are used here, in training and in accounting (``common/privacy/schedule.py``); a
plan counts the units that hospitals really have, a run what they announce (with noise).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wardround.common.config.load import Config
from wardround.common.config.task import make_task
from wardround.common.privacy.schedule import (
    Schedule,
    hospital_schedule,
    stepwise_schedule,
    summed_sampling,
    summed_schedule,
)
from wardround.common.run.report.plots import Figure, curves
from wardround.common.secagg.graph import thresholds
from wardround.server.members.member import Member
from wardround.server.privacy.round import planned_rounds
from wardround.simulations.population.hospitals import Population

_POINTS = 24
_SHOWN = (0.25, 0.5, 0.75, 1.0)
_BATCHES = (0.5, 1.0, 2.0, 4.0)
_REPRESENTATIVES = 8


@dataclass(frozen=True)
class HospitalPlan:
    """One hospital's schedule. ``units``: how many protected ones it has to train on."""

    hospital: str
    units: int
    schedule: Schedule

    def epsilons(self, delta: float, rounds: list[int]) -> list[float]:
        """Spent after each of these rounds."""
        return [self.schedule.epsilon(delta, count) for count in rounds]


@dataclass(frozen=True)
class Alternative:
    """What another choice would cost.

    rounds : of communication
    epsilon, noise_multiplier : of the hospital that they are largest for
    noise : standard deviation of the noise in a step of the shared model, per coordinate, in
        clipping norms, where nobody drops out; smaller is more accurate
    """

    unit: str
    noise_place: str
    batch_size: int | None
    rounds: int
    noise_multiplier: float
    epsilon: float
    noise: float
    chosen: bool


def need_privacy(settings: Config, what: str) -> None:
    """Raise ConfigError where there is no privacy to ``what``."""
    if not settings.privacy.enabled:
        raise settings.error(
            "privacy.unit",
            f"is 'none': nothing to {what}; try --set privacy.unit=example --set privacy.epsilon=3",
        )


def units_of(settings: Config) -> tuple[dict[str, int], dict[str, int] | None]:
    """Training rows and patients of the configured hospitals, by what people call these."""
    population = Population(settings, make_task(settings))
    hospitals, titles = population.training(), population.titles
    for hospital in hospitals:
        hospital.unit_counts()  # refuses patients that the data doesn't name, as training does
    rows = {titles.get(one.name, one.name): one.sizes()["train"] for one in hospitals}
    patients = {
        titles.get(hospital.name, hospital.name): count
        for hospital in hospitals
        if (count := hospital.training_patients()) is not None
    }
    return rows, patients if len(patients) == len(rows) else None


def plan_hospitals(config: Config, units: Mapping[str, int]) -> list[HospitalPlan]:
    """Every hospital's schedule, the smallest hospital first.

    units : training units (rows or patients) by hospital
    """
    members = [
        Member(name, index, {"train": count}) for index, (name, count) in enumerate(units.items())
    ]
    rounds = planned_rounds(config, members)
    return [
        HospitalPlan(name, count, _schedule(config, count, list(units.values()), rounds))
        for name, count in sorted(units.items(), key=lambda item: (item[1], item[0]))
    ]


def shown_rounds(config: Config) -> list[int]:
    """Quarters of the run."""
    return sorted({max(1, round(share * config.federation.rounds)) for share in _SHOWN})


def alternatives(
    config: Config, units: Mapping[str, int], patients: Mapping[str, int] | None
) -> list[Alternative]:
    """Other units, places of the noise and batch sizes, for as many passes over the data.

    units : rows by hospital; patients : patients by hospital, if the data knows them
    """
    table = config.privacy
    found = []
    counts = {"example": units, "patient": patients, "hospital": units}
    for unit, sizes in counts.items():
        if sizes is None:
            continue
        for place in ("local", "distributed", "central"):
            found.append(_alternative(config, sizes, unit, place, 1.0))
    if table.unit != "hospital":
        own = counts[table.unit] or units
        found += [
            _alternative(config, own, table.unit, table.noise, factor)
            for factor in _BATCHES
            if factor != 1
        ]
    return found


def plan_figure(plans: list[HospitalPlan], config: Config) -> Figure:
    """Epsilon against rounds, a line per hospital (plotly, JSON-ready)."""
    total = config.federation.rounds
    rounds = sorted({max(1, round(total * i / _POINTS)) for i in range(1, _POINTS + 1)})
    records: list[dict[str, Any]] = []
    for one in plans:
        values = one.epsilons(config.privacy.delta, rounds)
        records += [
            {
                "round": number,
                "hospital": f"{one.hospital} ({one.units})",
                "split": "privacy",
                "metric": "epsilon",
                "value": value,
            }
            for number, value in zip(rounds, values, strict=True)
        ]
    figure = curves(records, "privacy", "epsilon")
    assert figure is not None  # there is at least one hospital and one round
    return figure


def _schedule(config: Config, own: int, all_units: list[int], rounds: int) -> Schedule:
    table = config.privacy
    if table.stepwise:
        return stepwise_schedule(config, own, rounds)
    if table.summed:
        rate, expected = summed_sampling(config, all_units)
        return summed_schedule(config, rate, expected, rounds)
    return hospital_schedule(config, rounds)


def _alternative(
    config: Config, sizes: Mapping[str, int], unit: str, place: str, batch: float
) -> Alternative:
    table, training = config.privacy, config.training
    batch_size = max(1, round(training.batch_size * batch))
    most = max(sizes.values())
    steps = training.local_steps or training.local_epochs * math.ceil(most / batch_size)
    privacy = table.model_copy(update={"unit": unit, "noise": place})
    changed = training.model_copy(update={"batch_size": batch_size})
    together = min(len(sizes), config.federation.clients_per_round or len(sizes))
    sizes = _representative(sizes)
    rounds = config.federation.rounds
    if privacy.summed:  # every step is a round
        changed = changed.model_copy(update={"local_steps": 1})
        rounds *= steps
    federation = config.federation.model_copy(update={"rounds": rounds})
    other = config.model_copy(
        update={"privacy": privacy, "training": changed, "federation": federation}
    )
    plans = plan_hospitals(other, sizes)
    chosen = batch == 1 and unit == table.unit and place == table.noise
    return Alternative(
        unit=unit,
        noise_place=place,
        batch_size=None if unit == "hospital" else batch_size,
        rounds=rounds,
        noise_multiplier=max(one.schedule.noise_multiplier for one in plans),
        epsilon=max(one.schedule.epsilon(table.delta) for one in plans),
        noise=_noise(plans, other, together),
        chosen=chosen,
    )


def _representative(sizes: Mapping[str, int]) -> dict[str, int]:
    """At most eight hospitals with sizes spread like all of them, the smallest included."""
    ordered = sorted(sizes.items(), key=lambda item: item[1])
    count = min(len(ordered), _REPRESENTATIVES)
    places = {round(i * (len(ordered) - 1) / max(1, count - 1)) for i in range(count)}
    return dict(ordered[place] for place in sorted(places))


def _noise(plans: list[HospitalPlan], config: Config, together: int) -> float:
    """Of the mean over the steps of so many hospitals: each one's own noise, or one for all."""
    own = [one.schedule.noise_multiplier / one.schedule.expected_units for one in plans]
    place = config.privacy.noise
    if place == "local":
        return math.sqrt(sum(x * x for x in own) / len(own) / together)
    surplus = 1.0
    if place == "distributed":  # each one's share is made for the fewest that may be left
        table = config.secure_aggregation
        limits = thresholds(together, table.threshold, table.colluding, table.min_cohort)
        surplus = math.sqrt(together / max(1, limits.honest(table.colluding)))
    return surplus * max(own) / together
