"""A hospital's round under differential privacy: what it will spend, its ledger, its noise.

The order is: check the budget, write the spending down for good, then train and draw noise. A crash
in between counts what was never released; nothing is released that wasn't counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.account import limit_of, open_ledger, pay
from wardround.client.privacy.book import Balance
from wardround.client.privacy.entries import HELD_OUT, TRAINS, Entry, Limit
from wardround.client.privacy.proposal import Proposal
from wardround.client.secagg.masking import finish_private
from wardround.client.secagg.upload import PendingUpload
from wardround.common.errors import PrivacyRefused, RequestRefused
from wardround.common.flower.arrays import Arrays, Layout
from wardround.common.privacy.accounting import Release, share_of_noise
from wardround.common.privacy.claims import Claim
from wardround.common.privacy.mechanism import Grid
from wardround.common.privacy.noise import NoiseSource
from wardround.common.privacy.schedule import (
    Bound,
    Schedule,
    hospital_schedule,
    round_bound,
    stepwise_schedule,
    sum_reach,
    summed_schedule,
)
from wardround.common.protocol import names as m
from wardround.common.protocol.message import Content
from wardround.common.protocol.train import (
    QUANTILE_LAYOUT,
    TrainReply,
    TrainRequest,
    adapts,
)
from wardround.common.secagg.encoding import clip_within
from wardround.common.secagg.graph import Thresholds
from wardround.common.settings import Purpose

log = logging.getLogger("wardround.client")


@dataclass(frozen=True)
class Spending:
    """What is about to be released, for the ledger.

    request : names it: asked for the same again, a simulation pays once
    norm : the clipping norm; of sums what a unit changes them by
    purpose : '' of announced sizes
    splits : of figures the parts that they are of; all held-out ones where it isn't said
    """

    run: str
    server_round: int
    request: str
    mechanism: str
    norm: float
    releases: tuple[Release, ...]
    purpose: Purpose | Literal[""] = ""
    splits: Collection[str] = ()

    def entry(self, hospital: Hospital) -> Entry:
        """The line that is written down."""
        return Entry(
            federation=hospital.config.federation.name,
            run=self.run,
            round=self.server_round,
            attempt=0,
            request=self.request,
            mechanism=self.mechanism,
            unit=hospital.config.privacy.unit,
            clipping_norm=self.norm,
            releases=self.releases,
            simulated=hospital.simulated,
            time=0.0,
            purpose=self.purpose,
            side=side_of(hospital, self.purpose, self.splits),
        )


SIDES: dict[str, tuple[str, tuple[str, ...]]] = {
    "training": (TRAINS, ("train",)),
    "preparation": (TRAINS, ("train",)),
    "evaluation": (HELD_OUT, m.HELD_OUT),
}
"""Of the purposes that touch one side of the split: which, and its parts."""


def side_of(hospital: Hospital, purpose: str, splits: Collection[str] = ()) -> str:
    """Which side of this run's split a purpose touches, for the ledger; '' for both.

    A run is one of this plan, these settings, this held-out key (two kits that share a ledger have
    one each) and, where the data itself says the split, this split: with others a unit may be on
    the other side.
    """
    if purpose not in SIDES:
        return ""
    run = _run_of(
        hospital.config.federation.name,
        hospital.plan.run,
        hospital.descriptor.hex(),
        hospital.held_out,
        hospital.given_split,
    )
    side = SIDES[purpose][0] if len(splits) != 1 else next(iter(splits))
    return f"{side} {run}"


@lru_cache(maxsize=64)
def _run_of(*named: str) -> str:
    """Sixteen digits that name a run. Kept: thousands of simulated hospitals have the same."""
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def noise_source(hospital: Hospital, purpose: str, server_round: int) -> NoiseSource:
    """From the operating system; for a simulated hospital from the run's seed."""
    if not hospital.simulated:
        return NoiseSource.system()
    seed = hospital.config.federation.seed
    return NoiseSource.seeded(seed, purpose, server_round, hospital.name)


class PrivateRound:
    """One training request's privacy: paid for by ``begin``, then ready to train."""

    def __init__(self, hospital: Hospital, proposal: Proposal, schedule: Schedule) -> None:
        self.hospital, self.proposal, self.schedule = hospital, proposal, schedule
        self.table = hospital.config.privacy
        self.claim = b""

    @cached_property
    def source(self) -> NoiseSource:
        """Of this round's draws and noise."""
        return noise_source(self.hospital, "privacy", self.proposal.server_round)

    @classmethod
    def begin(
        cls, request: TrainRequest, content: bytes, hospital: Hospital, units: int
    ) -> PrivateRound:
        """Check the proposal, check the budget, write the spending down.

        Parameters
        ----------
        content : digest of the request as it came
        units : how many units this hospital announced

        Raises RequestRefused for a false proposal, PrivacyRefused if the hospital's limit forbids
        it.
        """
        self = cls.of(request, hospital, units)
        limit = limit_of(hospital)
        balance = self.settle(content.hex(), limit)
        if hospital.identity is None:
            raise PrivacyRefused(f"{hospital.name} has no identity key to sign its claims with")
        self.claim = self._claim(balance, limit).signed(hospital.identity)
        return self

    @classmethod
    def of(cls, request: TrainRequest, hospital: Hospital, units: int) -> PrivateRound:
        """The same, not paid for: whoever asks settles it, or nothing may leave. Raises
        RequestRefused for a false proposal."""
        table = hospital.config.privacy
        proposal = Proposal.of(request, hospital, units)
        if table.stepwise:
            schedule = stepwise_schedule(hospital.config, units, proposal.rounds)
        elif table.summed:
            rate, expected = proposal.rate, proposal.expected_units
            schedule = summed_schedule(hospital.config, rate, expected, proposal.rounds)
        else:
            schedule = hospital_schedule(hospital.config, proposal.rounds)
        return cls(hospital, proposal, schedule)

    def entry(self, request: str) -> Entry:
        """What it costs, for the ledger. ``request``: digest of the request, hexadecimal."""
        mechanism = {"local": "own noise", "distributed": "share of noise", "central": "no noise"}
        name = f"{'update' if self.table.unit == 'hospital' else 'dp-sgd'}, "
        name += mechanism[self.table.noise]
        return Spending(
            self.proposal.run,
            self.proposal.server_round,
            request,
            name,
            self.proposal.norm,
            (self.schedule.one_round(),),
            "training",
        ).entry(self.hospital)

    def settle(self, request: str, limit: Limit) -> Balance:
        """Write the spending down; the ledger's balance then. Raises PrivacyRefused."""
        hospital, entry = self.hospital, self.entry(request)
        with open_ledger(hospital) as ledger:
            # the same request in a simulation draws the same noise: nothing more is told. A real
            # hospital draws anew, so it pays anew
            if not hospital.simulated or ledger.find(request) is None:
                pay(hospital, ledger, entry, ("train",))
            paid = ledger.find(request)
            # of the sum over all entries, whoever they touched: what one patient has spent in
            # other studies would tell that it was in them
            epsilon = ledger.spent(limit.delta, limit.unit)
            try:
                ledger.check(paid or entry, limit)
                more = True
            except PrivacyRefused:
                more = False
        return Balance(epsilon, more)

    def _claim(self, balance: Balance, limit: Limit) -> Claim:
        hospital = self.hospital
        return Claim(
            federation=hospital.config.federation.name,
            run=self.proposal.run,
            round=self.proposal.server_round,
            hospital=hospital.name,
            unit=self.table.unit,
            noise=self.table.noise,
            epsilon=balance.epsilon,
            delta=limit.delta,
            limit=limit.epsilon,
            more=balance.more,
            simulated=hospital.simulated,
        )

    # --- releases of a whole round's vector: summed steps and hospitals' updates -----------------
    def bound(self) -> Bound:
        """The clipping of a round's one release, by the proposal and this hospital's own settings:
        the server's ``round_bound`` gives the same, else its ring would not fit."""
        proposal, z = self.proposal, self.schedule.noise_multiplier
        return round_bound(self.table, proposal.norm, z, proposal.expected_units, proposal.clients)

    def reach(self, limits: Thresholds) -> float:
        """The ``clip`` of a masked sum of such a group: what the server must have worked out as
        well. Raises RequestRefused for a group that is larger than the proposed cohort."""
        if limits.clients > self.proposal.clients:
            raise RequestRefused(
                f"the request's cohort is {self.proposal.clients}, and its group has "
                f"{limits.clients}"
            )
        config, schedule = self.hospital.config, self.schedule
        sensitivity = self.bound().sensitivity
        if self.table.summed:  # sent as -lr / b times itself
            sensitivity *= config.lr_of(self.proposal.server_round) / schedule.expected_units
        return clip_within(
            sum_reach(config, schedule, sensitivity, limits.clients, self._honest(limits))
        )

    def clip_update(self, update: Arrays, bound: Bound) -> Arrays:
        """The update scaled to a norm of at most C; zeros, with a warning, if it isn't finite.

        With the quantile coordinate, if there is one.
        """
        squares = sum(float(np.square(u, dtype=np.float64).sum()) for u in update.values())
        norm = math.sqrt(squares) if math.isfinite(squares) else math.inf
        if not math.isfinite(norm):
            log.warning("%s: its update is not finite; it sends zeros", self.hospital.name)
        factor = min(1.0, bound.norm / norm) if norm > 0 else 1.0
        clipped = {
            name: np.asarray(u, np.float64) * factor if factor else np.zeros(u.shape)
            for name, u in update.items()
        }
        if bound.quantile_scale:
            within = 0.5 if norm <= bound.norm else -0.5
            clipped[m.QUANTILE] = np.array([bound.quantile_scale * within])
        return clipped

    def records(self) -> dict[str, Layout]:
        """Further array records of the reply: the quantile coordinate, where the norm adapts."""
        return QUANTILE_LAYOUT if adapts(self.table) else {}

    def reply(
        self,
        pending: PendingUpload | None,
        received: Arrays,
        update: Arrays,
        sensitivity: float,
    ) -> Content:
        """The answer to a training request, of a clipped ``update`` of this L2 sensitivity.

        Masked: whole numbers, with all, a share or none of the noise. Plain: with all or none.
        """
        if pending is not None:
            grid = Grid(pending.encoding.step, sensitivity, _dimension(update))
            whole = self.whole_numbers(grid, update, pending.encoding.levels, pending.limits)
            names = {name: f"{m.ARRAYS}/{name}" for name in whole} | {
                m.QUANTILE: f"{m.QUANTILE}/{m.QUANTILE}"
            }
            named = {names[name]: value for name, value in whole.items()}
            return finish_private(pending, self.hospital, received, named, self.claim)
        moved, records = self.released(received, update, sensitivity)
        return TrainReply(received | moved, 1, 1, None, records, self.claim).to_records()

    def released(
        self, received: Arrays, update: Arrays, sensitivity: float
    ) -> tuple[Arrays, dict[str, Arrays]]:
        """What leaves in plain of a clipped ``update``, with all or none of the noise: the arrays
        that moved, and further records."""
        if self.table.noise == "local":
            z = self.schedule.noise_multiplier
            grid = Grid.for_local(sensitivity, _dimension(update))
            update = {name: grid.release(u, z, self.source) for name, u in update.items()}
        moved = {
            name: (received[name] + u).astype(received[name].dtype)
            for name, u in update.items()
            if name != m.QUANTILE
        }
        if m.QUANTILE not in update:
            return moved, {}
        return moved, {m.QUANTILE: {m.QUANTILE: update[m.QUANTILE].astype(np.float32)}}

    def whole_numbers(
        self, grid: Grid, update: Arrays, most: int, limits: Thresholds
    ) -> dict[str, NDArray[np.int64]]:
        """The update on the grid with what this hospital adds of the noise, for a masked sum.

        most : largest magnitude before noise; limits : of the group whose sum it goes into
        """
        whole = {name: grid.round(u, most) for name, u in update.items()}
        z, place = self.schedule.noise_multiplier, self.table.noise
        if place == "central":
            return whole
        if place == "distributed":
            z = share_of_noise(z, self._honest(limits))
        for values in whole.values():
            values += grid.draw(self.source, z, values.size).reshape(values.shape)
        return whole

    def _honest(self, limits: Thresholds) -> int:
        """How many carry the noise at least, whatever the server says."""
        return limits.honest(self.hospital.config.secure_aggregation.colluding)


def _dimension(update: Mapping[str, NDArray[Any]]) -> int:
    return sum(u.size for u in update.values())
