"""A sum that leaves a hospital under differential privacy: paid for, then noised.

Whoever has a hospital answer for a sum of whole numbers (a step of a procedure, a phase of the
preparation, the figures of a round) does three things, in this order:

1. ``PrivateSum.begin(hospital, purpose, number, sensitivity, release, request)`` once the request
   was checked and before a row is counted: the spending is on the disk then, witnessed, and
   nothing leaves that wasn't counted there.
2. The sums: whole numbers in float64, of no more than ``records_of(hospital)`` rows of any unit
   (``capped``). One unit, come or gone, changes all of them together by at most ``sensitivity``
   (L2). That is the caller's to prove, and the hospital's own to work out: never the server's.
3. ``.noised(sums, limits)``: with masks as ``mask_sums(..., noised=private.noised)``, without as
   it is. Every number gets this hospital's noise, or its share of it.

``release`` is ``common.privacy.budget.sum_release(config, purpose, planned)``, with the number of
sums that the whole run has for this purpose. Asked again, a hospital pays again.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.account import open_ledger, pay
from wardround.client.privacy.round import SIDES, Spending, noise_source
from wardround.client.privacy.sizes import check_split
from wardround.common.errors import PrivacyRefused
from wardround.common.figures.sums import Sums
from wardround.common.privacy.accounting import Release
from wardround.common.privacy.mechanism import SMALLEST_SHARE
from wardround.common.privacy.noise import LARGEST_SIGMA
from wardround.common.privacy.sums import FINENESS, own_multiplier
from wardround.common.procedures.procedure import Parts
from wardround.common.protocol.names import SPLITS
from wardround.common.secagg.graph import Thresholds
from wardround.common.settings import Purpose


@dataclass(frozen=True)
class PrivateSum:
    """A sum that was paid for.

    number : of the phase, step or round; in a simulation the noise derives from it
    sensitivity : the most that a unit changes all its numbers together (L2)
    """

    hospital: Hospital
    purpose: Purpose
    number: int
    release: Release
    sensitivity: float

    @classmethod
    def begin(
        cls,
        hospital: Hospital,
        purpose: Purpose,
        number: int,
        sensitivity: float,
        release: Release,
        request: bytes,
        what: str = "",
        splits: Collection[str] = (),
    ) -> PrivateSum:
        """Write down what it costs.

        request : digest of the request as it came
        what : of whose sums, for people; the purpose by default
        splits : the only parts of the data that they are of; by default all that the purpose has

        Raises PrivacyRefused where the hospital's limit forbids it, or the sensitivity is none;
        DataError where a patient to be protected is in several parts of the data.
        """
        if not 0 < sensitivity < math.inf:
            raise PrivacyRefused("what a unit changes these sums by is not known")
        check_split(hospital)
        mechanism = f"sums of {what or purpose}, {hospital.config.privacy.noise} noise"
        spending = Spending(
            run=hospital.plan.run,
            server_round=number,
            request=request.hex(),
            mechanism=mechanism,
            norm=sensitivity,
            releases=(release,),
            purpose=purpose,
            splits=tuple(splits),
        )
        _, every = SIDES.get(purpose, ("", SPLITS))
        with open_ledger(hospital) as ledger:
            # the same request in a simulation draws the same noise: nothing more is told
            if not hospital.simulated or ledger.find(spending.request) is None:
                pay(hospital, ledger, spending.entry(hospital), splits or every)
        return cls(hospital, purpose, number, release, sensitivity)

    def noised(self, sums: Sums, limits: Thresholds | None = None) -> Sums:
        """The sums with the hospital's noise on every number.

        limits : of the group whose masked sum they go into; None without masks

        Raises PrivacyRefused for what is no whole number, or noise that can't be drawn exactly.
        """
        config = self.hospital.config
        honest = limits.honest(config.secure_aggregation.colluding) if limits else None
        multiplier = own_multiplier(config, self.release, honest)
        sigma = FINENESS * multiplier * self.sensitivity
        if not SMALLEST_SHARE <= sigma <= LARGEST_SIGMA:
            raise PrivacyRefused(
                f"noise of {sigma / FINENESS:.3g} on counts can't be drawn exactly; lower "
                "privacy.epsilon"
            )
        source, found = noise_source(self.hospital, self._name, self.number), Sums()
        for name, value in sorted(sums.items()):
            if not np.array_equal(value, np.rint(value)):
                raise PrivacyRefused(f"the sum '{name[:100]}' is no whole number")
            noise = source.discrete_gaussian(sigma, value.size).reshape(value.shape)
            found[name] = value + noise / FINENESS
        return found

    @property
    def _name(self) -> str:
        """Of the noise's seed in a simulation."""
        return "sums" if self.purpose == "statistics" else f"sums of {self.purpose}"


def records_of(hospital: Hospital) -> int:
    """How many rows of one unit count at most."""
    table = hospital.config.privacy
    return table.records_per_patient if table.unit == "patient" else 1


def capped(hospital: Hospital, parts: Parts) -> dict[str, Any]:
    """The parts without what a patient has beyond ``privacy.records_per_patient`` rows."""
    if hospital.config.privacy.unit != "patient":
        return dict(parts)
    return {
        split: hospital.task.select(part, hospital.capped_rows(part))
        for split, part in parts.items()
    }
