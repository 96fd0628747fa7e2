"""The preparation's sums under differential privacy: what this hospital's units add, noised.

Names and shapes are worked out on none of the rows, and so is what a unit can change the sums by:
by this hospital's own settings, for the sums that are asked for, which are the same for all.
"""

from __future__ import annotations

from functools import partial

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sums import PrivateSum
from wardround.client.requests.layouts import fixed_words
from wardround.client.secagg.asked import Step
from wardround.client.secagg.failing import or_zeros
from wardround.client.secagg.masking import MaskedAsk, check_lacking, mask_sums
from wardround.client.state import ClientState
from wardround.common.figures.sums import Sums
from wardround.common.privacy.preparing import phase_release
from wardround.common.protocol.message import Content
from wardround.common.protocol.statistics import StatisticsReply, StatisticsRequest
from wardround.common.secagg.content import content_digest, sums_layout
from wardround.common.tasks.private import PrivatePreparation, sensitivity, shapes_of, unit_sums

Shapes = dict[str, tuple[int, ...]]


def private_shapes(
    private: PrivatePreparation, hospital: Hospital, phase: int, totals: Sums
) -> Shapes:
    """Names and shapes of this hospital's sums. Raises RequestRefused, in fixed words; DataError
    where there are no rows to train on."""
    hospital.training_part()
    with fixed_words("private_preparation()"):
        return shapes_of(private.parts(hospital.without_rows()["train"], phase, totals))


def answer_privately(
    private: PrivatePreparation,
    request: StatisticsRequest,
    totals: Sums,
    content: Content,
    hospital: Hospital,
    state: ClientState,
) -> Content:
    """This hospital's noised sums of a phase, paid for before a row is counted."""
    phase, own = request.phase, private_shapes(private, hospital, request.phase, totals)
    asked = own
    if request.masked is not None:
        check_lacking(request.masked, own)
        named = sums_layout(request.masked.sums_layout()).named
        asked = {name: shape for name, shape in own.items() if name in named}
    paid = PrivateSum.begin(
        hospital,
        "preparation",
        phase,
        sensitivity(private, asked),
        phase_release(hospital.config, private),
        content_digest(content),
    )
    sums = partial(_sums, private, hospital, phase, totals)
    if request.masked is None:
        # only of the first phase the server may know that it fails: nothing of its own is in it
        found = or_zeros(hospital, f"statistics {phase}", sums, own) if phase else sums()
        return StatisticsReply(paid.noised(found)).to_records()
    masked = MaskedAsk.of(request.masked, Step("statistics", phase), content, hospital, state)
    return mask_sums(masked, sums, all_asked=False, told=phase == 0, noised=paid.noised)


def _sums(private: PrivatePreparation, hospital: Hospital, phase: int, totals: Sums) -> Sums:
    units = hospital.units()
    return unit_sums(
        private.parts(hospital.training_part(), phase, totals), units.rows, units.starts
    )
