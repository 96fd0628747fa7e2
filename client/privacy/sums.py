"""A hospital's step of a procedure under differential privacy: paid for, then noised.

The order is that of a training round (``round.py``): the spending is on the disk before a row is
counted, and nothing leaves that wasn't counted there. Asked again, a hospital pays again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.account import open_ledger, pay
from wardround.client.privacy.round import Spending, check_split, noise_source
from wardround.common.errors import PrivacyRefused
from wardround.common.figures.sums import Sums
from wardround.common.privacy.accounting import Release
from wardround.common.privacy.mechanism import SMALLEST_SHARE
from wardround.common.privacy.noise import LARGEST_SIGMA
from wardround.common.privacy.sums import FINENESS, own_multiplier, step_release
from wardround.common.procedures.procedure import Parts, Procedure
from wardround.common.protocol.names import SPLITS
from wardround.common.secagg.graph import Thresholds


@dataclass(frozen=True)
class PrivateStep:
    """A step that was paid for.

    sensitivity : the most that a unit changes its sums (L2), by the hospital's own settings
    """

    hospital: Hospital
    step: int
    release: Release
    sensitivity: float

    @classmethod
    def begin(
        cls, hospital: Hospital, procedure: Procedure, step: int, request: bytes
    ) -> PrivateStep:
        """Write down what it costs.

        request : digest of the request as it came

        Raises PrivacyRefused where the hospital's limit forbids it; DataError where a patient to be
        protected is in several parts of the data.
        """
        check_split(hospital)
        config = hospital.config
        release = step_release(config, procedure.most_steps)
        sensitivity = procedure.sensitivity(records_of(hospital))
        mechanism = f"sums of '{procedure.name}', {config.privacy.noise} noise"
        spending = Spending(
            hospital.plan.run, step, request.hex(), mechanism, sensitivity, (release,)
        )
        with open_ledger(hospital) as ledger:
            # the same request in a simulation draws the same noise: nothing more is told
            if not hospital.simulated or ledger.find(spending.request) is None:
                pay(hospital, ledger, spending.entry(hospital), SPLITS)
        return cls(hospital, step, release, sensitivity)

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
        source, found = noise_source(self.hospital, "sums", self.step), Sums()
        for name, value in sorted(sums.items()):
            if not np.array_equal(value, np.rint(value)):
                raise PrivacyRefused(f"the sum '{name[:100]}' is no whole number")
            noise = source.discrete_gaussian(sigma, value.size).reshape(value.shape)
            found[name] = value + noise / FINENESS
        return found


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
