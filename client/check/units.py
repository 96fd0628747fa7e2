"""In which unit a column seems to be, and whether that is the study's."""

from __future__ import annotations

import math
from collections.abc import Iterator

from wardround.client.check.finding import Finding
from wardround.common.tasks.data.mapping.analytes import MOLAR_MASSES
from wardround.common.tasks.data.mapping.settings import UnitChange
from wardround.common.tasks.data.mapping.units import (
    Conversion,
    UnitError,
    by_molar_mass,
    conversion,
)
from wardround.common.tasks.data.profile import header_unit, usual_unit
from wardround.common.tasks.expected import Expected
from wardround.common.text import near

_REPORTED = (
    "mg/dL g/L mg/L g/dL ug/dL ug/L ng/mL ng/dL pg/mL mmol/L umol/L nmol/L pmol/L kPa mm[Hg] Cel "
    "[degF] kg g [lb_av] m cm mm [in_i] a mo d h min % 1 10*9/L /uL U/L ukat/L"
).split()
_CLOSE = math.log(1.6)
"""A median may differ by so much from the expected one, in the right unit."""


def other_unit(
    name: str, what: str, header: str, expected: Expected, change: UnitChange | None
) -> Iterator[Finding]:
    """Where header, mapping and study name different units.

    header : the hospital's own name of the column
    """
    _, written = header_unit(header)
    if change is not None:
        if expected.unit is not None and not _same(change.to, expected.unit):
            text = f"map.units makes {change.to} of it, and the study expects {expected.unit}"
            yield Finding("error", what, text, f'set to = "{expected.unit}"')
        if written is not None and not _same(change.from_, written):
            text = f"its own name says {written}, and map.units takes it from {change.from_}"
            yield Finding("warning", what, text, "one of them is wrong")
    elif written is not None and expected.unit is not None and not _same(written, expected.unit):
        mend = mend_unit(name, written, expected.unit)
        text = f"its name says {written}, and the study expects {expected.unit}"
        yield Finding("error", what, text, mend)


def mend_unit(name: str, from_unit: str, to_unit: str) -> str:
    """What to write into ``site.toml``; all of it, so that no other message follows."""
    extra = ""
    try:
        if conversion(from_unit, to_unit) is None:
            analyte = near(name, MOLAR_MASSES)
            known = analyte and by_molar_mass(from_unit, to_unit, MOLAR_MASSES[analyte])
            extra = f', analyte = "{analyte}"' if known else ", factor = WHAT ONE IS IN THE OTHER"
    except UnitError:
        return f"in [data.NAME.map.units] write {name}, from and to, by their UCUM codes"
    whole = f'{{ from = "{from_unit}", to = "{to_unit}"{extra} }}'
    return f'in [data.NAME.map.units] write "{name}" = {whole}'


def likely_unit(name: str, times: float, expected: Expected) -> str | None:
    """The unit of which one that a laboratory reports is so many of the study's, the other way
    round: values in it have medians ``times`` the expected one. None where several or none do."""
    if expected.unit is None:
        return None
    analyte = near(name, MOLAR_MASSES)
    found = []
    for one in _REPORTED:
        what = _what(one, expected.unit, analyte)
        if what is None or what.offset or what.factor <= 0:
            continue
        if abs(math.log(abs(times) * what.factor)) < _CLOSE:
            found.append(one)
    return found[0] if len(found) == 1 else None


def _what(one: str, other: str, analyte: str | None) -> Conversion | None:
    try:
        found = conversion(one, other)
        if found is None and analyte is not None:
            return by_molar_mass(one, other, MOLAR_MASSES[analyte])
        return found
    except UnitError:
        return None


def _same(one: str, other: str) -> bool:
    if usual_unit(one) == usual_unit(other):
        return True
    try:
        return conversion(one, other) == Conversion(1.0, 0.0)
    except UnitError:
        return False
