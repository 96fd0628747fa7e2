"""Letters and digits without what writers and exports differ in.

Only characters of Unicode 3.2 (2002) have a form: Unicode promises that normalising and folding
what is assigned never changes, and of that set every Python has the same tables. A text with a
later character has none, rather than one that differs between two hospitals' Pythons.
"""

from __future__ import annotations

import re
import unicodedata

_OLD = unicodedata.ucd_3_2_0
_UNSEEN = dict.fromkeys([0xFEFF, 0x200B, 0x200C, 0x200D, 0x2060, 0x00AD])
_SPELT = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"}
    | {"ı": "i", "ħ": "h", "ŋ": "n", "ŧ": "t", "ĸ": "k", "ſ": "s", "ə": "e"}
)
_MARKS = re.compile(
    "[\u02b0-\u02ff\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u0640\u064b-\u0652\u0670"
    "\u20d0-\u20ea]"
)
_SEPARATORS = re.compile("[\\s./\u2010-\u2015\u2212_-]+")
_LONG = re.compile("a[ae]+|oe+|ue+")


def is_old(text: str) -> bool:
    """Whether Unicode 3.2 has all of its characters, none of them for private use."""
    return text.isascii() or all(_OLD.category(one) not in ("Cn", "Co", "Cs") for one in text)


def compact(text: str) -> str:
    """A number or code in one: compatible forms (NFKC) as plain ones, digits of any script as
    those of ASCII, small letters as capitals, and without blanks, points, slashes and dashes."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_UNSEEN))
        text = "".join(_digit(one) for one in text)
    return _SEPARATORS.sub("", text).upper()


def _digit(letter: str) -> str:
    value = _OLD.decimal(letter, None)
    return letter if value is None else str(value)


def letters(text: str) -> str:
    """The letters of a name: small, without accents, ``ß`` as ``ss`` and the like, and without
    whatever is no letter (blanks, hyphens, apostrophes, points, digits)."""
    if text.isascii():
        return "".join(filter(str.isalpha, text.lower()))
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    text = _MARKS.sub("", text.translate(_SPELT))
    return "".join(one for one in text if _OLD.category(one)[0] in "LM")


def short_vowels(text: str) -> str:
    """``ae`` as ``a``, ``oe`` as ``o``, ``ue`` as ``u``, ``aa`` as ``a``: the other spelling of
    ä, ö, ü and å."""
    return _LONG.sub(lambda found: found[0][0], text)
