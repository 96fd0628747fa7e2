"""A step of a procedure at a hospital: is it one that its own program would ask, and its sums.

What a step asks for is worked out here, from the accepted settings and the totals that came: names
and shapes of all sums, one for one. A request that brings other totals than the procedure's steps
make, or asks when there is nothing more to ask, is refused before a row meets it.

A finished model is the hospital's own copy, of the digest that the plan has. Whoever made it may
have made it for these rows: so what fails on them is hidden, and names and shapes of its sums are
worked out on none of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from wardround.client.data.hospital import Hospital
from wardround.client.privacy.sizes import announced_sizes
from wardround.client.privacy.sums import PrivateSum, capped, records_of
from wardround.client.requests.layouts import fixed_words
from wardround.client.secagg.asked import Step
from wardround.client.secagg.failing import or_zeros
from wardround.client.secagg.grown import Grown
from wardround.client.secagg.masking import (
    MaskedAsk,
    check_exactly,
    mask_sums,
    refuse_plain,
    shapes_of,
    sums_shapes,
)
from wardround.client.state import ClientState
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.privacy.sums import step_release
from wardround.common.procedures.carrying import CarryingProcedure
from wardround.common.procedures.known import make_procedure, needs_model, step_words
from wardround.common.procedures.procedure import Procedure, Shapes
from wardround.common.procedures.words import Words
from wardround.common.protocol.message import Content
from wardround.common.protocol.names import SPLITS
from wardround.common.protocol.sums import SumsReply, SumsRequest, joined
from wardround.common.protocol.totals import Totals
from wardround.common.secagg.content import content_digest, record_digest, sums_digest

log = logging.getLogger("wardround.client")


@dataclass(frozen=True)
class AskedStep:
    """A step that the hospital would ask itself.

    earlier : totals of all steps before
    """

    procedure: Procedure
    earlier: list[Sums]

    @property
    def number(self) -> int:
        """From 0."""
        return self.procedure.step(self.earlier)

    def sums(self, hospital: Hospital) -> Sums:
        """The hospital's own; of no more rows of a unit than privacy allows, and zeros where it has
        fewer persons than it will answer for. Raises DataError by place."""
        parts = by_part(hospital) if self.procedure.by_split else every_row(hospital)
        found = self._of_rows(hospital, parts)
        if (least := hospital.share.persons) > 1 and _answering(hospital, parts) < least:
            log.info("fewer than min_persons = %d persons here: zeros are added", least)
            return {name: np.zeros_like(value) for name, value in found.items()}
        return found

    def _of_rows(self, hospital: Hospital, parts: dict[str, Any]) -> Sums:
        if hospital.config.privacy.enabled:
            parts = capped(hospital, parts)
        return self.procedure.sums(parts, self.earlier)

    def shapes(self, hospital: Hospital) -> Shapes:
        """Names and shapes of its sums; where they are the hospital's own, of its columns, or of
        the model. Raises DataError by place; RequestRefused, in fixed words."""
        shapes = self.procedure.shapes(self.earlier)
        if shapes is not None:
            return shapes
        if not self.procedure.needs_model:  # nothing of the server's has a part in it
            return shapes_of(self.sums(hospital))
        with fixed_words("prepare() and metrics()"):
            return shapes_of(self.procedure.sums(hospital.without_rows(), self.earlier))

    def words(self, hospital: Hospital) -> Words | None:
        """Which of its sums are words; none where noise is on them."""
        return step_words(hospital.config, self.procedure, self.earlier)

    def before(self) -> bytes:
        """Digest of what the step before was asked with; empty for the first, and where a state
        says more (``grown``)."""
        if not self.earlier or self.procedure.carries:
            return b""
        return sums_digest(record_digest(Totals.of(joined(self.earlier[:-1])).record))

    def grown(self) -> Grown:
        """Of a step that carries a state: how far it has come, which the next one's must go on
        from."""
        return Grown.of(self.earlier[0]) if self.procedure.carries and self.earlier else Grown()


def begin_step(hospital: Hospital, step: int, totals: Totals) -> AskedStep:
    """Raise RequestRefused unless the hospital's procedure has this step, and these totals lead to
    it."""
    if hospital.config.procedure.trains:
        raise RequestRefused("this hospital's study trains a model, and has no other procedure")
    model = hospital.finished_model if needs_model(hospital.config) else None
    procedure = make_procedure(hospital.config, hospital.task, model)
    if model is not None and not procedure.adds(announced_sizes(hospital)):
        raise RequestRefused(
            f"this hospital has no rows for '{procedure.name}', and its zeros would leave the "
            "others' numbers alone in the sum"
        )
    if step >= procedure.most_steps:
        raise RequestRefused(
            f"the procedure '{procedure.name}' has {procedure.most_steps} steps at most, and the "
            f"request is for number {step + 1}"
        )
    if isinstance(procedure, CarryingProcedure):
        procedure.working, procedure.hospital = hospital.working, hospital.name
    earlier = procedure.read(step, totals.decoded()[0])
    if procedure.shapes(earlier) == {}:
        raise RequestRefused(
            f"the procedure '{procedure.name}' asks nothing after step {step} with these totals"
        )
    return AskedStep(procedure, earlier)


def every_row(hospital: Hospital) -> dict[str, Any]:
    """What the hospital has, by split, in their order; none of it empty."""
    parts = hospital.parts()
    having = (name for name in SPLITS if name in parts and hospital.task.size(parts[name]))
    return {name: parts[name] for name in having}


def by_part(hospital: Hospital) -> dict[str, Any]:
    """The splits that it takes part with; without enough rows to train on, none of these."""
    parts = {name: one for name, one in every_row(hospital).items() if hospital.takes_part(name)}
    if "train" not in parts:
        parts["train"] = next(iter(hospital.without_rows().values()))
    return parts


def _answering(hospital: Hospital, parts: dict[str, Any]) -> int:
    """How many persons count for ``min_persons``: with ``[privacy]`` the units that were announced,
    with noise that is paid for. By the true number one unit more might turn zeros into all sums,
    which no noise is made for."""
    if hospital.config.privacy.enabled:
        return sum(announced_sizes(hospital).values())
    return _persons(hospital, parts)


def _persons(hospital: Hospital, parts: dict[str, Any]) -> int:
    """How many the parts are of; rows where no patients are named."""
    named = [hospital.task.patients(part) for part in parts.values()]
    whose = [one for one in named if one is not None]
    if len(whose) < len(named) or not whose:
        return sum(hospital.task.size(part) for part in parts.values())
    return len(np.unique(np.concatenate(whose)))


def answer_step(content: Content, hospital: Hospital, state: ClientState) -> Content:
    """This hospital's sums for one step of the study's procedure."""
    refuse_plain(content, hospital)
    request = SumsRequest.from_records(content)
    asked = begin_step(hospital, request.step, request.totals)
    own, private = partial(asked.sums, hospital), None
    if hospital.config.privacy.enabled:
        procedure = asked.procedure
        private = PrivateSum.begin(
            hospital,
            "statistics",
            asked.number,
            procedure.sensitivity(records_of(hospital)),
            step_release(hospital.config, procedure.most_steps),
            content_digest(content),
            f"'{procedure.name}'",
        )
    fixed = asked.procedure.needs_model or asked.earlier
    if request.masked is None:
        if private is not None and fixed:
            own = partial(or_zeros, hospital, f"sums {asked.number}", own, asked.shapes(hospital))
        return SumsReply(private.noised(own()) if private else own()).to_records()
    if fixed:
        check_exactly(request.masked, asked.shapes(hospital))
    step = Step("sums", asked.number, before=asked.before(), grown=asked.grown())
    masked = MaskedAsk.of(request.masked, step, content, hospital, state)
    # in the first step nothing of the server's has a part in what is computed, but for its model
    noised = private.noised if private else None
    words = asked.words(hospital)
    return mask_sums(masked, own, all_asked=False, told=not fixed, noised=noised, words=words)


def step_layout(hospital: Hospital, step: int, totals: Totals) -> Content:
    """Names and shapes of this hospital's sums of a step: of the first by its own columns, of later
    ones by the totals."""
    return sums_shapes(begin_step(hospital, step, totals).shapes(hospital))
