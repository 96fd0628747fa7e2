"""``privacy_plan``: what a configuration will cost each hospital, before anyone trains.

It is what ``wardround privacy plan`` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from wardround.common.config.load import Config
from wardround.common.privacy.incompatible import check_settings
from wardround.simulations.privacy.plan import (
    HospitalPlan,
    need_privacy,
    plan_hospitals,
    shown_rounds,
    units_of,
)
from wardround.simulations.python.simulate import Overrides, as_texts
from wardround.simulations.run.simulate import load

_MOST = 20


@dataclass(frozen=True)
class PrivacyPlan:
    """What each hospital will spend, the smallest hospital first.

    hospitals : {hospital, units, schedule}; ``schedule`` has noise multiplier, sampling rate, steps
    config : the settings that it is of

    >>> from wardround.simulations import privacy_plan
    >>> plan = privacy_plan(overrides=["privacy.unit=example", "privacy.epsilon=3"])
    >>> len(plan.hospitals), max(row["epsilon"] for row in plan.records) <= 3
    (5, True)
    """

    hospitals: list[HospitalPlan]
    config: Config = field(repr=False)

    @property
    def records(self) -> list[dict[str, Any]]:
        """{hospital, units, noise_multiplier, round, epsilon}, after each quarter of the rounds."""
        rounds, delta = shown_rounds(self.config), self.config.privacy.delta
        return [
            {
                "hospital": one.hospital,
                "units": one.units,
                "noise_multiplier": one.schedule.noise_multiplier,
                "round": number,
                "epsilon": epsilon,
            }
            for one in self.hospitals
            for number, epsilon in zip(rounds, one.epsilons(delta, rounds), strict=True)
        ]

    @property
    def epsilon(self) -> float:
        """What the whole run costs whom it costs most."""
        return max(float(row["epsilon"]) for row in self.records)

    def __repr__(self) -> str:
        smallest, privacy = self.hospitals[0], self.config.privacy
        return (
            f"<PrivacyPlan: unit {privacy.unit}; epsilon {self.epsilon:.3g} at delta "
            f"{privacy.delta:g} after {self.config.federation.rounds} rounds; noise multiplier "
            f"{smallest.schedule.noise_multiplier:.3g} at {smallest.hospital}, the smallest of "
            f"{len(self.hospitals)}>"
        )

    def _repr_html_(self) -> str:
        rounds = shown_rounds(self.config)
        heads = ["hospital", "units", "noise multiplier", *(f"after {one}" for one in rounds)]
        lines = [
            [
                one.hospital,
                str(one.units),
                f"{one.schedule.noise_multiplier:.3g}",
                *(f"{x:.3g}" for x in one.epsilons(self.config.privacy.delta, rounds)),
            ]
            for one in self.hospitals[:_MOST]
        ]
        rows = [f"<tr>{''.join(f'<td>{escape(x)}</td>' for x in line)}</tr>" for line in lines]
        head = "".join(f"<th>{escape(one)}</th>" for one in heads)
        return f"<p>{escape(repr(self))}</p><table><tr>{head}</tr>{''.join(rows)}</table>"


def privacy_plan(
    config: Config | Path | str | None = None,
    *,
    overrides: Overrides = (),
    sizes: Mapping[str, int] | None = None,
) -> PrivacyPlan:
    """What ``[privacy]`` of a configuration will cost, without training.

    Parameters
    ----------
    config, overrides : as of ``simulate``
    sizes : protected units (rows or patients) to train on, by hospital; None: those of the
        configuration's data

    Raises ConfigError where privacy is off, or no rows are trained on.

    >>> from wardround.simulations import privacy_plan
    >>> private = {"privacy.unit": "example", "privacy.epsilon": 3.0}
    >>> plan = privacy_plan(overrides=private, sizes={"north": 60, "south": 600})
    >>> [one.hospital for one in plan.hospitals], plan.epsilon <= 3.0
    (['north', 'south'], True)
    """
    settings = load(config, as_texts(overrides))
    need_privacy(settings, "plan")
    check_settings(settings)
    if not settings.procedure.trains:
        raise settings.error(
            "procedure.name", "trains nothing; plan it by `wardround privacy plan`"
        )
    if sizes is None:
        rows, patients = units_of(settings)
        sizes = patients if settings.privacy.unit == "patient" and patients else rows
    return PrivacyPlan(plan_hospitals(settings, sizes), settings)
