"""Units by their UCUM codes, and what one is in another.

A unit is a factor and powers of base dimensions; a temperature scale has an offset, and stands
alone. What UCUM calls arbitrary ([iU]), and equivalents and osmoles, which UCUM takes for moles
although a mole of calcium is two equivalents, are dimensions of their own here: between those and
others the hospital states the factor.

Reference: Schadow, McDonald. The Unified Code for Units of Measure, version 2.1 (2017).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from wardround.common.text import near

Powers = Mapping[str, int]

_PREFIXES = {
    **{"Y": 1e24, "Z": 1e21, "E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3},
    **{"h": 1e2, "da": 1e1, "d": 1e-1, "c": 1e-2, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12},
    **{"f": 1e-15, "a": 1e-18, "z": 1e-21, "y": 1e-24},
}
_METRIC: dict[str, tuple[float, dict[str, int]]] = {
    "m": (1.0, {"m": 1}),
    "g": (1.0, {"g": 1}),
    "s": (1.0, {"s": 1}),
    "mol": (1.0, {"mol": 1}),
    "K": (1.0, {"K": 1}),
    "L": (1e-3, {"m": 3}),
    "l": (1e-3, {"m": 3}),
    "Pa": (1e3, {"g": 1, "m": -1, "s": -2}),
    "bar": (1e8, {"g": 1, "m": -1, "s": -2}),
    "m[Hg]": (133_322_387.415, {"g": 1, "m": -1, "s": -2}),
    "m[H2O]": (9_806_650.0, {"g": 1, "m": -1, "s": -2}),
    "N": (1e3, {"g": 1, "m": 1, "s": -2}),
    "J": (1e3, {"g": 1, "m": 2, "s": -2}),
    "cal": (4184.0, {"g": 1, "m": 2, "s": -2}),
    "W": (1e3, {"g": 1, "m": 2, "s": -3}),
    "Hz": (1.0, {"s": -1}),
    "V": (1e3, {"g": 1, "m": 2, "s": -2, "C": -1}),
    "C": (1.0, {"C": 1}),
    "kat": (1.0, {"mol": 1, "s": -1}),
    "U": (1e-6 / 60, {"mol": 1, "s": -1}),
    "Gy": (1.0, {"m": 2, "s": -2}),
    "Sv": (1.0, {"m": 2, "s": -2}),
    "Bq": (1.0, {"s": -1}),
    "eq": (1.0, {"eq": 1}),
    "osm": (1.0, {"osm": 1}),
    "[iU]": (1.0, {"iU": 1}),
    "[IU]": (1.0, {"iU": 1}),
}
_OTHERS: dict[str, tuple[float, dict[str, int]]] = {
    "%": (1e-2, {}),
    "[ppth]": (1e-3, {}),
    "[ppm]": (1e-6, {}),
    "[ppb]": (1e-9, {}),
    "10*": (10.0, {}),
    "10^": (10.0, {}),
    "min": (60.0, {"s": 1}),
    "h": (3600.0, {"s": 1}),
    "d": (86_400.0, {"s": 1}),
    "wk": (604_800.0, {"s": 1}),
    "mo": (2_629_800.0, {"s": 1}),
    "a": (31_557_600.0, {"s": 1}),
    "[in_i]": (0.0254, {"m": 1}),
    "[ft_i]": (0.3048, {"m": 1}),
    "[lb_av]": (453.59237, {"g": 1}),
    "[oz_av]": (28.349523125, {"g": 1}),
    "[pH]": (1.0, {"pH": 1}),
}
_SCALES = {"Cel": (1.0, 273.15), "[degF]": (5 / 9, 459.67 * 5 / 9)}
"""Kelvin is value x the first + the second."""
USUAL = MappingProxyType(
    {
        **{"mmHg": "mm[Hg]", "cmH2O": "cm[H2O]", "°C": "Cel", "degC": "Cel", "℃": "Cel"},
        **{"°F": "[degF]", "degF": "[degF]", "lb": "[lb_av]", "lbs": "[lb_av]"},
        **{"oz": "[oz_av]", "in": "[in_i]", "inch": "[in_i]", "ft": "[ft_i]", "IU": "[iU]"},
        **{"cc": "mL", "sec": "s", "hr": "h", "yr": "a", "mEq": "meq", "mOsm": "mosm"},
        **{"years": "a", "days": "d", "hours": "h", "weeks": "wk", "months": "mo", "bpm": "/min"},
    }
)
"""How charts write what UCUM writes otherwise; none of them is another unit's code."""
_TOKENS = re.compile(r"\{[^{}]*\}|10[*^]|[./()%]|[+-]?\d+|(?:[^\W\d_]+)?\[\w+\]|[°℃]?[^\W\d_]+")
_LENGTH = 100


class UnitError(ValueError):
    """A text that is no unit; one line."""


@dataclass(frozen=True)
class Unit:
    """A unit: ``value`` of it is ``value * factor + offset`` of the base unit of its dimensions.

    powers : of the base dimensions, none of them 0
    """

    factor: float
    powers: Powers
    offset: float = 0.0


@dataclass(frozen=True)
class Conversion:
    """What a value in one unit is in another: ``value * factor + offset``."""

    factor: float
    offset: float = 0.0


def unit(text: str) -> Unit:
    """The unit of a UCUM code, or of a usual spelling of one (mmHg, °C, lb).

    Raises UnitError.

    >>> unit("mg/dL").factor
    10.0
    """
    cleaned = text.strip().replace("µ", "u").replace("μ", "u")
    if not cleaned or len(cleaned) > _LENGTH:
        raise UnitError("no unit of UCUM")
    cleaned = USUAL.get(cleaned, cleaned)
    if cleaned in _SCALES:
        factor, offset = _SCALES[cleaned]
        return Unit(factor, {"K": 1}, offset)
    return _Reader(cleaned).whole()


def is_unit(text: str) -> bool:
    """Whether ``unit`` reads it."""
    try:
        unit(text)
    except UnitError:
        return False
    return True


def remarks(text: str) -> list[str]:
    """What a code says in braces, which is no part of the unit: ``%{NGSP}``."""
    return sorted(re.findall(r"\{[^{}]*\}", text))


def conversion(from_unit: str, to_unit: str) -> Conversion | None:
    """What one unit is in another; None where their dimensions differ. Raises UnitError.

    >>> conversion("mg/dL", "g/L")
    Conversion(factor=0.01, offset=0.0)
    """
    here, there = unit(from_unit), unit(to_unit)
    if here.powers != there.powers:
        return None
    factor = here.factor / there.factor
    return Conversion(_short(factor), _short((here.offset - there.offset) / there.factor))


def by_molar_mass(from_unit: str, to_unit: str, grams_per_mole: float) -> Conversion | None:
    """The same between a mass and an amount of substance of what weighs so much; None where it
    isn't that by which they differ. Raises UnitError."""
    here, there = unit(from_unit), unit(to_unit)
    differ = {
        name: here.powers.get(name, 0) - there.powers.get(name, 0)
        for name in {*here.powers, *there.powers}
    }
    differ = {name: power for name, power in differ.items() if power}
    if differ == {"g": 1, "mol": -1}:
        return Conversion(here.factor / there.factor / grams_per_mole)
    if differ == {"mol": 1, "g": -1}:
        return Conversion(here.factor / there.factor * grams_per_mole)
    return None


def _short(number: float) -> float:
    """Without what the division of two factors left in the last digits."""
    return float(f"{number:.15g}")


class _Reader:
    """One reading of a code: terms joined by '.' and '/', left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    def whole(self) -> Unit:
        try:
            found = self._term(0)
        except (OverflowError, ZeroDivisionError):
            raise UnitError(f"'{self._text}' is no unit of UCUM: beyond any number") from None
        if self._at < len(self._tokens):
            raise UnitError(f"'{self._text}' is no unit of UCUM: '{self._tokens[self._at]}'")
        if not 1e-100 < found.factor < 1e100:
            raise UnitError(f"'{self._text}' is no unit of UCUM: beyond any number")
        return found

    def _next(self) -> str:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ""
        self._at += 1
        return token

    def _term(self, depth: int) -> Unit:
        if depth > 5:
            raise UnitError(f"'{self._text}': too many brackets")
        factor, powers, sign = 1.0, {}, 1  # type: float, dict[str, int], int
        if self._tokens[self._at : self._at + 1] == ["/"]:
            self._at, sign = self._at + 1, -1
        while True:
            part = self._part(depth)
            factor *= part.factor**sign
            for name, power in part.powers.items():
                powers[name] = powers.get(name, 0) + sign * power
            if self._tokens[self._at : self._at + 1] not in (["."], ["/"]):
                break
            sign = -1 if self._next() == "/" else 1
        return Unit(factor, {name: power for name, power in sorted(powers.items()) if power})

    def _part(self, depth: int) -> Unit:
        token = self._next()
        if token == "(":
            inner = self._term(depth + 1)
            if self._next() != ")":
                raise UnitError(f"'{self._text}': a bracket isn't closed")
            return inner
        if token.startswith("{"):
            return Unit(1.0, {})
        if token.isdecimal():
            return Unit(float(token), {})
        found = _atom(token, self._text)
        power = self._power()
        if self._tokens[self._at : self._at + 1] and self._tokens[self._at].startswith("{"):
            self._at += 1  # an annotation says nothing of the unit: g{creatinine}
        return Unit(found.factor**power, {n: p * power for n, p in found.powers.items()})

    def _power(self) -> int:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ""
        if not token.lstrip("+-").isdecimal():
            return 1
        self._at += 1
        if abs(int(token)) > 30:
            raise UnitError(f"'{self._text}': a power beyond 30")
        return int(token)


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None:
            raise UnitError(f"'{text}' is no unit of UCUM: '{text[at]}'{_hint(text)}")
        at = found.end()
        yield found[0]


def _atom(token: str, text: str) -> Unit:
    if token in _OTHERS:
        return Unit(*_OTHERS[token])
    if token in _SCALES:
        raise UnitError(f"'{text}': {token} is a scale, and no part of a unit; use K")
    for start in (0, 1, 2):
        factor = _PREFIXES.get(token[:start], 0.0) if start else 1.0
        if factor and token[start:] in _METRIC:
            own, powers = _METRIC[token[start:]]
            return Unit(factor * own, powers)
    if token in USUAL:
        return _Reader(USUAL[token]).whole()
    raise UnitError(f"'{text}' is no unit of UCUM: '{token or 'its end'}'{_hint(token)}")


def _hint(token: str) -> str:
    known = [*_METRIC, *_OTHERS, *(p + m for p in "kmunpd" for m in _METRIC), *USUAL]
    found = near(token, [name for name in known if len(name) > 1])
    return f"; is it '{USUAL.get(found, found)}'?" if found else ""
