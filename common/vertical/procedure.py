"""``[procedure]`` with ``name = "vertical"``: a regression on columns at several parties."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from wardround.common.config.load import Config
from wardround.common.errors import JointRefused
from wardround.common.joint.party import COORDINATOR, JointProcedure, Me, Party, Turn
from wardround.common.secagg.keys import derive
from wardround.common.settings import VERTICAL, VerticalOptions
from wardround.common.tasks.base import Task
from wardround.common.tasks.linked.options import LinkedOptions
from wardround.common.vertical import linear, logistic, rates
from wardround.common.vertical.beginning import begin, deal_begin
from wardround.common.vertical.harmonics import sizes
from wardround.common.vertical.machine import Memory, Talk, Talking
from wardround.common.vertical.outcome import outcome_of
from wardround.common.vertical.page import files
from wardround.common.vertical.plan import Plan
from wardround.common.vertical.ring import Reals
from wardround.common.vertical.rows import LEFT_OUT, Scaled, arrangements, scaled_inputs
from wardround.common.vertical.told import TOLD, deal_tell, most_characters, tell

_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
_MODELS = {"linear": linear, "logistic": logistic, "poisson": rates, "cox": rates}
_WORD_BYTES = 8
_EDGE_STEPS, _MOMENT_STEPS, _POINT_STEPS, _CURVATURE_STEPS = 3, 5, 3, 3


class Vertical(JointProcedure):
    """A regression of the parties of the task.

    plan : what all of them know
    """

    name: ClassVar[str] = VERTICAL

    def __init__(self, options: VerticalOptions, task: LinkedOptions) -> None:
        self._options, self._parties = options, task.names
        self.plan = Plan.of(options, task)
        self.has_coordinator = options.dealer == COORDINATOR

    @classmethod
    def of(cls, config: Config, task: Task[Any]) -> Self:
        """Of task 'linked'. Raises ConfigError, by key."""
        options = config.procedure.settings
        linked = getattr(task, "options", None)
        assert isinstance(options, VerticalOptions) and isinstance(linked, LinkedOptions)
        _check(config, options, linked)
        return cls(options, linked)

    @property
    def parties(self) -> tuple[str, ...]:
        """Of the task."""
        return self._parties

    @property
    def most_steps(self) -> int:
        """Beginning and end, sums with the outcome, and the points of the search."""
        if self._options.model in rates.MODELS:
            return _EDGE_STEPS + rates.most_steps(self.plan)
        points = self._options.iterations * _POINT_STEPS + _CURVATURE_STEPS
        return _EDGE_STEPS + _MOMENT_STEPS + (points if self._options.model != "linear" else 0)

    @property
    def letter_bytes(self) -> int:
        """Of as many rows as there may be: all columns, intervals, or the waves of one opening."""
        plan = self.plan
        rows, width = plan.rows(plan.options.most_rows), plan.width + 1
        cells = (width * (width + 1)) * 2 * (plan.options.smallest_cell + 1)
        waves = max(sizes(logistic.HARMONICS, rows, len(plan.parties)))
        widest = max(rows * max(width, plan.options.intervals), waves)
        return _WORD_BYTES * (widest + cells + 4096)

    @property
    def told(self) -> Mapping[str, int]:
        """Coefficients, standard errors, and what was left out."""
        return {TOLD: most_characters(self.plan.width)}

    def published(self, told: Mapping[str, str]) -> Mapping[str, str]:
        """The text, and what it says as a table and a page."""
        found = super().published(told)
        try:
            return {**found, **files(json.loads(found[TOLD]))}
        except _UNREADABLE:  # it is the parties' text, and may be anything
            return found

    def reads(self, name: str) -> bool:
        """The dealer has no columns."""
        return name != self._options.dealer

    def party(self, me: Me) -> Party:
        """Of linked rows, or the dealer. Raises DataError by place, JointRefused."""
        if me.name == self._options.dealer:
            return self.coordinator(me)
        rows = linked_rows(me, self.plan)
        return Talking(lambda memory: _party(self.plan, me, rows, memory), me.state)

    def coordinator(self, me: Me) -> Party:
        """Who deals."""
        return Talking(lambda memory: _dealer(self.plan, me, memory), me.state)


def _check(config: Config, options: VerticalOptions, task: LinkedOptions) -> None:
    """Raise ConfigError, by key, where settings don't go together."""
    holder = task.parties[task.holder or ""]
    survival = holder.time is not None
    if survival != (options.model == "cox"):
        wanted = "time and event" if options.model == "cox" else "outcome"
        raise config.error(
            "procedure.model",
            f"'{options.model}' needs {wanted}, which [task.parties.{task.holder}] hasn't",
        )
    if options.dealer != COORDINATOR:
        if options.dealer not in task.parties:
            raise config.error(
                "procedure.dealer", f"'{options.dealer}' is neither 'coordinator' nor a party"
            )
        if list(task.parties[options.dealer].named()):
            raise config.error(
                "procedure.dealer",
                f"'{options.dealer}' has columns, and would know the masks of all others",
                "take the coordinator, or a party without columns",
            )
    if len(task.parties) - (options.dealer in task.parties) < 2:
        raise config.error("task.parties", "two of them need columns, the dealer not counted")


class _Rows:
    """What a party brings: its inputs, its outcome where it has it, and the link's digest."""

    def __init__(self, inputs: Scaled, outcome: Reals | None, digest: bytes, count: int) -> None:
        self.inputs, self.outcome, self.digest, self.count = inputs, outcome, digest, count


def linked_rows(me: Me, plan: Plan) -> _Rows:
    """The rows of the link, in the agreed order. Raises DataError by place, JointRefused."""
    options = plan.options
    if me.links is None:
        raise JointRefused("a party keeps no links; link first")
    link = me.links.open(options.link, me.study, me.rows.keys)
    rows = me.rows.select(link.rows)
    if not len(rows):
        raise JointRefused("nobody is linked")
    bits, outcome = plan.bits(me.name, len(rows)), outcome_of(rows, options)
    if outcome is not None and arrangements(np.atleast_2d(outcome)[-1]) < bits:
        raise JointRefused(
            "too few persons, or too few of one outcome, for sums with so many inputs: they could "
            "be solved for outcomes; ask for fewer inputs"
        )
    inputs = scaled_inputs(rows, options.smallest_cell, bits)
    return _Rows(inputs, outcome, link.digest, len(rows))


def _party(plan: Plan, me: Me, rows: _Rows, memory: Memory) -> Talk:
    """The text of a party with columns."""
    inputs = rows.inputs
    seat, known = yield from begin(plan, me, memory, rows.digest, rows.count, inputs.kinds)
    outcome, unit = rows.outcome, (0.0, 1.0)
    if outcome is not None and plan.options.model == "linear":
        unit = float(outcome.mean()), float(outcome.std())
        outcome = (outcome - unit[0]) / unit[1]
    values = inputs.values[inputs.kinds != LEFT_OUT]
    model = _MODELS[plan.options.model]
    fitted = yield from model.regress(seat, known, values, outcome)
    texts = yield from tell(seat, known, fitted, inputs, unit)
    return Turn(over=True, told=texts)


def _dealer(plan: Plan, me: Me, memory: Memory) -> Talk:
    """The text of the dealer."""
    secret = derive(me.secret, "vertical dealing", me.session)
    bank, counts = yield from deal_begin(plan, memory)
    model = _MODELS[plan.options.model]
    yield from model.deal_regress(bank, plan, counts, secret)
    yield from deal_tell(bank)
    return Turn(over=True)
