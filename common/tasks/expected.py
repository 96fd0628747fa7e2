"""What values a study expects of a column: in its plan, for hospitals to hold theirs against.

It is what ``wardround data check`` knows a wrong unit by, and the fewest words in which a
researcher can say which unit is meant. Only a private preparation computes by it: values are
clipped to a ``range`` before they are summed (``private_table.py``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.data.mapping.units import UnitError, unit
from wardround.common.tasks.declared import Options

_Number = Annotated[float, Field(ge=-1e30, le=1e30)]


def _is_unit(text: str) -> str:
    try:
        unit(text)
    except UnitError as error:
        raise ValueError(str(error)) from None
    return text


class Expected(Options):
    """``[task.columns.expected.COLUMN]``.

    unit : UCUM
    median : a usual one, in that unit
    range : lowest and highest value that can be right
    """

    unit: Annotated[str, AfterValidator(_is_unit)] | None = None
    median: _Number | None = None
    range: list[_Number] | None = Field(None, min_length=2, max_length=2)

    @model_validator(mode="after")
    def _fits(self) -> Expected:
        if self.range is not None:
            low, high = self.range
            if low >= high:
                raise WrongKey("range", "is [lowest, highest]")
            if self.median is not None and not low <= self.median <= high:
                raise WrongKey("median", "lies outside of range")
        return self
