"""Who was in which study, without a name: keyed pseudonyms of patients beside a privacy ledger.

A pseudonym is HMAC-SHA-256 of the patient's identifier in its normal form, cut to 16 bytes, under
32 bytes of the operating system's generator that lie beside the ledger (mode 0600). Pseudonyms and
key never leave, and stand in no log. A set of them is sorted bytes, 16 for each pseudonym.

Two patients with one pseudonym would only count too much; one patient with two would count too
little. So the normal form is a loose one: compatible letters alike (NFKC), case, blanks and
punctuation away, leading zeros and the '.0' of a number away. A patient who has *another*
identifier in another study's export is another patient here; nothing can tell.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.durable.private import read_private, write_private
from wardround.common.errors import PrivacyRefused, ProvisionError
from wardround.common.text import code

SIZE = 16
_KEY_BYTES = 32
_LONGEST = 16
"""Digits that a number of patients is filled up to with zeros, at most."""
_NUMBER = re.compile(r"^(\d+)\.0+$", re.ASCII)


def normal_identifier(text: str) -> str:
    """The form in which two identifiers are compared.

    >>> {normal_identifier(text) for text in ("00ab-12", "AB 12", "ab12")}
    {'ab12'}
    >>> normal_identifier("0017.0")
    '17'
    """
    folded = unicodedata.normalize("NFKC", text).casefold().strip()
    folded = _NUMBER.sub(r"\1", folded)
    kept = "".join(letter for letter in folded if letter.isalnum())
    return kept.lstrip("0") or kept[-1:]


def spellings(text: str) -> list[str]:
    """An identifier as an archive may write it that a list writes otherwise: images have but a
    digest of the one that is in them, whose form can't be made loose any more.

    >>> spellings("0012")[:3], "000000012" in spellings("12")
    (['0012', '12', '012'], True)
    """
    folded = unicodedata.normalize("NFKC", text).strip()
    bare = "".join(letter for letter in folded if letter.isalnum())
    normal = normal_identifier(text)
    found = [text, folded, bare, normal]
    found += [one for form in (folded, bare) for one in (form.upper(), form.lower())]
    if normal.isdecimal():
        found += [normal.zfill(digits) for digits in range(len(normal) + 1, _LONGEST + 1)]
    return list(dict.fromkeys(found))


def key_path(ledger: Path) -> Path:
    """Beside the ledger."""
    return ledger.with_name(ledger.name + ".key")


def make_key(path: Path) -> bytes:
    """A new key, kept; one that is there already stays. The caller holds the ledger's lock."""
    if not path.exists():
        write_private(path, secrets.token_bytes(_KEY_BYTES))
    return read_key(path)


def read_key(path: Path) -> bytes:
    """Raises PrivacyRefused where it is missing, damaged, or others may read it."""
    mend = "restore it, or set ledger_units = 'all' in site.toml"
    try:
        key = read_private(path, mend)
    except ProvisionError as error:
        raise PrivacyRefused(f"the ledger's key: {error}") from None
    if len(key) != _KEY_BYTES:
        raise PrivacyRefused(f"{path}: this is no key of a privacy ledger; {mend}")
    return key


def check_value(key: bytes) -> str:
    """By which a key is known again; tells nothing of it."""
    return hmac.digest(key, b"wardround privacy ledger", hashlib.sha256)[:SIZE].hex()


def members(found: bytes) -> set[bytes]:
    """The pseudonyms of a set."""
    return {found[at : at + SIZE] for at in range(0, len(found), SIZE)}


def pseudonyms(key: bytes, patients: Iterable[str]) -> bytes:
    """The set of these patients: for each of them one of the identifier, one of its digest."""
    found = {
        hmac.digest(key, b"patient\x1f" + normal_identifier(form).encode(), hashlib.sha256)[:SIZE]
        for one in patients
        for form in (one, _as_of_images(one))
    }
    return b"".join(sorted(found))


def _as_of_images(text: str) -> str:
    """What the imaging task calls a patient of this identifier (``common/tasks/imaging``): a digest
    of it. Each patient has a pseudonym of both forms, so one in a table and in images is one."""
    return hashlib.sha256(code(text).encode()).hexdigest()[:12]


def patterns(sets: Sequence[bytes], among: bytes | None = None) -> NDArray[np.bool_]:
    """The combinations of sets that patients are in, shape (combinations, sets): for each pattern
    there is somebody in just these.

    among : of its patients only; else of all, and of one who is in none
    """
    members = [_array(one) for one in sets]
    everybody = np.unique(np.concatenate(members)) if members else _array(b"")
    who = everybody if among is None else _array(among)
    inside = np.zeros((len(who), len(members)), np.bool_)
    for column, one in enumerate(members):
        inside[:, column] = np.isin(who, one)
    if among is None:
        inside = np.concatenate([inside, np.zeros((1, len(members)), np.bool_)])
    return np.unique(inside, axis=0) if members else inside[:1]


def _array(one: bytes) -> NDArray[np.bytes_]:
    return np.frombuffer(one, dtype=f"S{SIZE}")
