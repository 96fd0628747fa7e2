"""What procedures on a finished model have in common: their rows, their model, no noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

from wardround.common.config.load import Config
from wardround.common.procedures.finished import splits_of
from wardround.common.procedures.procedure import FinishedModel, Procedure
from wardround.common.settings import RowsOptions
from wardround.common.tasks.base import Task


class OnModel(Procedure):
    """Subclass this for one that takes a finished model to rows.

    steps : the most that it takes
    """

    needs_model = True
    steps: ClassVar[int] = 1

    def __init__(self, config: Config, task: Task[Any], model: FinishedModel | None) -> None:
        self._config, self._task, self._finished = config, task, model

    @classmethod
    def refuse_privacy(cls, config: Config, mend: str) -> None:
        """Raise ConfigError where ``[privacy]`` is on: these sums are exact."""
        if config.privacy.enabled:
            what = f"'{cls.name}' gives exact sums, and [privacy] would not be on them"
            raise config.error("procedure.name", what, f"leave [privacy] out, {mend}")

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        return cls.steps

    @property
    def most_steps(self) -> int:
        return self.steps

    def adds(self, sizes: Mapping[str, int]) -> bool:
        return any(sizes[split] for split in self._splits(sizes))

    def _splits(self, known: Mapping[str, Any]) -> list[str]:
        """Of which rows, of those that a hospital has."""
        return splits_of(cast(RowsOptions, self._config.procedure.settings), known)

    @property
    def _model(self) -> FinishedModel:
        assert self._finished is not None
        return self._finished
