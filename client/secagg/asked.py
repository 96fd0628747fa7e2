"""A request for a masked vector as the hospital itself reads it: for which sum, on which terms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from wardround.client.secagg.grown import Grown
from wardround.common.errors import ProtocolRefused
from wardround.common.secagg.content import Digests
from wardround.common.secagg.graph import Thresholds
from wardround.common.secagg.messages import TaskRequest

Clip = Callable[[Thresholds], float]
"""The clip of an encoding for such a group."""
STEPS = ("statistics", "sums")
JUDGE = "judge"
_LAST = 2**62
"""Where a judgement stands in a run: after all rounds."""
_CLOSE = 1e-6
"""Relative: what two machines' libraries may differ by in a number that both work out."""


@dataclass(frozen=True)
class Step:
    """Which sum of a run a request is for, as the hospital itself reads the request.

    kind : 'statistics', 'sums', 'train', 'evaluate' or 'judge'
    number : the phase of the preparation, the step of another procedure, or the round
    splits : of an evaluation or a judgement, those that are asked for
    before : of a procedure's step, digest of all arrays that the one before must have been asked
        with; empty for the first
    grown : of one that carries a state, how far it has come: it must go on from the last one's
    kept : of an update that was trained before, by a model that came with another request
    """

    kind: str
    number: int
    splits: tuple[str, ...] = ()
    before: bytes = b""
    grown: Grown = Grown()
    kept: bool = False

    @property
    def brings_totals(self) -> bool:
        """Whether the request brings the totals that a model goes by."""
        return self.kind not in STEPS and not self.kept

    @property
    def order(self) -> tuple[int, int]:
        """Where it stands in a run: the preparation's phases come before all rounds. (A run has
        these, or a procedure's steps.)"""
        if self.kind in STEPS:
            return 0, self.number
        if self.kind == JUDGE:
            return _LAST, 0
        return self.number, int(self.kind == "evaluate")

    @property
    def parts(self) -> tuple[str, ...]:
        """What is opened at most once: each split's figures by themselves, one judgement."""
        if self.kind == JUDGE:
            return (JUDGE,)
        name = f"{self.kind} {self.number}"
        return tuple(f"{name} {split}" for split in self.splits) or (name,)

    @property
    def figures(self) -> str:
        """Of a judgement: the part whose figures it is bound to."""
        return f"evaluate {self.number} {self.splits[0]}"

    def is_purpose(self, purpose: str) -> bool:
        """Whether a TaskRequest's purpose says this step (an evaluation's also names one of the
        splits, and its attempt)."""
        name = f"{self.kind} {self.number}"
        if not self.splits or self.kind == JUDGE:
            return purpose == name
        splits = "|".join(self.splits)
        return re.fullmatch(rf"{name}( {splits})?( \d{{1,9}})?", purpose) is not None


@dataclass(frozen=True)
class Terms:
    """How numbers are written for a sum, as this hospital's settings and its plan have it.

    fine : as in a TaskRequest: 1 for whole numbers with noise, 2 for words of named sums
    largest_weight : None where no plan fixes it (a simulation's)
    """

    bits: int
    clip: Clip
    fine: int
    largest_weight: int | None

    def check(self, task: TaskRequest, limits: Thresholds) -> None:
        """Raise ProtocolRefused, naming field and both values, unless the task has these."""
        clip = self.clip(limits)
        if not math.isclose(task.clip, clip, rel_tol=_CLOSE):
            self._refuse("clip", task.clip, clip)
        for name, here, own in (
            ("bits", task.bits, self.bits),
            ("fine", task.fine, self.fine),
            ("largest_weight", task.largest_weight, self.largest_weight),
        ):
            if own is not None and here != own:
                self._refuse(name, here, own)

    @staticmethod
    def _refuse(name: str, here: float, own: float) -> None:
        raise ProtocolRefused(
            f"the task's {name} is {here:g}, the accepted plan and this hospital's settings give "
            f"{own:g}"
        )


@dataclass(frozen=True)
class Asked:
    """A request for a masked vector, as the hospital itself reads it.

    run : the accepted run's name
    most_uploads : for one sum, of all attempts
    first_model : digest of the model that round 1 trains from; empty: not in the plan
    digests : of what the request brings; worked out when it is first called
    judged : whether the plan has a judgement, so that figures are kept in mind
    forgets : a simulation's hospital, whose record ends with its process: one that knows of no
        figures after its run was gone on with judges all the same
    """

    step: Step
    run: str
    most_uploads: int
    first_model: bytes
    terms: Terms
    digests: Callable[[], Digests]
    judged: bool = False
    forgets: bool = False
