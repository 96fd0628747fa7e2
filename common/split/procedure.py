"""``[procedure] name = "split"``: a network whose parts lie at several parties."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Self

from torch import Tensor, nn

from wardround.common.config.load import Config
from wardround.common.errors import JointRefused
from wardround.common.joint import JointProcedure, Me, Party
from wardround.common.settings import SplitOptions
from wardround.common.split.crossing import letter_bytes, mark_of
from wardround.common.split.inputs import Inputs, inputs_of, outcome_of
from wardround.common.split.modules import Head, image_tower, seeded, table_tower
from wardround.common.split.party import (
    MOST_TOLD,
    TOLD,
    Course,
    FeatureParty,
    OutcomeParty,
    Scored,
    State,
)
from wardround.common.split.schedule import Schedule
from wardround.common.split.sides import FeatureSide, OutcomeSide, alone
from wardround.common.split.weights import Protection, Weights
from wardround.common.tasks.base import Task
from wardround.common.tasks.linked import LinkedTask


class Split(JointProcedure):
    """See ``SplitOptions`` for the settings."""

    name = "split"

    def __init__(self, options: SplitOptions, task: LinkedTask, holder: str, seed: int) -> None:
        self.options, self.task, self.holder, self.seed = options, task, holder, seed

    @classmethod
    def of(cls, config: Config, task: Task[Any]) -> Self:
        options = config.procedure.settings
        assert isinstance(options, SplitOptions)
        assert isinstance(task, LinkedTask)  # of every joint procedure
        parties = task.options.parties
        holder = task.options.holder
        if holder is None or parties[holder].outcome is None:
            raise config.error("task.parties", "one of them needs an outcome of two classes")
        for name, columns in parties.items():
            if name != holder and not columns.has_inputs:
                raise config.error(f"task.parties.{name}", "has neither columns nor images")
        return cls(options, task, holder, config.federation.seed)

    @property
    def parties(self) -> tuple[str, ...]:
        return self.task.options.names

    @property
    def features(self) -> tuple[str, ...]:
        """Parties other than the outcome's holder."""
        return tuple(name for name in self.parties if name != self.holder)

    @property
    def most_steps(self) -> int:
        return 2 * self.options.batches + 2

    @property
    def letter_bytes(self) -> int:
        most = max(self.options.batch_size, self.options.held_out)
        return letter_bytes(most, self.options.width)

    @property
    def told(self) -> Mapping[str, int]:
        return {TOLD: MOST_TOLD}

    def party(self, me: Me) -> Party:
        """Raises JointRefused where there is no such link, of enough persons of both classes."""
        if me.links is None:
            raise JointRefused("this party keeps no links: link the persons first")
        link = me.links.open(self.options.link, me.study, me.rows.keys)
        course = Course(self.options, mark_of(me.session, link), self.holder, self.features)
        options, schedule = self.options, self.schedule(len(link.rows))
        protection = Protection(options.clip, options.noise_multiplier, me.secret, me.session)
        rows = me.rows.select(link.rows)
        inputs = inputs_of(rows, schedule.training)
        if me.name != self.holder:
            side = self.feature_side(me.name, inputs, schedule, protection, me.state)
            return FeatureParty(side, course, _kept(inputs))
        outcome = outcome_of(rows, schedule.training)
        holding = self.outcome_side(inputs, outcome, schedule, protection, me.state)
        own = partial(self.scored_alone, inputs, outcome, schedule) if self.holder_has else None
        return OutcomeParty(holding, course, _kept(inputs), len(link.rows), own)

    def schedule(self, persons: int) -> Schedule:
        """Who of so many linked persons is in which batch. Raises JointRefused."""
        o = self.options
        return Schedule(self.seed, persons, o.batches, o.batch_size, o.held_out)

    @property
    def holder_has(self) -> bool:
        """Whether the outcome's holder has columns or images of its own."""
        return self.task.options.parties[self.holder].has_inputs

    def feature_side(
        self,
        name: str,
        inputs: Inputs,
        schedule: Schedule,
        protection: Protection,
        state: State | None = None,
    ) -> FeatureSide:
        """A feature party's half."""
        weights = Weights(self._tower(name, inputs), self.options.learning_rate, state)
        return FeatureSide(weights, inputs.rows, schedule, protection)

    def outcome_side(
        self,
        inputs: Inputs,
        outcome: Tensor,
        schedule: Schedule,
        protection: Protection,
        state: State | None = None,
    ) -> OutcomeSide:
        """The half of the outcome's holder."""
        head = self._head(inputs, len(self.features) * self.options.width)
        weights = Weights(head, self.options.learning_rate, state)
        return OutcomeSide(weights, inputs.rows, outcome, self.features, schedule, protection)

    def scored_alone(self, inputs: Inputs, outcome: Tensor, schedule: Schedule) -> Scored:
        """Logits and outcomes of those held out, without the other parties."""
        head = self._head(inputs, 0)
        return alone(head, self.options.learning_rate, inputs.rows, outcome, schedule)

    def _tower(self, name: str, inputs: Inputs) -> nn.Module:
        options, shape = self.options, inputs.rows.shape

        def make() -> nn.Module:
            if len(shape) > 2:
                return image_tower(shape[2:], shape[1], options.channels, options.width)
            return table_tower(shape[1], options.hidden, options.width)

        return seeded(self.seed, name, make)

    def _head(self, inputs: Inputs, crossing: int) -> Head:
        tower = self._tower(self.holder, inputs) if self.holder_has else None
        options = self.options

        def make() -> Head:
            return Head(tower, crossing, options.width, options.hidden)

        return seeded(self.seed, f"head {crossing}", make)


def _kept(inputs: Inputs) -> State:
    """What is needed to use a tower again, beside its weights."""
    return {"mean": inputs.mean, "deviation": inputs.deviation}
