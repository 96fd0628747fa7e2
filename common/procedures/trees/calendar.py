"""Which sum is which step: the number of a step says round and level.

    0            names of columns, categories, rows
    1 to 3       counts in cells, for the cuts; a number's squares
    4            events in cells of time (survival)
    then in each round:  who is at risk (survival), and a level after the other
    at the end:  the last round's score (early stopping), and figures

A tree that stops early leaves its numbers out. So numbers rise, no level of a round is asked twice,
and with masks of each one sum is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["names", "cells", "events", "risk", "level", "score", "figures", "over"]
CELLS = 3
PREPARING = CELLS + 2


@dataclass(frozen=True)
class Moment:
    """What a step is. round, level : from 0; of 'cells', level is the count's"""

    kind: Kind
    round: int = 0
    level: int = 0


@dataclass(frozen=True)
class Calendar:
    """The steps of a plan.

    risk : whether a round begins with who is at risk
    """

    rounds: int
    depth: int
    risk: bool = False

    @property
    def _per_round(self) -> int:
        return self.depth + int(self.risk)

    @property
    def steps(self) -> int:
        """How many numbers there are."""
        return PREPARING + self.rounds * self._per_round + 2

    def at(self, step: int) -> Moment:
        """What the step of this number is."""
        if step < PREPARING:
            if step == 0:
                return Moment("names")
            return Moment("cells", 0, step - 1) if step <= CELLS else Moment("events")
        number, place = divmod(step - PREPARING, self._per_round)
        if number >= self.rounds:
            kinds: tuple[Kind, ...] = ("score", "figures")
            after = step - PREPARING - self.rounds * self._per_round
            return Moment(kinds[after] if after < len(kinds) else "over", self.rounds)
        if self.risk and place == 0:
            return Moment("risk", number)
        return Moment("level", number, place - int(self.risk))

    def opens(self, moment: Moment) -> bool:
        """Whether no sum of its round is asked before."""
        if self.risk:
            return moment.kind == "risk"
        return moment.kind == "level" and moment.level == 0

    def begins(self, number: int) -> int:
        """The first step of a round; of the round after the last, the score's."""
        return PREPARING + number * self._per_round

    @property
    def figures(self) -> int:
        """The step of the figures."""
        return self.begins(self.rounds) + 1
