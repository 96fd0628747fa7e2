"""``kaplan_meier``: curves by group and all that follows from their tables.

1    without a horizon: rows by the power of two that their time is below
2    events and censorings by group and time

Unless ``exact`` is set, everything shown follows from the tables of the steps (``steps.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from wardround.common.config.load import Config
from wardround.common.figures.sums import Sums
from wardround.common.procedures.procedure import Shapes
from wardround.common.procedures.statistics.agreed import Agreed
from wardround.common.procedures.statistics.analysis import Analysis, Earlier
from wardround.common.procedures.statistics.frame import Frame
from wardround.common.procedures.statistics.result import Result, Told
from wardround.common.procedures.statistics.survival import groups, noised
from wardround.common.procedures.statistics.survival.shown import shown_curves
from wardround.common.procedures.statistics.survival.times import (
    POWERS,
    numbers,
    observed,
    powers,
    reach,
    too_many,
)
from wardround.common.settings.analyses.survival import KaplanMeierOptions
from wardround.common.tasks.tabular import TabularTask

_MOST_CELLS = 2**18


class KaplanMeier(Analysis[KaplanMeierOptions]):
    """See the module."""

    kind = "kaplan_meier"

    @classmethod
    def of(cls, options: KaplanMeierOptions, config: Config, task: TabularTask) -> Self:
        if config.privacy.enabled and options.horizon is None:
            raise config.error(
                "procedure.analyses",
                f"'{options.name}': with [privacy] how far times go can't be asked of the rows",
                "give it a horizon",
            )
        if config.privacy.enabled and options.entry is not None:
            raise config.error(
                "procedure.analyses",
                f"'{options.name}': bands of noised counts are known without late entries only",
                "leave out its entry",
            )
        return super().of(options, config, task)

    @property
    def numbers(self) -> Iterable[str]:
        options = self.options
        return [one for one in (options.time, options.entry) if one is not None]

    @property
    def truths(self) -> Iterable[str]:
        return (self.options.event,)

    @property
    def categories(self) -> Iterable[str]:
        return () if self.options.by is None else (self.options.by,)

    @property
    def most_steps(self) -> int:
        return 2 if self.options.horizon is None else 1

    def shapes(self, agreed: Agreed, earlier: Earlier) -> Shapes:
        if len(earlier) == self.most_steps or self._hindrance(agreed, earlier):
            return {}
        if not earlier and self.options.horizon is None:
            return {"powers": (POWERS,)}
        size, named = self._size(earlier), agreed.persons is not None and not self.private
        return groups.shapes(self.options, len(self._names(agreed)), size, named)

    def counts(self, agreed: Agreed, earlier: Earlier) -> Iterable[str]:
        return self.shapes(agreed, earlier)

    def sums(self, frame: Frame, agreed: Agreed, earlier: Earlier) -> Sums:
        if not earlier and self.options.horizon is None:
            seen = observed(frame, self.options)
            return {"powers": powers(numbers(seen.time[seen.usable], self.options.grid))}
        named = agreed.persons is not None and not self.private
        texts = self._names(agreed)
        return groups.sums(frame, self.options, texts, self._size(earlier), named)

    def sensitivity(self, records: int) -> float:
        """A row is one event or one censoring at one time of one group."""
        return float(records)

    def result(self, agreed: Agreed, earlier: Earlier, told: Told) -> Result:
        if words := self._hindrance(agreed, earlier):
            return Result(notes=[words])
        totals, names = earlier[-1], self._names(agreed)
        if self.private:
            return noised.noised_curves(totals, names, self.options, told)
        found = [groups.read(totals, place) for place in range(len(names))]
        return shown_curves(found, names, self.options, agreed.people, told)

    def _names(self, agreed: Agreed) -> tuple[str, ...]:
        by = self.options.by
        return ("all",) if by is None else tuple(agreed.levels[by])

    def _size(self, earlier: Earlier) -> int:
        return reach(self.options, earlier[0]["powers"] if self.options.horizon is None else None)

    def _hindrance(self, agreed: Agreed, earlier: Earlier) -> str:
        """Why no curve can be had of these rows; '' where one can."""
        options, count = self.options, len(self._names(agreed))
        if not count:
            return f"No text of '{options.by}' is named by a hospital: none has enough rows."
        if options.horizon is None and not earlier:
            return ""
        size = self._size(earlier)
        if words := too_many(size, options.grid):
            return words
        if count * size > _MOST_CELLS:
            return (
                f"{count} groups at {size:,} times are too many: ask with a larger grid than "
                f"{options.grid:g}, or by a column with fewer texts."
            )
        return ""
