"""What a record's number is in the unit of a study's variable, for every source alike."""

from __future__ import annotations

from collections.abc import Mapping

from wardround.common.settings.cohort import CohortVariable
from wardround.common.settings.key_errors import WrongKey
from wardround.common.tasks.data.mapping.units import Conversion, UnitError, conversion, unit

_SAME = Conversion(1.0)


class Units:
    """Of one variable: the study's own factors first, then those that follow from UCUM.

    own : how the hospital's records write units, and the UCUM code of each
    """

    def __init__(self, variable: CohortVariable, own: Mapping[str, str]) -> None:
        assert variable.unit is not None
        self._unit, self._factors, self._own = variable.unit, variable.units, own
        self._known: dict[str, Conversion | None] = {}

    def value(self, number: float, unit: str) -> float | None:
        """The number in the variable's unit; None where nothing says what one is in the other.

        unit : as the record has it; '' for none, which is '1'
        """
        found = self._known.get(unit, _SAME)
        if found is _SAME and unit not in self._known:
            found = self._known[unit] = self._conversion(unit)
        if found is None:
            return None
        scaled = number * found.factor
        return scaled + found.offset if found.offset else scaled

    def _conversion(self, text: str) -> Conversion | None:
        code = self._own.get(text, text) or "1"
        if code == self._unit:
            return _SAME
        if code in self._factors:
            return Conversion(self._factors[code])
        try:
            return conversion(code, self._unit)
        except UnitError:
            return None


def check_units(own: Mapping[str, str]) -> None:
    """Of ``units`` of a source: raises WrongKey for a code that isn't UCUM's."""
    for text, code in own.items():
        try:
            unit(code)
        except UnitError as error:
            raise WrongKey(f"units.{text}", str(error)) from None
