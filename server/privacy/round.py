"""The server's half of differential privacy: what it proposes, and noise where it is trusted.

The server accounts for nothing: every hospital does, and sends signed claims. Here the common
numbers are worked out (rounds, sampling rate, clipping norm, range of the ring), a *central* run's
noise is added, and an adaptive clipping norm follows the noised share of unclipped units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wardround.common.config.load import Config
from wardround.common.flower.arrays import Arrays, Layout
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import (
    Bound,
    Schedule,
    adapted_norm,
    hospital_schedule,
    round_bound,
    sum_reach,
    summed_sampling,
    summed_schedule,
)
from wardround.common.protocol.train import QUANTILE_LAYOUT, PrivacyTerms
from wardround.common.secagg.encoding import add_whole, clip_within
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.ring import Words
from wardround.common.trust.identity import Roster
from wardround.server.members.member import Member
from wardround.server.members.sampling import draw_cohort, training

MakeSource = Callable[[int], NoiseSource]
"""The source of a round's central noise."""


@dataclass(frozen=True)
class Release:
    """One round's release by all hospitals together, as the server must know it.

    protects : hospitals send clipped values that need noise of a sum, or carry shares of it
    """

    config: Config
    roster: Roster
    schedule: Schedule | None
    bound: Bound
    scale: float
    source: NoiseSource

    @property
    def protects(self) -> bool:
        """False where updates arrive with all their noise in their own encoding."""
        return self.schedule is not None

    @property
    def central(self) -> bool:
        """Whether the server adds the noise."""
        return self.protects and self.config.privacy.noise == "central"

    @property
    def sensitivity(self) -> float:
        """L2, of the sum of what hospitals send, to one unit: C (with the quantile coordinate)
        times ``scale``. A summed gradient is sent as -lr / b times itself, b the expected units of
        one hospital, so its scale is lr / b; an update is sent as it is."""
        return self.bound.sensitivity * self.scale

    def records(self) -> dict[str, Layout]:
        """Further array records of a reply."""
        if not self.bound.quantile_scale:
            return {}
        return QUANTILE_LAYOUT

    def reach(self, limits: Thresholds) -> float:
        """The ``clip`` of a fine encoding in a sum of such a group."""
        assert self.schedule is not None
        honest = limits.honest(self.config.secure_aggregation.colluding)
        reach = sum_reach(self.config, self.schedule, self.sensitivity, limits.clients, honest)
        return clip_within(reach)

    def add_to_sum(self, words: Words, step: float) -> None:
        """Central noise on a masked sum, in place, before it is opened: however often it is opened,
        after a crash too, it has the same noise.

        words : of the update section; step : of its grid, in the model's unit
        """
        assert self.schedule is not None
        grid = Grid(step, self.sensitivity, len(words))
        add_whole(grid.draw(self.source, self.schedule.noise_multiplier, len(words)), words)

    def add_to_mean(self, change: Arrays, hospitals: int) -> Arrays:
        """Central noise on the mean change of so many hospitals' parameters: the mean of n moves by
        1 / n of what their sum does."""
        assert self.schedule is not None
        dimension = sum(value.size for value in change.values())
        grid = Grid.for_local(self.sensitivity / hospitals, dimension)
        z = self.schedule.noise_multiplier
        return {name: grid.release(u, z, self.source) for name, u in change.items()}

    def next_norm(self, norm: float, quantile: float) -> float:
        """The clipping norm after a round whose mean quantile coordinate was this.

        A hospital sends (units within C - units / 2) s scale, so over its expected units, s and
        scale it is their share less a half (``schedule.clipping_bound``).
        """
        assert self.schedule is not None
        per_unit = self.bound.quantile_scale * self.scale * self.schedule.expected_units
        return adapted_norm(self.config.privacy, norm, quantile / per_unit + 0.5)


class PrivacyPlan:
    """What the server proposes in every round of a private run.

    Parameters
    ----------
    members : with their announced numbers of units
    run : names the run in the hospitals' ledgers
    make_source : for central noise; from the operating system unless it is a simulation
    """

    def __init__(
        self,
        config: Config,
        members: Sequence[Member],
        roster: Roster,
        run: str,
        make_source: MakeSource | None = None,
    ) -> None:
        self.config, self.roster, self.run = config, roster, run
        self._make_source = make_source or (lambda server_round: NoiseSource.system())
        self.rounds = planned_rounds(config, members)
        self.rate, self.expected_units = 1.0, 1.0
        self.schedule: Schedule | None = None
        if config.privacy.summed:
            units = [member.sizes["train"] for member in training(members)]
            self.rate, self.expected_units = summed_sampling(config, units)
            self.schedule = summed_schedule(config, self.rate, self.expected_units, self.rounds)
        elif config.privacy.unit == "hospital":
            self.schedule = hospital_schedule(config, self.rounds)

    def terms(self, cohort: int, norm: float) -> PrivacyTerms:
        """What a training request proposes to a cohort of so many hospitals."""
        return PrivacyTerms(self.run, self.rounds, cohort, self.rate, self.expected_units, norm)

    def release(self, server_round: int, norm: float, cohort: int) -> Release:
        """The round's release by a cohort of so many hospitals, at the clipping norm ``norm``."""
        bound, scale = Bound(norm), 1.0
        if self.schedule is not None:
            z, units = self.schedule.noise_multiplier, self.expected_units
            bound = round_bound(self.config.privacy, norm, z, units, cohort)
        if self.config.privacy.summed:
            scale = self.config.lr_of(server_round) / self.expected_units
        source = self._make_source(server_round)
        return Release(self.config, self.roster, self.schedule, bound, scale, source)


def planned_rounds(config: Config, members: Sequence[Member]) -> int:
    """The most rounds that any hospital is drawn for, if no round has to be repeated.

    Cohorts are a function of seed and round, so they can be drawn ahead: noise is calibrated for
    the busiest hospital and not for all rounds. A repeated round costs its hospitals a further one.
    """
    federation = config.federation
    per_round = federation.clients_per_round
    if per_round is None or per_round >= len(training(members)):
        return federation.rounds
    count: Counter[str] = Counter()
    for server_round in range(1, federation.rounds + 1):
        drawn = draw_cohort(list(members), per_round, federation.seed, server_round, 1)
        count.update(member.name for member in drawn)
    return max(count.values())
