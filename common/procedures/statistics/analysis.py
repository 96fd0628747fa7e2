"""What an analysis is: named sums, step after step, and what is shown of their totals.

Both sides make the same object of the study's settings. What it asks for in a step follows from
these, from what was agreed, and from its own earlier totals: a hospital works that out by itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.result import Result, Told
from wardround.common.settings.analyses import AnalysisOptions
from wardround.common.tasks.tabular import TabularTask

Opts = TypeVar("Opts", bound=AnalysisOptions)
Earlier = Sequence[Sums]
"""An analysis' own totals, step by step, by its own names."""


class Analysis(ABC, Generic[Opts]):
    """Subclass this, and name it in ``kinds.py``. Methods keep no state between calls.

    kind : as in the settings
    private : whether its sums carry noise: then they are whole numbers, ``sensitivity`` says by
        how much a unit changes them, and what it shows says how sure it is
    """

    kind: ClassVar[str]

    def __init__(self, options: Opts, private: bool = False) -> None:
        self.options, self.private = options, private

    @classmethod
    def of(cls, options: Opts, config: Config, task: TabularTask) -> Self:
        """The one that the options ask for. Raises ConfigError where the settings don't allow
        it."""
        return cls(options, config.privacy.enabled)

    @property
    def numbers(self) -> Iterable[str]:
        """Columns that it reads as numbers: every hospital has them."""
        return ()

    @property
    def truths(self) -> Iterable[str]:
        """Columns that it reads as 0 and 1."""
        return ()

    @property
    def categories(self) -> Iterable[str]:
        """Columns of whose levels it needs ``Agreed.levels``."""
        return ()

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The most steps that it may take, whatever the data are: it stands in the plan."""

    @abstractmethod
    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        """Names and shapes of what its next step asks for; empty where nothing more is. Raises
        TaskError for totals that no hospitals could have given."""

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        """Names of those of the next step that count rows or persons, each once at most: they
        travel in few bytes."""
        return ()

    @abstractmethod
    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        """At a hospital: its sums of the next step, float64. Raises DataError by place."""

    @abstractmethod
    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        """At the server, when nothing more is asked. What must not be told of few persons is not
        in it."""

    def sensitivity(self, records: int) -> float | None:
        """The most (L2) that a unit with up to ``records`` rows changes all sums of one of its
        steps. None: it can't be private."""
        return None


AnyAnalysis = Analysis[Any]
