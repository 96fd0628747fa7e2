"""The rules by name: what each makes of a text, and which published examples show it.

A change of any of them is a new ``VERSION``: parties of two versions are refused, as their keys
would differ without anyone's seeing why. Every rule is idempotent: the form of a form is itself.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from wardround.common.identifiers import national
from wardround.common.identifiers.folding import compact, is_old, letters, short_vowels
from wardround.common.text import code

VERSION = 1
MOST_CHARACTERS = 200
"""Of a text that has a form, and of the form: so that its length in bytes fits into two."""
RuleName = Literal[
    "exact", "name", "date", "postcode", "number", "luhn", "mod97", "nhs", "nir", "bsn",
    "rijksregister", "personnummer", "cpr", "fodselsnummer", "hetu", "dni", "codice_fiscale",
    "pesel", "ahv", "svnr", "kvnr", "ssn",
]  # fmt: skip
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ]00:00(?::00(?:\.0{1,6})?)?)?", re.ASCII)
_ZIP = re.compile(r"(\d{5})\d{4}", re.ASCII)


@dataclass(frozen=True)
class Rule:
    """One rule.

    what : which texts have a form, and what counts as the same, for docs
    example : a text and its form, for docs; of numbers a published one
    read : the form of a text that is neither empty nor too long; None where it has none
    """

    what: str
    example: tuple[str, str]
    read: Callable[[str], str | None]

    def form(self, text: str) -> str | None:
        """The normal form of a text; None where it has none."""
        if not text or len(text) > MOST_CHARACTERS or not is_old(text):
            return None
        found = self.read(text)
        return found if found and len(found) <= MOST_CHARACTERS else None


def _national(read: Callable[[str], str | None]) -> Callable[[str], str | None]:
    return lambda text: read(compact(code(text)))


def _exact(text: str) -> str:
    return code(text)


def _name(text: str) -> str:
    return short_vowels(letters(text))


def _date(text: str) -> str | None:
    found = _DATE.fullmatch(code(text))
    if found is None:
        return None
    try:
        return datetime.date(*map(int, found.groups())).isoformat()
    except ValueError:
        return None


def _postcode(text: str) -> str | None:
    text = compact(text)
    if not (3 <= len(text) <= 10 and text.isascii() and text.isalnum()):
        return None
    return text[:5] if _ZIP.fullmatch(text) else text


def _number(text: str) -> str | None:
    text = compact(code(text))
    if not (text.isascii() and text.isdigit()):
        return None
    return text.lstrip("0") or None


def _hetu(text: str) -> str | None:
    """The mark of the century may be a dash, which is no separator here."""
    return national.hetu("".join(text.split()).upper())


RULES: dict[RuleName, Rule] = {
    "exact": Rule(
        "any text; blanks around it and doubled ones don't count, nor does `.0` after a whole "
        "number; capitals do",
        (" A-17  b ", "A-17 b"),
        _exact,
    ),
    "name": Rule(
        "the letters: no accents, capitals, blanks, hyphens, apostrophes or points; `ß` is `ss`, "
        "`ø` and `oe` are `o`, `æ`, `ae`, `aa` are `a`, `ue` is `u`, `ł` is `l`, `þ` is `th`",
        ("Müller-O’Brien", "mullerobrien"),
        _name,
    ),
    "date": Rule(
        "a day of the calendar, in the form that the file's dates have (`task.dialect.dates`, or "
        "found there); with a time of day only if that is midnight",
        ("1975-03-12 00:00", "1975-03-12"),
        _date,
    ),
    "postcode": Rule(
        "3 to 10 letters and digits; of a ZIP+4 the first five",
        ("sw1a 1aa", "SW1A1AA"),
        _postcode,
    ),
    "number": Rule("digits, unchecked; leading zeros don't count", ("00-1234", "1234"), _number),
    "luhn": Rule(
        "2 to 32 digits by Luhn", ("7992 7398 713", "79927398713"), _national(national.luhn)
    ),
    "mod97": Rule("ISO 7064, MOD 97-10", ("794-44", "79444"), _national(national.mod97)),
    "nhs": Rule(
        "England: NHS number; Scotland: CHI number",
        ("943 476 5919", "9434765919"),
        _national(national.nhs),
    ),
    "nir": Rule(
        "France: NIR, with or without its key",
        ("2 55 08 14 168 025 38", "255081416802538"),
        _national(national.nir),
    ),
    "bsn": Rule("Netherlands: BSN", ("1112.22.333", "111222333"), _national(national.bsn)),
    "rijksregister": Rule(
        "Belgium: national register",
        ("85.07.30-033 28", "85073003328"),
        _national(national.rijksregister),
    ),
    "personnummer": Rule(
        "Sweden: personal and coordination numbers, without the century",
        ("19811228-9874", "8112289874"),
        _national(national.personnummer),
    ),
    "cpr": Rule(
        "Denmark: CPR number; its date, as most have no check digit",
        ("211062-5629", "2110625629"),
        _national(national.cpr),
    ),
    "fodselsnummer": Rule(
        "Norway: birth, D and H numbers",
        ("151086 95088", "15108695088"),
        _national(national.fodselsnummer),
    ),
    "hetu": Rule("Finland: HETU", ("131052-308T", "131052-308T"), _hetu),
    "dni": Rule("Spain: DNI and NIE", ("54362315-K", "54362315K"), _national(national.dni)),
    "codice_fiscale": Rule(
        "Italy: codice fiscale",
        ("RCC MNL 83S18 D969H", "RCCMNL83S18D969H"),
        _national(national.codice_fiscale),
    ),
    "pesel": Rule("Poland: PESEL", ("44051401359", "44051401359"), _national(national.pesel)),
    "ahv": Rule(
        "Switzerland: AHV13", ("756.9217.0769.85", "7569217076985"), _national(national.ahv)
    ),
    "svnr": Rule(
        "Austria: social insurance", ("1237 010180", "1237010180"), _national(national.svnr)
    ),
    "kvnr": Rule(
        "Germany: health insurance", ("A123456780", "A123456780"), _national(national.kvnr)
    ),
    "ssn": Rule(
        "United States: SSN, which has no check digit",
        ("536-90-4399", "536904399"),
        _national(national.ssn),
    ),
}
assert set(RULES) == set(get_args(RuleName))


def normalise(rule: RuleName, texts: Sequence[str | None]) -> list[bytes | None]:
    """The normal form of each text as UTF-8; None where it is missing or has none.

    >>> normalise("name", ["Strauß", "STRAUSS", "von der Straß"])
    [b'strauss', b'strauss', b'vonderstrass']
    """
    form = RULES[rule].form
    found = (None if text is None else form(text) for text in texts)
    return [None if one is None else one.encode() for one in found]
