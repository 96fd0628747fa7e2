"""What a procedure is: named sums, step after step, until nothing more is asked.

    hospital (worker)                          server (driver)
    sums(parts, earlier)   == one sum ==>      earlier + [total]; more(earlier)? else result(...)

``earlier`` are the totals of the steps so far, and their number is the step. Both halves are one
object, made on both sides from the same settings, as a task is. ``shapes`` binds them: what a step
asks for is worked out from the plan and ``earlier`` at both ends, so a hospital answers no question
that its own program would not ask. A step's sum is had once, as each phase's of a preparation is.

A procedure may be asked of a finished model (``needs_model``): the plan has its digest, and each
side takes its own copy of that digest. The model never comes with a request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from wardround.common.config.load import Config
from wardround.common.errors import RequestRefused
from wardround.common.figures.sums import Sums
from wardround.common.procedures.words import Words
from wardround.common.protocol.sums import joined, parted
from wardround.common.tasks.base import Fit, Task
from wardround.common.tasks.inputs import Inputs
from wardround.common.tasks.schema import Schema

Earlier = Sequence[Sums]
Parts = Mapping[str, Any]
"""A hospital's rows by split, as its task holds them."""
Shapes = dict[str, tuple[int, ...]]
Scorer = Callable[[Any, Inputs], Tensor]
"""Of rows as their task holds them, and the same rows prepared: outputs as in training, float32."""


class FinishedModel(Protocol):
    """What a procedure needs of a model folder (``common/model_folder``), or of an export that
    stands for one (``common/export/finished.py``)."""

    @property
    def digest(self) -> str:
        """Of its ``files.json``, hexadecimal."""

    @property
    def config(self) -> Config:
        """The settings that it was trained by."""

    @property
    def schema(self) -> Schema:
        """What it takes and gives."""

    @property
    def totals(self) -> Sums:
        """What its preparation agreed on."""

    @property
    def personal(self) -> list[str]:
        """Names of the entries that stay with each hospital."""

    def module(self) -> nn.Module:
        """The model in evaluation mode, its outputs in their own unit."""

    def trained(self) -> nn.Module:
        """The same, its outputs as in training: what ``Task.metrics`` takes. Raises ModelRefused
        of an export, which is no module; so does ``module``."""

    def scorer(self, task: Task[Any], device: str) -> Scorer:
        """What gives such outputs of rows, loaded once. ``task``: the study's."""


@dataclass(frozen=True)
class Asked:
    """Whose answers the totals are.

    hospitals : how many are in them
    noise : standard deviation of the noise on each number; 0 without privacy
    epsilon, delta : what that costs each hospital's ledger; infinite and 0 without
    unit : whom it protects; 'none' without
    """

    hospitals: int
    noise: float = 0.0
    epsilon: float = float("inf")
    delta: float = 0.0
    unit: str = "none"


class Procedure(ABC):
    """Subclass this, and name it in ``known.py``. Methods keep no state between calls.

    name : as ``procedure.name`` has it, and ``procedures`` of site.toml
    needs_model : whether it is asked of a finished model
    by_split : whether it takes rows by the part that they play: a hospital's own smallest numbers
        for these hold then, and 'train' is there, be it without a row
    carries : whether a request brings a state instead of all totals (``carrying.py``)
    """

    name: ClassVar[str]
    needs_model: ClassVar[bool] = False
    by_split: ClassVar[bool] = False
    carries: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        """The one that the settings ask for. Raises ConfigError, by key, where they don't go
        together, or with the task or the model.

        model : where one is needed, this side's copy, whose digest is the settings'; None where
            only the settings are to be tried: then nothing else is called that needs it
        """

    @classmethod
    @abstractmethod
    def planned_steps(cls, config: Config) -> int:
        """The most steps that it may take, whatever the data are: it stands in the plan."""

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The same, of this one."""

    @abstractmethod
    def shapes(self, earlier: Earlier) -> Shapes | None:
        """Names and shapes of what the next step asks for; empty where nothing more is asked.

        None, in the first step only: each hospital's own, of which those are summed that ``fit``
        leaves. It reads nothing but the settings, the model and ``earlier``. Raises TaskError for
        totals that no hospitals could have given.
        """

    def words(self, earlier: Earlier) -> Words | None:
        """Which of the next step's sums are whole numbers that masks may hide in narrow words, at
        1 to 8 bytes instead of 24; None: all are exact. It reads what ``shapes`` does.

        Under ``[privacy]`` it isn't asked: noise has no bound, so all are exact then.
        """
        return None

    @abstractmethod
    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        """At a hospital: its sums of the next step, float64.

        parts : in the order train, validation, test; none of them empty. But of a finished model,
            where ``shapes`` is None, also parts without a row: names and shapes are worked out on
            them, as what fails on rows would tell of these to whoever made the model

        Raises DataError by place.
        """

    def adds(self, sizes: Mapping[str, int]) -> bool:
        """Whether a hospital with so many rows by split has something to add: who hasn't is not
        asked, and refuses."""
        return any(sizes.values())

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        """At the server, in the first step: as ``Task.fit``."""
        return Fit()

    def more(self, earlier: Earlier) -> bool:
        """Whether another step is asked."""
        return self.step(earlier) < self.most_steps and self.shapes(earlier) != {}

    @abstractmethod
    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        """At the server, when nothing more is asked: texts of files, by name, for all who take
        part. What must not be told of few persons is in none of them."""

    # --- from step to step -----------------------------------------------------------------------
    def step(self, earlier: Earlier) -> int:
        """The number of the next step."""
        return len(earlier)

    def after(self, earlier: Earlier, total: Sums) -> list[Sums]:
        """``earlier`` of the step after the next one, whose total this is."""
        return [*earlier, total]

    def carried(self, earlier: Earlier) -> Sums:
        """What the next step's request brings."""
        return joined(earlier)

    def read(self, step: int, carried: Sums) -> list[Sums]:
        """At a hospital: ``earlier``, of what a request brings. Raises RequestRefused where it
        doesn't lead to the step."""
        earlier = parted(carried, step)
        for number, found in enumerate(earlier):
            shapes = self.shapes(earlier[:number])
            came = {key: value.shape for key, value in found.items()}
            if shapes == {}:
                raise RequestRefused(
                    f"the procedure '{self.name}' asks nothing after step {number} with these "
                    "totals"
                )
            if not came or (shapes is not None and shapes != came):
                raise RequestRefused(
                    f"the totals that came for step {number + 1} are not what '{self.name}' asks "
                    "for in it"
                )
        return earlier

    # --- privacy ---------------------------------------------------------------------------------
    def sensitivity(self, records: int) -> float:
        """The most (L2) that a unit with up to ``records`` rows changes the sums of a step, which
        are whole numbers then: with ``[privacy]`` they carry noise for it. Without a method of
        its own a procedure is refused there (``make_procedure``)."""
        raise NotImplementedError
