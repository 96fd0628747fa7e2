"""What the records of one variable are worth: numbers in its unit, or places of categories."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from wardround.client.sources.omop.reading import numbers_of
from wardround.client.sources.records import Numbers
from wardround.client.sources.units import Units
from wardround.common.settings.cohort import CohortVariable
from wardround.common.tasks.data.allowance import Unread

Flags = NDArray[np.bool_]


class Worth:
    """Works out values, and counts what has none.

    codes : UCUM's code of each unit's concept, as the vocabulary has it
    categories : by variable's name, the place of each concept's category
    """

    def __init__(
        self,
        own: Mapping[str, str],
        codes: Mapping[int, str],
        categories: Mapping[str, Mapping[int, int]],
        unread: Unread,
    ) -> None:
        self.left: dict[str, int] = {}
        self.unread = unread
        self._own, self._codes, self._categories = own, codes, categories

    def of(self, name: str, one: CohortVariable, found: pa.Table) -> tuple[Numbers, Flags]:
        """A value of each record, and which of them count."""
        count = len(found)
        if one.of not in ("measurement", "observation"):
            return np.zeros(count), np.ones(count, np.bool_)
        if one.categories:
            return self._category(name, found)
        numbers = numbers_of(found["number"])
        if not one.is_number:
            there = pc.or_(pc.is_valid(numbers), pc.is_valid(found["answer"])).to_numpy()
            return np.zeros(count), there | (one.of == "observation")
        self._leave("without a number", numbers.null_count)
        return self._numbers(name, one, found, numbers)

    def _category(self, name: str, found: pa.Table) -> tuple[Numbers, Flags]:
        places = self._categories.get(name, {})
        answers = found["answer"].to_pylist()
        values = np.array([places.get(one, -1) for one in answers], np.float64)
        self._leave("without one of the categories asked for", int((values < 0).sum()))
        return values, values >= 0

    def _numbers(
        self, name: str, one: CohortVariable, found: pa.Table, numbers: pa.ChunkedArray
    ) -> tuple[Numbers, Flags]:
        values = np.full(len(found), np.nan)
        units, unknown = Units(one, self._own), dict[str, int]()
        texts = self._units(found)
        for row, (number, text) in enumerate(zip(numbers.to_pylist(), texts, strict=True)):
            if number is None:
                continue
            value = units.value(number, text) if np.isfinite(number) else None
            if value is not None and np.isfinite(value):
                values[row] = value
            elif np.isfinite(number):
                unknown[text] = unknown.get(text, 0) + 1
            else:
                self.unread.add(f"cohort.variables.{name}: a record's value is no finite number")
        for text, count in unknown.items():
            self._unknown(name, one, text, count)
        return values, ~np.isnan(values)

    def _units(self, found: pa.Table) -> list[str]:
        """The unit of each record: its concept's code, else the text that it came with."""
        texts = []
        pairs = zip(found["unit"].to_pylist(), found["unit_text"].to_pylist(), strict=True)
        for concept, text in pairs:
            if concept:
                own = f"OMOP:{concept}"
                texts.append(own if own in self._own else self._codes.get(concept, own))
            else:
                texts.append(str(text).strip() if text is not None else "")
        return texts

    def _unknown(self, name: str, one: CohortVariable, text: str, count: int) -> None:
        shown = f"unit {text}" if text.startswith("OMOP:") else "a unit (unit_source_value)"
        shown = shown if text else "no unit"
        first = (
            f"cohort.variables.{name}: {count} records have {shown} that nothing turns into "
            f"{one.unit}; name it under its units, or ask that the study does"
        )
        self.unread.add(first)
        for _ in range(count - 1):
            self.unread.add()

    def _leave(self, why: str, count: int) -> None:
        self.left[why] = self.left.get(why, 0) + count
