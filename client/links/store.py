"""``Me.links`` at a hospital: one folder for all studies of a network, as there is one ledger.

A study opens a link only if the linkage's own settings named it, and only whole: where a person of
it has no row here any more (the data have changed, or the person has opted out), it is refused,
since leaving that place out would tell the others who it is. Whatever is refused is told to all
parties in words that hold no number; what is behind them stands in this hospital's own log.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wardround.client.links.helped import Helped
from wardround.client.links.kept import Kept, Record
from wardround.common.durable.lock import try_lock
from wardround.common.durable.private import private_folder
from wardround.common.errors import JointRefused, ProvisionError
from wardround.common.joint.links import ORDER, ROWS, Keys, Link
from wardround.common.text import one_line

log = logging.getLogger("wardround.client")

EVENT = "link"
"""Of the audit log: kept, used, helped, forgotten."""
_LOCK, _PATIENCE_S = "lock", 30.0


class Lines(Protocol):
    """Where lines of the audit log are written."""

    def append(self, event: str, **fields: Any) -> object:
        """Write a line, durably."""


class NoLines:
    """Of a simulation, which has no audit log."""

    def append(self, event: str, **fields: Any) -> object:
        """Does nothing."""
        return None


@dataclass(frozen=True)
class Most:
    """What this hospital helps each other party with, in all runs together (``site.toml``).

    fewest : persons of a link that is used
    """

    linkages: int = 1_000_000_000
    ids: int = 1_000_000_000_000
    fewest: int = 1


class LinkStore:
    """The links of one hospital, as one study sees them.

    Parameters
    ----------
    folder : of all links, made at first need
    made : what a link of this study would be, but for what only its end tells
    most : what this hospital helps with
    audit : takes a line on whatever happens
    """

    def __init__(
        self,
        folder: Path,
        made: Callable[[], Record],
        most: Most = Most(),  # noqa: B008 - it is frozen
        audit: Lines | None = None,
    ) -> None:
        self._folder, self._made, self._most = folder, made, most
        self._audit = audit or NoLines()
        self._kept, self._helped = Kept(folder), Helped(folder)

    def helps(self, session: bytes, step: int, asked: Mapping[str, int]) -> None:
        """Count what others ask, before it is done. Raises JointRefused past this hospital's
        limits, or where it can't be counted."""
        name, run = session.hex(), self._made().run
        with self._turn("can't count what it helps with"):
            for party in sorted(asked):
                self._check(party, asked[party], name, step)
            if self._helped.note(name, run, step, asked):
                self._audit.append(EVENT, what="helped", run=run, asked=dict(sorted(asked.items())))

    def _check(self, party: str, number: int, session: str, step: int) -> None:
        before = self._helped.total(party, without=session)
        here = self._helped.asked(session, party, without=str(step))
        if before.linkages + 1 > self._most.linkages:
            key, most, now = "max_linkages", self._most.linkages, before.linkages
        elif before.ids + here + number > self._most.ids:
            key, most, now = "max_linked_ids", self._most.ids, before.ids + here
        else:
            return
        log.warning(
            "%s = %d: %d were counted for '%s', and %d identifiers are asked about now",
            *(key, most, now, one_line(party, 100), number),
        )
        raise JointRefused(
            f"this hospital's rules allow no more help with identifiers of '{party}'",
            mend=f"ask it about {key} of its site.toml",
        )

    def keep(self, session: bytes, kept: Mapping[str, NDArray[Any]], keys: Keys) -> None:
        """Keep what a linkage has found. Raises JointRefused where it can't be kept."""
        rows, order = kept[ROWS], np.ascontiguousarray(kept[ORDER], dtype=np.uint8)
        forms = [keys[row] for row in rows.tolist()]
        linked = [form for form in forms if form is not None]
        if len(linked) < len(forms) or len(set(linked)) < len(linked):
            raise JointRefused("rows without identifiers, or two of one person, can't be linked")
        digest = _digest(session, order.tobytes(), len(linked))
        with self._turn("can't keep its link"):
            before = self._kept.find(self._made().name)
            record = self._kept.write(replace(self._made(), digest=digest.hex()), linked)
            self._audit.append(EVENT, what="kept", **_words(record), run=record.run)
        instead = (
            " in the place of an earlier one" if before and before.digest != digest.hex() else ""
        )
        log.info(
            "link '%s': %d persons with %s are kept%s",
            *(record.name, record.persons, ", ".join(record.parties), instead),
        )

    def open(self, name: str, study: str, keys: Keys) -> Link:
        """A link's own rows, in the agreed order. Raises JointRefused as ``Links`` says."""
        called = one_line(name, 100)
        with self._turn(f"can't read its link '{called}'"):
            record = self._kept.find(name)
            if record is None:
                raise JointRefused(
                    f"this hospital has no link '{called}': it was not made here, or is forgotten",
                    mend="run the linkage first",
                )
            if not may_use(record, study):
                raise JointRefused(
                    f"the link '{called}' is not for a study called '{one_line(study, 100)}'",
                    mend="link anew, with the study's name in procedure.used_by",
                )
            if record.persons < self._most.fewest:
                raise JointRefused(
                    f"the link '{called}' has fewer persons than this hospital's rules allow",
                    mend="ask it about smallest_link and min_persons of its site.toml",
                )
            rows = self._kept.places(record, keys)
            if missing := int((rows < 0).sum()):
                log.warning(
                    "link '%s': %d of its %d persons have no row in the data any more",
                    *(called, missing, len(rows)),
                )
                raise JointRefused(
                    f"persons of the link '{called}' have no row at this hospital any more",
                    mend="link anew",
                )
            self._audit.append(EVENT, what="used", **_words(record), run=self._made().run)
        return Link(rows, bytes.fromhex(record.digest))

    @contextmanager
    def _turn(self, what: str) -> Iterator[None]:
        """Alone with the folder: studies compute side by side, in processes. What is wrong with it
        is this hospital's own to know."""
        try:
            private_folder(self._folder)
            with alone(self._folder):
                yield
        except (ProvisionError, OSError) as error:
            log.warning("links: %s", error)
            raise JointRefused(f"this hospital {what}", mend="its own log says why") from None


def may_use(record: Record, study: str) -> bool:
    """Whether a study of this name may use a link."""
    return any(fnmatchcase(study, one) for one in record.used_by or [record.name])


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder of links. Raises ProvisionError where another process doesn't let
    go of it."""
    deadline = time.monotonic() + _PATIENCE_S
    while (held := try_lock(folder / _LOCK)) is None:
        if time.monotonic() > deadline:
            raise ProvisionError(f"{folder}: another process holds these links; try again")
        time.sleep(0.02)
    with held:
        yield


def _digest(session: bytes, order: bytes, persons: int) -> bytes:
    parts = (b"wardround link", session, order, persons.to_bytes(8, "big"))
    return hashlib.sha256(b"".join(len(one).to_bytes(8, "big") + one for one in parts)).digest()


def _words(record: Record) -> dict[str, Any]:
    """What an audit line says of a link."""
    return {"link": record.name, "persons": record.persons, "digest": record.digest}
