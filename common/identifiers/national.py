"""Numbers that states and insurers give, with what is checked of each.

A check finds a digit that was mistyped: such a number would link nobody, or somebody else. Each
function takes a text in one (``folding.compact``) and gives the form, or None for what is none.
Sources: the issuing body's own description, or where that isn't public the one in ISO 7064 and in
the Wikipedia article of that number; examples are in ``rules.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from operator import mul

_PERSONNUMMER = re.compile(r"(?:\d{2})?(\d{6})\+?(\d{4})", re.ASCII)
_NIR = re.compile(r"([1-8]\d{4}(?:\d{2}|2[AB])\d{6})(\d{2})?", re.ASCII)
_DNI = re.compile(r"([XYZ]\d{7}|\d{1,8})([A-Z])", re.ASCII)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_HETU = re.compile(r"(\d{6})([+A-FU-Y-])(\d{3})([0-9A-Y])", re.ASCII)
_HETU_LETTERS = "0123456789ABCDEFHJKLMNPRSTUVWXY"
_FISCAL = re.compile(r"[A-Z]{6}[0-9LMNPQRSTUV]{2}[A-EHLMPRST][0-9LMNPQRSTUV]{2}[A-Z]"
                     r"[0-9LMNPQRSTUV]{3}[A-Z]", re.ASCII)  # fmt: skip
_FISCAL_ODD = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22,
               25, 24, 23)  # fmt: skip
_SSN = re.compile(r"(?!000|666|9)\d{3}(?!00)\d{2}(?!0000)\d{4}", re.ASCII)
_KVNR = re.compile(r"[A-Z]\d{9}", re.ASCII)


def digits(text: str, *lengths: int) -> bool:
    """Whether it is so many digits of ASCII, not all of them the same."""
    return (
        len(text) in lengths and text.isascii() and text.isdigit() and text != text[0] * len(text)
    )


def weighted(text: str, weights: Iterable[int]) -> int:
    """The sum of digits, each times its weight."""
    return sum(map(mul, map(int, text), weights))


def is_luhn(text: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right is doubled."""
    doubled = (int(one) * (1 + place % 2) for place, one in enumerate(reversed(text)))
    return sum(one - 9 * (one > 9) for one in doubled) % 10 == 0


def luhn(text: str) -> str | None:
    """2 to 32 digits, the last of which is the check digit."""
    return text if digits(text, *range(2, 33)) and is_luhn(text) else None


def mod97(text: str) -> str | None:
    """ISO 7064, MOD 97-10: letters are 10 to 35, the whole is 1 modulo 97."""
    if not (3 <= len(text) <= 40 and text.isascii() and text.isalnum()):
        return None
    return text if int("".join(str(int(one, 36)) for one in text)) % 97 == 1 else None


def nhs(text: str) -> str | None:
    """England, Wales: 10 digits, modulo 11. Scotland's CHI numbers have the same check."""
    if not digits(text, 10):
        return None
    check = -weighted(text[:9], range(10, 1, -1)) % 11
    return text if check == int(text[9]) else None


def nir(text: str) -> str | None:
    """France: 13 characters and a key of 2, which is added where it isn't written."""
    found = _NIR.fullmatch(text)
    if found is None:
        return None
    number = int(found[1].replace("2A", "19").replace("2B", "18"))
    key = f"{97 - number % 97:02}"
    return found[1] + key if found[2] in (None, key) else None


def bsn(text: str) -> str | None:
    """Netherlands: 9 digits, of which a leading 0 may be left out; the eleven test."""
    text = text.zfill(9) if len(text) == 8 else text
    if not digits(text, 9) or weighted(text, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11:
        return None
    return text


def rijksregister(text: str) -> str | None:
    """Belgium: 11 digits; 97 less the first nine modulo 97, with a 2 before them from 2000 on."""
    if not digits(text, 11):
        return None
    number, key = int(text[:9]), int(text[9:])
    return text if key in (97 - number % 97, 97 - (2 * 10**9 + number) % 97) else None


def personnummer(text: str) -> str | None:
    """Sweden: the last 10 digits (year in two), by Luhn; the century doesn't count, as whether a
    number has a + depends on today. Coordination numbers (day + 60) are some."""
    found = _PERSONNUMMER.fullmatch(text)
    if found is None:
        return None
    number = found[1] + found[2]
    month, day = int(number[2:4]), int(number[4:6]) % 60
    return number if 1 <= month <= 12 and 1 <= day <= 31 and is_luhn(number) else None


def cpr(text: str) -> str | None:
    """Denmark: day, month, year and 4 digits, as since 2007 no number need pass modulo 11; so a
    wrong last digit isn't found. Replacement numbers (day + 60) are some."""
    if not digits(text, 10):
        return None
    return text if 1 <= int(text[:2]) % 60 <= 31 and 1 <= int(text[2:4]) <= 12 else None


def fodselsnummer(text: str) -> str | None:
    """Norway: 11 digits with two of modulo 11; D and H numbers have the same."""
    if not digits(text, 11):
        return None
    first = weighted(text[:10], (3, 7, 6, 1, 8, 9, 4, 5, 2, 1)) % 11
    second = weighted(text, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11
    return text if first == second == 0 else None


def hetu(text: str) -> str | None:
    """Finland: date of birth, mark of the century, 3 digits and a letter of modulo 31."""
    found = _HETU.fullmatch(text)
    if found is None or _HETU_LETTERS[int(found[1] + found[3]) % 31] != found[4]:
        return None
    return text


def dni(text: str) -> str | None:
    """Spain: DNI (8 digits) or NIE (X, Y, Z and 7), and a letter of modulo 23."""
    found = _DNI.fullmatch(text)
    if found is None:
        return None
    number = found[1].zfill(8)
    value = int(number.translate(str.maketrans("XYZ", "012")))
    return number + found[2] if _DNI_LETTERS[value % 23] == found[2] else None


def codice_fiscale(text: str) -> str | None:
    """Italy: 16 characters, the last of them a check; letters for digits (omocodia) stay."""
    if _FISCAL.fullmatch(text) is None:
        return None
    places = [int(one, 36) - (0 if one.isdigit() else 10) for one in text[:15]]
    total = sum(_FISCAL_ODD[place] for place in places[::2]) + sum(places[1::2])
    return text if chr(ord("A") + total % 26) == text[15] else None


def pesel(text: str) -> str | None:
    """Poland: 11 digits, weights 1, 3, 7, 9."""
    if not digits(text, 11) or weighted(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10:
        return None
    return text


def ahv(text: str) -> str | None:
    """Switzerland: 13 digits that begin with 756, with an EAN-13's check digit."""
    if not digits(text, 13) or not text.startswith("756") or weighted(text, (1, 3) * 7) % 10:
        return None
    return text


def svnr(text: str) -> str | None:
    """Austria: 3 digits from 100, a check digit of modulo 11, and the date of birth in 6."""
    if not digits(text, 10) or text[0] == "0":
        return None
    return text if weighted(text, (3, 7, 9, 0, 5, 8, 4, 2, 1, 6)) % 11 == int(text[3]) else None


def kvnr(text: str) -> str | None:
    """Germany, statutory health insurance: a letter, 8 digits and a check digit; weights 1 and 2
    on the letter's place in two digits and the others."""
    if _KVNR.fullmatch(text) is None:
        return None
    number = f"{ord(text[0]) - ord('A') + 1:02}{text[1:9]}"
    products = (int(one) * (1 + place % 2) for place, one in enumerate(number))
    return text if sum(one - 9 * (one > 9) for one in products) % 10 == int(text[9]) else None


def ssn(text: str) -> str | None:
    """United States: 9 digits without a check; those that were never given are none."""
    return text if digits(text, 9) and _SSN.fullmatch(text) is not None else None
