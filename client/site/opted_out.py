"""Patients who have opted out: their rows are in no study, from the next request of any round on.

A list of the hospital's own (``opt_out`` in ``site.toml``, by default ``state/opted_out.txt``, for
its owner only), a line for each patient: an identifier as it is written in the data, or, as
``wardround client opt-out`` writes it, keyed pseudonyms (``client/privacy/pseudonyms.py``), which
tell nobody who it is. Identifiers are compared in that module's loose form, and those of images in
its spellings: rather one row too many goes. Neither the list nor how many rows it takes out ever
leaves.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from wardround.client.privacy.pseudonyms import SIZE, members, pseudonyms, spellings
from wardround.client.site.policy import SitePolicy
from wardround.common.durable.private import read_private, write_private
from wardround.common.errors import DataError, ProvisionError
from wardround.common.tasks.base import Task
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")
FILE = "opted_out.txt"
_KEYED = "keyed:"
_MEND = "restore it: without it nobody knows who has opted out"
_Form = tuple[int, int, int] | None


def opt_out_path(site: SitePolicy, kit: Path) -> Path:
    """Where a kit's list lies."""
    if site.opt_out is not None:
        return site.beside(site.opt_out)
    return (kit / "state" / FILE).resolve()


def patients_key(held_out_key: bytes) -> bytes:
    """The key of lists of patients: follows from the hospital's held-out key, which kits share."""
    return hmac.digest(held_out_key, b"wardround lists of patients", hashlib.sha256)


class OptedOut:
    """The list, looked at before each request.

    needed : it was named in ``site.toml``, so it has to be there
    """

    def __init__(self, path: Path, key: bytes, needed: bool = False) -> None:
        self._path, self._key, self._needed = path, key, needed
        self._mark = path.with_name(f"{path.name}.begun")  # there was a list: also after a restart
        self._read_form: _Form = None
        self._members: frozenset[bytes] = frozenset()
        self._read()

    def has_changed(self) -> bool:
        """Whether the list is another one since it was asked last. Raises DataError where it
        can't be read: nothing may be computed without it."""
        if self._form() == self._read_form:
            return False
        before = self._members
        self._read()
        return self._members != before

    def without(self, task: Task[Any], raw: Any) -> Any:
        """The rows of all others. Raises DataError where it isn't known whose rows there are."""
        if not self._members:
            return raw
        people = task.people(raw)
        if people is None or not task.names_all(raw):
            raise DataError(
                "patients have opted out, and the data don't say whose each row is; name the "
                "column: patient_id in [data.NAME] of site.toml"
            )
        names, number = np.unique(people.astype(str), return_inverse=True)
        forms = (members(pseudonyms(self._key, [one])) for one in names)
        out = np.array([not self._members.isdisjoint(one) for one in forms])
        kept = np.flatnonzero(~out[number]).astype(np.int64)
        if len(kept) < len(people):
            log.info(
                "%d of %d rows are left out: %d patients have opted out",
                *(len(people) - len(kept), len(people), int(out.sum())),
            )
        return task.select(raw, kept)

    def _form(self) -> _Form:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(f"{self._path}: can't be read ({error.strerror}); {_MEND}") from None
        return found.st_size, found.st_mtime_ns, found.st_ino

    def _read(self) -> None:
        form = self._form()
        if form is None and (self._needed or self._mark.exists()):
            raise DataError(f"{self._path}: there is no such file (opt_out); {_MEND}")
        if form is not None and not self._needed and not self._mark.exists():
            write_private(self._mark, b"")
        self._members = frozenset(_members(self._path, self._key)) if form is not None else _NONE
        self._read_form = form


_NONE: frozenset[bytes] = frozenset()


def _members(path: Path, key: bytes) -> Iterable[bytes]:
    """The pseudonyms of all who have opted out. Raises DataError."""
    try:
        lines = read_private(path, _MEND).decode("utf-8-sig").splitlines()
    except ProvisionError as error:
        raise DataError(str(error)) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not text.startswith(_KEYED):
            found = pseudonyms(key, spellings(text))
        else:
            found = _keyed(path, number, text, key)
        yield from members(found)


def _keyed(path: Path, number: int, text: str, key: bytes) -> bytes:
    """What a line says that the command wrote. Raises DataError under another key than this."""
    check, _, digits = text.removeprefix(_KEYED).partition(":")
    try:
        found = bytes.fromhex(digits)
    except ValueError:
        found = b""
    if not found or len(found) % SIZE:
        raise DataError(f"{path}:{number}: is no line of wardround client opt-out")
    if check != _check(key):
        raise DataError(
            f"{path}:{number}: was written under another held-out key (held_out_key); restore "
            "that key, or write the patients' identifiers instead"
        )
    return found


def _check(key: bytes) -> str:
    return hmac.digest(key, b"check", hashlib.sha256)[:4].hex()


def change_list(path: Path, key: bytes, patients: Iterable[str], undo: bool = False) -> int:
    """Add patients to a list, or take them off it. Gives how many lines it has then.

    Raises DataError for an identifier that isn't one, or one to take off that isn't there.
    """
    lines = read_private(path, _MEND).decode("utf-8-sig").splitlines() if path.exists() else []
    for patient in patients:
        if not patient.strip() or patient != one_line(patient, 1000):
            raise DataError("a patient's identifier is one line of text")
        found = members(pseudonyms(key, spellings(patient)))
        kept = [line for line in lines if found.isdisjoint(_of_line(path, line, key))]
        if undo and len(kept) == len(lines):
            raise DataError(f"{path}: that patient isn't on the list")
        if not undo:
            kept.append(f"{_KEYED}{_check(key)}:{b''.join(sorted(found)).hex()}")
        lines = kept
    write_private(path, ("\n".join(lines) + "\n" if lines else "").encode())
    return sum(bool(one.strip()) and not one.startswith("#") for one in lines)


def _of_line(path: Path, line: str, key: bytes) -> set[bytes]:
    text = line.strip()
    if not text or text.startswith("#"):
        return set()
    keyed = text.startswith(_KEYED)
    found = _keyed(path, 0, text, key) if keyed else pseudonyms(key, spellings(text))
    return members(found)
