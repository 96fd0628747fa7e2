"""Both halves as parties: which step is whose, what is kept, what is told.

    step 2 k        feature parties: the gradients of batch k - 1 are taken in, batch k goes out
    step 2 k + 1    the outcome's holder: its gradients go back

In the last two steps those held out cross instead of a batch, and the holder tells the figures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.drift.outcomes import auc
from wardround.common.joint import Party, Turn
from wardround.common.settings import SplitOptions
from wardround.common.split.cost import spent
from wardround.common.split.crossing import from_letter, to_letter
from wardround.common.split.sides import FeatureSide, OutcomeSide

TOLD = "split.json"
MOST_TOLD = 4000
State = dict[str, NDArray[Any]]
Scored = tuple[NDArray[Any], NDArray[Any]]
"""Logits and outcomes of those held out."""
_DIGITS = 3


@dataclass(frozen=True)
class Course:
    """What both halves follow.

    mark : what letters of this run and link begin with
    holder : the party with the outcome
    features : the others, in their order
    """

    options: SplitOptions
    mark: bytes
    holder: str
    features: tuple[str, ...]

    def read(self, letter: bytes | None, batch: int, width: int) -> NDArray[np.float32]:
        """The numbers of a letter about a batch; of those held out where it is the last."""
        rows = self.options.batch_size if batch < self.options.batches else self.options.held_out
        return from_letter(self.mark, letter, rows, width)


class FeatureParty(Party):
    """A party with a tower.

    kept : what it keeps at the end beside its weights
    """

    def __init__(self, side: FeatureSide, course: Course, kept: State) -> None:
        self._side, self._course, self._kept = side, course, kept

    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        batch, course = number // 2, self._course
        if number % 2:
            if batch < course.options.batches:
                return Turn()
            return Turn(over=True, kept=self._side.weights.arrays() | self._kept)
        if batch:
            back = course.read(letters.get(course.holder), batch - 1, course.options.width)
            self._side.receives(batch - 1, back)
        if batch < course.options.batches:
            return Turn({course.holder: to_letter(course.mark, self._side.sends(batch))})
        return Turn({course.holder: to_letter(course.mark, self._side.sends_held_out())})

    def state(self) -> State:
        return self._side.weights.state()


class OutcomeParty(Party):
    """The party with the outcome.

    persons : linked
    alone : figures of a network of its own columns alone; None where it has none
    """

    def __init__(
        self,
        side: OutcomeSide,
        course: Course,
        kept: State,
        persons: int,
        alone: Callable[[], Scored] | None,
    ) -> None:
        self._side, self._course, self._kept = side, course, kept
        self._persons, self._alone = persons, alone

    def step(self, number: int, letters: Mapping[str, bytes]) -> Turn:
        if number % 2 == 0:
            return Turn()
        batch, course = number // 2, self._course
        width = course.options.width
        came = {name: course.read(letters.get(name), batch, width) for name in course.features}
        if batch < course.options.batches:
            back = self._side.answers(batch, came)
            return Turn({name: to_letter(course.mark, one) for name, one in back.items()})
        told = figures(
            course.options,
            self._persons,
            self._side.scores(came),
            self._alone() if self._alone is not None else None,
        )
        kept = self._side.weights.arrays() | self._kept
        return Turn(over=True, told={TOLD: told}, kept=kept)

    def state(self) -> State:
        return self._side.weights.state()


def figures(options: SplitOptions, persons: int, together: Scored, alone: Scored | None) -> str:
    """What is told, a line of JSON: the area under the curve with all parties' columns and with the
    outcome holder's alone, to three digits; epsilon of one party's columns of one person."""
    values: dict[str, Any] = {
        "auc": area(together),
        "auc_alone": area(alone) if alone is not None else None,
        "held_out": options.held_out,
        "batches": options.batches,
        "batch_size": options.batch_size,
        "width": options.width,
        "clip": options.clip,
        "noise_multiplier": options.noise_multiplier,
        "epsilon": None,
        "delta": None,
    }
    if options.noise_multiplier:
        values["epsilon"] = round(spent(options, persons), _DIGITS)
        values["delta"] = options.delta
    return json.dumps(values)


def area(scored: Scored) -> float | None:
    """To three digits; None where all are of one class."""
    logits, truth = scored
    if len(np.unique(truth)) < 2:
        return None
    return round(auc(logits, truth)[0], _DIGITS)
