"""Units that the name of a column carries: 'creatinine [mg/dL]', 'glucose (mmol/l)', 'crp_mg_l'."""

from __future__ import annotations

import re

from wardround.common.text import normal_text

_PARTS = (
    "g kg mg ug µg μg ng pg l dl ml ul µl μl fl mol mmol umol µmol μmol nmol pmol u iu miu uiu "
    "meq mosm m cm mm um µm km mmhg kpa hpa cmh2o torr s sec min h hr hrs d day days wk week weeks "
    "mo month months a yr yrs year years bpm hz ms us mv v w kw j kj kcal c f k degc degf °c °f % "
    "percent ratio score /min /h /l /ul /µl /mm3 mm3 cells copies x10e9 x10e12 10e9 10e12 10^9 "
    "10^12 10*9 10*12 gy hu eur usd cents lb lbs in inch inches ft stunden tage tag jahre monate"
).split()
_KNOWN = frozenset(_PARTS)
_BRACKETS = re.compile(
    r"^(?P<base>.*\S)\s*(?:\[(?P<square>[^\[\]]{1,20})\]|\((?P<round>[^()]{1,20})\))$"
)
_NO_SUFFIX = frozenset(
    "a c d f h in j k l m mo ms s u us v w x cells copies percent ratio score min".split()
)
"""Too short, or too much of a word, to be a unit at the end of a name."""
_JOINT = re.compile(r"([_ ])")
_COUNT = re.compile(r"^[\d.,]+")
_LETTERS = frozenset("acfhju")
_SEPARATOR = re.compile(r"\s*[/·.*]\s*|\s+per\s+|_per_|_|\s+")


def header_unit(name: str) -> tuple[str, str | None]:
    """A column's name without its unit, and the unit as written there; None where it has none.

    >>> header_unit("Kreatinin [mg/dL]"), header_unit("crp_mg_l"), header_unit("smoker (ja)")
    (('Kreatinin', 'mg/dL'), ('crp', 'mg/l'), ('smoker (ja)', None))
    """
    name = normal_text(name)
    if found := _BRACKETS.match(name):
        unit = normal_text(found["square"] or found["round"])
        if _is_unit(unit, frozenset() if found["square"] else _NO_SUFFIX):
            return found["base"], unit
    parts = _JOINT.split(name)  # words at even places, what joins them at odd ones
    for words in (2, 1):
        last = parts[len(parts) - 2 * words + 1 :: 2]
        before = parts[: len(parts) - 2 * words]
        if before and _is_suffix(parts[len(parts) - 2 * words + 1 :][::2]):
            if len(before) > 2 and before[-1].casefold() in ("in", "per"):
                before = before[:-2]
            return "".join(before), "/".join(last)
    return name, None


def usual_unit(unit: str) -> str:
    """Two ways to write one unit are equal in it: case, µ and u, blanks and 'per' don't count.

    >>> usual_unit("µmol / L") == usual_unit("umol/l")
    True
    """
    text = unit.casefold().replace("µ", "u").replace("μ", "u").replace("°", "deg")
    return "/".join(part for part in _SEPARATOR.split(text.strip()) if part)


def _is_unit(text: str, alone: frozenset[str] = frozenset()) -> bool:
    """alone : single words that are none"""
    lower = text.casefold()
    parts = [part for part in re.split(r"[/·*]|\s+per\s+|\s+", lower) if part]
    if len(parts) == 1 or lower in _KNOWN:
        return lower in _KNOWN and lower not in alone
    return bool(parts) and all(_is_part(part) for part in parts)


def _is_part(part: str) -> bool:
    """One factor of a unit: 'ml', '1.73m2', 'm^2'."""
    bare = _COUNT.sub("", part).rstrip("0123456789²³^-") or part
    return (part in _KNOWN or bare in _KNOWN) and part not in _LETTERS


def _is_suffix(parts: list[str]) -> bool:
    lower = [part.casefold() for part in parts]
    if len(lower) == 1:
        return lower[0] in _KNOWN and lower[0] not in _NO_SUFFIX
    return lower[0] not in ("in", "per") and all(part in _KNOWN for part in lower)
