"""What a server proposes for a private round, held against this hospital's own settings.

Noise and spending are the hospital's own in any case: it is charged for what it really does. But a
false proposal would shape what leaves: it is refused before anything is paid for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wardround.client.data.hospital import Hospital
from wardround.common.errors import RequestRefused
from wardround.common.privacy.schedule import norm_range
from wardround.common.protocol.message import REQUEST, Value
from wardround.common.protocol.train import (
    CLIPPING_NORM,
    EXPECTED_UNITS,
    RUN,
    SAMPLING_RATE,
    PrivacyTerms,
    TrainRequest,
)
from wardround.common.settings import PrivacyTable
from wardround.common.text import one_line

_ROUNDING = 1e-6
"""Of numbers that both sides work out; far below what would make a difference."""


@dataclass(frozen=True)
class Proposal:
    """What the server proposes for a round, as this hospital's settings take it.

    rounds : in which the hospital is going to take part, for calibration
    clients : hospitals in the cohort
    rate, expected_units : of a summed step; 1 otherwise
    norm : the clipping norm, where the server adapts it
    """

    run: str
    server_round: int
    rounds: int
    clients: int
    rate: float
    expected_units: float
    norm: float

    @classmethod
    def of(cls, request: TrainRequest, hospital: Hospital, units: int) -> Proposal:
        """Of a training request, at a hospital that announced so many units.

        Raises RequestRefused where it proposes nothing, or what no honest server would.
        """
        terms, table = request.privacy, hospital.config.privacy
        if terms is None:
            raise REQUEST.is_wrong(RUN)
        server_round = request.model.server_round
        if table.summed:
            _check_sampling(terms, hospital, units)
        _check_norm(terms, table, server_round)
        return cls(
            one_line(terms.run),
            server_round,
            terms.planned_rounds,
            terms.cohort,
            terms.sampling_rate if table.summed else 1.0,
            terms.expected_units if table.summed else 1.0,
            terms.clipping_norm,
        )


def _check_sampling(terms: PrivacyTerms, hospital: Hospital, units: int) -> None:
    """The common rate is batch size x hospitals / units of all, and every other hospital has one
    unit at least; what each draws of them is the batch size then, or all of its own on average."""
    batch, hospitals = hospital.config.training.batch_size, len(hospital.roster)
    least = 1.0  # of the mean number of units, where everything is drawn
    if hospitals:  # else a simulation, without names
        total = max(1, units) + hospitals - 1
        least = total / hospitals
        _within(SAMPLING_RATE, terms.sampling_rate, 0.0, min(1.0, batch * hospitals / total))
    all_drawn = terms.sampling_rate >= 1.0
    _within(EXPECTED_UNITS, terms.expected_units, least if all_drawn else batch, batch)


def _check_norm(terms: PrivacyTerms, table: PrivacyTable, server_round: int) -> None:
    """The settings' norm, or where it adapts one that so many rounds could have brought about."""
    _within(CLIPPING_NORM, terms.clipping_norm, *norm_range(table, server_round))


def _within(value: Value[float], found: float, least: float, most: float) -> None:
    if not least * (1 - _ROUNDING) <= found <= most * (1 + _ROUNDING):
        said = f"{least:.6g}" if math.isclose(least, most) else f"{least:.6g} to {most:.6g}"
        raise RequestRefused(
            f"the request's {value.key} is {found:.6g}, this hospital's settings give {said}"
        )
