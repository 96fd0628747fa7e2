"""Figures of added metric sums: the task's own, or, in a private evaluation, those of noised ones.

Noised sums are asked for and read by the settings' ``privacy.covers`` alone; their figures come
with intervals that hold the noise, and are NaN where it hides them. What is kept of such sums for
curves and thresholds is worked out from them, so it costs nothing more.
"""

from __future__ import annotations

from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import ReplyRefused
from wardround.common.figures.noised import Measured
from wardround.common.figures.sums import Sums
from wardround.common.privacy.figures import figure_noise, figure_sums, figures_covered
from wardround.common.tasks.base import Task
from wardround.common.tasks.private_sums import PrivateSums
from wardround.server.gathering.gatherer import summarise
from wardround.server.privacy.honest import fewest_honest


class FigureMaker:
    """Of one run, once its preparation is agreed on (``totals``)."""

    def __init__(self, config: Config, task: Task[Any], totals: Sums) -> None:
        self._config, self._task = config, task
        self.noised = figures_covered(config, task)
        self._private = figure_sums(config, task, totals) if self.noised else None

    def of(self, sums: Sums, hospitals: int = 1) -> Measured:
        """Of sums over so many hospitals. Raises ReplyRefused if they don't fit the task."""
        if self._private is None:
            return Measured(summarise(self._task, sums))
        try:
            return self._private.measured(sums, self._noise(self._private, hospitals))
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ReplyRefused(f"its metric sums don't fit the task ({error})") from None

    def shown(self, sums: Sums, hospitals: int) -> Sums:
        """What is kept of sums that fit, for curves and thresholds."""
        if self._private is None:
            return sums
        return self._private.shown(sums, self._noise(self._private, hospitals))

    def _noise(self, sums: PrivateSums, hospitals: int) -> float:
        honest = fewest_honest(self._config, hospitals)
        return figure_noise(self._config, sums, hospitals, honest)
