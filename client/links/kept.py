"""A link on the disk: a record that says what it is, and digests of the rows in the agreed order.

    state/links/key            32 bytes of the operating system's generator, of this hospital alone
    state/links/NAME-....json  a link: whose study made it, with whom, for which studies
    state/links/DIGEST.rows    its rows: 16 bytes each, HMAC-SHA-256 under the key of the normal
                               form of the row's identifiers, in the order that all parties agree on

So a link holds no row number: a data file may be ordered otherwise, or grow, and a row is still
found by its own identifiers. Without the key the digests tell nobody who it is. Files are written
whole, the rows before the record that names them: after a crash there is the old link or the new
one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wardround.common.durable.files import sync
from wardround.common.durable.private import read_private, write_private
from wardround.common.durable.versioned import Format
from wardround.common.errors import ProvisionError
from wardround.common.joint.links import Keys

FOLDER = "links"
"""In a kit's ``state``."""
_KEY, _KEY_BYTES, _SIZE = "key", 32, 16
_FORMAT = Format("link", "forget it (wardround link forget KIT NAME) and link anew")
_MEND = "restore it from the newest backup, or link anew"
_SAFE = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Record:
    """What a link is.

    name : of the linkage's study
    study, run, asked_by : its id ('' in a federation that is one), run and researcher
    made : when, UTC
    parties : all of them, ordered
    used_by : patterns of names of the studies that may use it
    identifiers : by the name that all parties have for each, the rule of its normal form
    persons : how many are linked
    digest : hexadecimal, the same at all parties
    rows : SHA-256 of the rows' digests
    """

    name: str
    study: str = ""
    run: str = ""
    asked_by: str = ""
    made: str = ""
    parties: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)
    identifiers: dict[str, str] = field(default_factory=dict)
    persons: int = 0
    digest: str = ""
    rows: str = ""


class Kept:
    """The links in a folder. Raises ProvisionError for what can't be read or written.

    For one writer at a time: ``store.py`` sees to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def records(self) -> Iterator[Record]:
        """All that there are, by name."""
        for path in sorted(self.folder.glob("*.json")):
            if path.name != HELPED:
                yield self._read(path)

    def find(self, name: str) -> Record | None:
        """The link of a linkage; None where there is none."""
        path = self._path(name)
        return self._read(path) if path.exists() else None

    def write(self, record: Record, keys: Sequence[bytes]) -> Record:
        """Keep a link, in the place of an earlier one of its name.

        keys : normal forms of the linked rows' identifiers, in the agreed order

        Gives the record as it was written.
        """
        data = _digests(self._key(make=True), keys).tobytes()
        named = hashlib.sha256(data).hexdigest()
        write_private(self._rows_path(named), data)
        whole = Record(**(asdict(record) | {"persons": len(keys), "rows": named}))
        text = json.dumps(_FORMAT.seal(asdict(whole)))
        write_private(self._path(whole.name), text.encode())
        self._sweep()
        return whole

    def places(self, record: Record, keys: Keys) -> NDArray[np.int64]:
        """For each person of a link, in order, the row whose identifiers these are; -1 where there
        is none. Of rows with equal identifiers the first counts.

        keys : of the rows that there are; None of a row that has no identifiers
        """
        path = self._rows_path(record.rows)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ProvisionError(f"{path}: can't be read ({error.strerror}); {_MEND}") from None
        if hashlib.sha256(data).hexdigest() != record.rows:
            raise ProvisionError(f"{path}: is damaged; {_MEND}")
        wanted = np.frombuffer(data, dtype=f"S{_SIZE}")
        there = np.flatnonzero([key is not None for key in keys])
        own = _digests(self._key(), [key for key in keys if key is not None])
        return _found(wanted, own, there)

    def remove(self, name: str) -> Record | None:
        """Forget a link, durably; gives what it was, None where there is none."""
        record = self.find(name)
        if record is None:
            return None
        try:
            self._path(name).unlink()
            sync(self.folder)
            self._sweep()
        except OSError as error:
            raise ProvisionError(f"{self.folder}: can't be written ({error.strerror})") from None
        return record

    def _sweep(self) -> None:
        """Rows that no record names: of a link that was replaced, or of a crash."""
        named = {record.rows for record in self.records()}
        for path in self.folder.glob("*.rows"):
            if path.stem not in named:
                path.unlink(missing_ok=True)

    def _key(self, make: bool = False) -> bytes:
        path = self.folder / _KEY
        if make and not path.exists():
            write_private(path, secrets.token_bytes(_KEY_BYTES))
        key = read_private(path, _MEND)
        if len(key) != _KEY_BYTES:
            raise ProvisionError(f"{path}: this is no key of links ({_KEY_BYTES} bytes); {_MEND}")
        return key

    def _path(self, name: str) -> Path:
        """A study's name comes from others."""
        digest = hashlib.sha256(name.encode()).hexdigest()[:16]
        return self.folder / f"{_SAFE.sub('_', name)[:80]}-{digest}.json"

    def _rows_path(self, digest: str) -> Path:
        return self.folder / f"{digest}.rows"

    def _read(self, path: Path) -> Record:
        try:
            stored = json.loads(read_private(path, _FORMAT.mend))
        except ValueError:
            raise ProvisionError(f"{path}: is damaged; {_FORMAT.mend}") from None
        return _FORMAT.make(Record, stored, ProvisionError, str(path))


HELPED = "helped.json"
"""In the same folder, and no link: how often was helped (``helped.py``)."""


def _digests(key: bytes, forms: Sequence[bytes]) -> NDArray[np.bytes_]:
    found = b"".join(hmac.digest(key, b"row\x1f" + one, hashlib.sha256)[:_SIZE] for one in forms)
    return np.frombuffer(found, dtype=f"S{_SIZE}")


def _found(
    wanted: NDArray[np.bytes_], own: NDArray[np.bytes_], rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """The first of ``rows`` whose digest is each wanted one; -1 for none."""
    if not len(own):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(own, kind="stable")
    at = np.minimum(np.searchsorted(own, wanted, sorter=order), len(own) - 1)
    place = order[at]
    return np.where(own[place] == wanted, rows[place], -1).astype(np.int64)
