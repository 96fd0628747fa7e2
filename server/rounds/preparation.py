"""The federated preparation: what the hospitals agree on before there is a model."""

from __future__ import annotations

from wardround.common.figures.sums import Sums
from wardround.common.privacy.preparing import phase_noise, private_preparation
from wardround.common.protocol.statistics import StatisticsRequest
from wardround.common.protocol.totals import Totals
from wardround.server.gathering.gatherer import Question
from wardround.server.members.member import Member
from wardround.server.members.sampling import here, preparing
from wardround.server.observer import Phase
from wardround.server.privacy.honest import fewest_honest
from wardround.server.rounds.asking_all import ask_all
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.staying import Staying


class Preparation:
    """Sums over all members, phase after phase; each is asked with the totals of those before it.

    A phase's sum is had once: hospitals take part in no second one (its difference to the first
    would be the numbers of whoever came or left). So a failed attempt goes on with the phase that
    it failed at, and asks nobody who wasn't in the phases before.
    """

    def __init__(self, parts: FederationParts) -> None:
        self._parts, self._task = parts, parts.task
        self._config, self._host = parts.config, parts.host
        self._observer = parts.observer
        self._totals: Sums = {}
        self._phase, self._noise = 0, 0.0
        self._staying = Staying(parts.observer)

    def run(self, participants: Participants) -> Sums:
        """What the task's ``condense`` leaves of the totals. Tried as often as a round.

        Every member must contribute: a hospital whose columns don't fit would fail in every round.
        Raises RoundFailed with the hospital's reason.
        """
        return ask_all(self._parts, participants, lambda: self._attempt(participants))

    def _attempt(self, participants: Participants) -> Sums:
        task, observer = self._task, self._observer
        private = private_preparation(self._config, task)
        phases = task.phases if private is None else private.phases
        while self._phase < phases:
            if private is not None:
                private.check(self._phase, self._totals)
            members = self._members(participants)
            observer.phase(Phase.PREPARING)
            observer.progress(f"preparing data together, step {self._phase + 1} of {phases}")
            asked = Totals.of(self._totals)
            question = Question(
                f"statistics {self._phase}",
                StatisticsRequest(self._phase, asked),
                None,
                task if self._phase == 0 else None,
                "data preparation",
            )
            found = participants.gatherer.sums(members, question)
            self._totals, self._phase = self._totals | found, self._phase + 1
            self._staying.note(members)
            if private is not None:
                honest = fewest_honest(self._config, len(members))
                self._noise = phase_noise(self._config, private, found, len(members), honest)
        if private is None:
            totals = task.condense(self._totals)
        else:
            totals = private.condense(self._totals, self._noise)
        if lines := task.agreed(totals):
            observer.warnings(lines)
        return totals

    def _members(self, participants: Participants) -> list[Member]:
        members = preparing(here(participants.members, self._host.gone()), self._config)
        return self._staying.of(members, "data was prepared")
