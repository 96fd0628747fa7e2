"""The configured training, with canaries in it: the product's own sampling, sums and noise.

Stepwise: one hospital's whole DP-SGD on its own rows, the canaries beside them. Summed and hospital
form: each round's vectors of all hospitals, with their shares of noise, as the server adds them up.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.proposal import Proposal
from wardround.client.privacy.round import PrivateRound
from wardround.client.privacy.steps import ClippedGradients, PrivateSteps
from wardround.client.training.steps import train_model
from wardround.common.config.load import Config
from wardround.common.flower.arrays import digest_arrays
from wardround.common.model.named import build_model
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import Bound, Schedule
from wardround.common.secagg.encoding import Encoding, add_whole, dequantise
from wardround.common.secagg.graph import thresholds
from wardround.server.members.member import Member
from wardround.server.privacy.round import PrivacyPlan
from wardround.simulations.population.hospitals import Population
from wardround.simulations.privacy.attacks.one_run import Canaries, Reals
from wardround.simulations.privacy.plan import plan_hospitals
from wardround.simulations.run.baselines import own_totals


class _WithCanaries:
    """A hospital's clipped sums with the canaries' coordinates behind the parameters', and before
    what else is released with them (the count that an adaptive norm needs): that stays last."""

    def __init__(self, own: ClippedGradients, units: int, canaries: Canaries) -> None:
        self._own, self._units, self._canaries = own, units, canaries
        self.parameters = own.parameters
        self.dimension = own.dimension + len(canaries)

    def total(self, chosen: NDArray[np.int64], bound: Bound) -> Reals:
        """The first units are the hospital's, the others canaries."""
        own = self._own.total(chosen[chosen < self._units], bound)
        sampled = chosen[chosen >= self._units] - self._units
        canaries = self._canaries.contribution(sampled) * (bound.norm / self._canaries.norm)
        trained = sum(p.numel() for _, p in self.parameters)
        return np.concatenate([own[:trained], canaries, own[trained:]])


def observe_training(
    config: Config, population: Population, canaries: Canaries, noise_scale: float
) -> None:
    """Run the configured training and let the canaries see what it releases.

    noise_scale : times the noise that belongs there; below 1 to see whether that is noticed
    """
    hospitals = population.training()
    units = {hospital.name: hospital.unit_counts()["train"] for hospital in hospitals}
    plans = {one.hospital: one.schedule for one in plan_hospitals(config, units)}
    if config.privacy.stepwise:
        smallest = min(hospitals, key=lambda hospital: units[hospital.name])
        _stepwise(config, smallest, plans[smallest.name], canaries, noise_scale)
    else:
        _rounds(config, hospitals, plans, canaries, noise_scale)


def _weaker(schedule: Schedule, noise_scale: float) -> Schedule:
    values = vars(schedule) | {"noise_multiplier": schedule.noise_multiplier * noise_scale}
    return Schedule(**values)


def _stepwise(
    config: Config, hospital: Hospital, schedule: Schedule, canaries: Canaries, noise_scale: float
) -> None:
    totals = own_totals(hospital)
    examples = hospital.examples(totals, "own:" + digest_arrays(totals))["train"]
    model, units = build_model(hospital.task, totals, config.federation.seed), hospital.units()
    model.train()
    own = ClippedGradients(
        model, hospital.task.loss, examples, units, config.privacy, config.training
    )
    both = _WithCanaries(own, len(units), canaries)
    trained = sum(p.numel() for _, p in own.parameters)
    norm, source = config.privacy.clipping_norm, NoiseSource.system()
    for server_round in range(1, schedule.rounds + 1):
        steps = PrivateSteps(
            both, len(units) + len(canaries), _weaker(schedule, noise_scale),
            config.privacy, norm, source,
        )  # fmt: skip

        def watched(steps: PrivateSteps = steps) -> Iterator[Tensor]:
            for loss in steps:
                seen = steps.released[trained : trained + len(canaries)]
                canaries.observe(seen / steps.bound.norm)
                yield loss

        train_model(model, watched(), config, (config.federation.seed, server_round, "audit"))
        norm = steps.norm


def _rounds(
    config: Config,
    hospitals: list[Hospital],
    plans: dict[str, Schedule],
    canaries: Canaries,
    noise_scale: float,
) -> None:
    """Canaries are units of the first hospital, or hospitals of their own."""
    counts = [hospital.unit_counts()["train"] for hospital in hospitals]
    members = [
        Member(hospital.name, index, {"train": count})
        for index, (hospital, count) in enumerate(zip(hospitals, counts, strict=True))
    ]
    plan = PrivacyPlan(config, members, {}, "audit", lambda number: NoiseSource.system())
    secure = config.secure_aggregation
    limits = thresholds(
        max(2, len(hospitals)), secure.threshold, secure.colluding, secure.min_cohort
    )
    norm, number = config.privacy.clipping_norm, len(canaries)
    for server_round in range(1, plan.rounds + 1):
        release = plan.release(server_round, norm, len(hospitals))
        assert release.schedule is not None
        encoding = Encoding(32, release.reach(limits), len(hospitals), 1, fine=True)
        grid = Grid(encoding.step, release.sensitivity, number)
        words = np.zeros(number, np.uint32)
        for index, hospital in enumerate(hospitals):
            source = NoiseSource.system()
            sampled = source.poisson_sample(number, plan.rate)
            if index > 0:  # a canary is in one hospital
                sampled = sampled[:0]
            vector = canaries.contribution(sampled) * (norm / canaries.norm) * release.scale
            proposal = Proposal(
                "audit", server_round, plan.rounds, len(hospitals),
                plan.rate, plan.expected_units, norm,
            )  # fmt: skip
            one = PrivateRound(hospital, proposal, _weaker(plans[hospital.name], noise_scale))
            one.source = source
            whole = one.whole_numbers(grid, {"canaries": vector}, encoding.levels, limits)
            add_whole(whole["canaries"], words)
        if release.central:
            z = release.schedule.noise_multiplier * noise_scale
            add_whole(grid.draw(release.source, z, number), words)
        seen = dequantise(words, 1.0).astype(np.float64) * encoding.step
        canaries.observe(seen / (release.scale * norm))
