"""What a hospital is called: one rule for simulations and between machines.

A hospital's *name* has letters of ASCII, digits, '.', '_' and '-', at most 64: it becomes a folder,
a certificate's subject and part of every seed. Whatever people call it ('St. Mary's', 'Köln') is
its *title*: ``name_of`` makes the name of it, always the same one; tables show the title.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from wardround.common.figures.figure import MEAN, OVERALL
from wardround.common.text import composed

HOSPITAL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HospitalName = Annotated[str, Field(pattern=rf"^{HOSPITAL_NAME.pattern}$")]
SERVER = "server"
RESERVED = frozenset([SERVER, OVERALL, MEAN])
"""The other party's name, and those of the rows beside the hospitals' in tables."""
RULE = f"use letters, digits, '.', '_', '-', at most 64, and none of {', '.join(sorted(RESERVED))}"

Kind = Literal["server", "hospital", "researcher", "coordinator"]
Role = Literal["hospital", "researcher", "coordinator"]
ROLES: tuple[Role, ...] = ("hospital", "researcher", "coordinator")
"""What a member of a network can be. Names of all roles are in one name space: so a name says whose
it is, in logs, folders and studies."""

_SPELT = str.maketrans(
    {"ß": "ss", "ø": "o", "Ø": "O", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE"}
    | {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "þ": "th", "ı": "i"}
)
_LONGEST, _MARK = 56, 6


def is_name(text: object) -> bool:
    """Whether a hospital may be called so."""
    return (
        isinstance(text, str)
        and HOSPITAL_NAME.fullmatch(text) is not None
        and text.casefold() not in RESERVED
    )


def name_of(title: str) -> str:
    """The name that goes with a title; a title that is a name already is its own.

    Accents go, other signs become '-'. Where letters were lost, or the name is taken by the rule, a
    mark follows that is the title's alone.
    """
    if is_name(title):
        return title
    title = composed(title)  # one name, whichever way a file system writes its letters
    text = unicodedata.normalize("NFKD", title.translate(_SPELT))
    lost = any(letter.isalnum() and not letter.isascii() for letter in text)
    plain = text.encode("ascii", "ignore").decode()
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")
    name = base[:_LONGEST].rstrip("-._")
    return name if is_name(name) and not lost and name == base else _marked(name, title)


def names_of(titles: Iterable[str]) -> dict[str, str]:
    """Name to title, in order. Different titles get names that differ in more than upper and lower
    case: whichever would be called like another one gets a mark."""
    titles, found = list(titles), dict[str, str]()
    wanted = {title: name_of(title) for title in titles}
    taken: set[str] = set()
    # one that is a name already keeps it
    for title in sorted(titles, key=lambda title: (wanted[title] != title, title)):
        name = wanted[title]
        if name.casefold() in taken:
            name = _marked(name[:_LONGEST], title)
        taken.add(name.casefold())
        found[name] = title
    by_title = {title: name for name, title in found.items()}
    return {by_title[title]: title for title in titles}


def _marked(name: str, title: str) -> str:
    mark = hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK]
    return f"{name or 'site'}-{mark}"
