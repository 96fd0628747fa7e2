"""The kit's audit log as the witness of its privacy ledger: neither can be put back alone.

After each spending the ledger's head stands in the log (event ``ledger``), durably and before
anything is trained; the log's head is countersigned by the server. So a ledger that is gone,
emptied, older or another one is noticed by the log; and a log that is gone, or was put back, by the
server, which sends at each connection the last head of it that it has countersigned. A process
spends nothing before the server has countersigned a head of its own: that is when it would have
said so.

A log that was begun anew after damage, or one that lacks what the server has countersigned (event
``log lost``), vouches for nothing until a person says so: ``wardround client ledger KIT --accept``.

What is left: whoever removes ledger and log of all kits, with a server that has forgotten, or that
lies, begins at zero.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wardround.client.data.witness import Anchor
from wardround.client.privacy.entries import EVERYBODY, Entry
from wardround.common.audit.lines import BEGAN, SignedHead, told
from wardround.common.audit.log import AuditLog
from wardround.common.errors import PrivacyRefused
from wardround.common.names import SERVER
from wardround.common.trust.identity import verify

log = logging.getLogger("wardround.client")

LEDGER_EVENT, LOST_EVENT = "ledger", "log lost"
_TOLD = (BEGAN, "sent", LEDGER_EVENT, LOST_EVENT)
_PATIENCE_S = 10.0
"""For the server's countersignature, which comes within a moment of the connection."""


@dataclass
class Known:
    """What an audit log knows of its kit's ledger.

    anchor : the ledger's head; None where it knows none
    begun_anew : the log goes on from a damaged or lost one, and knows no ledger since
    has_spent : something private has left
    lost : the heads that it lacks and the server has countersigned
    open : the last of them, if no person has accepted the ledger since
    """

    anchor: Anchor | None = None
    begun_anew: bool = False
    has_spent: bool = False
    lost: set[tuple[int, str]] = field(default_factory=set)
    open: SignedHead | None = None

    @classmethod
    def read(cls, path: Path) -> Known:
        """Of the file as it stands; lines that aren't sound say nothing."""
        self = cls()
        for values in told(path, *_TOLD):
            self._take_in(values)
        return self

    def _take_in(self, values: Mapping[str, Any]) -> None:
        event = values["event"]
        if event == BEGAN:
            self.begun_anew = values.get("previous") is not None
        elif event == "sent":
            self.has_spent |= values.get("epsilon") is not None
        elif event == LOST_EVENT:
            self.open = SignedHead.from_row(values.get("head"))
            self.lost.add((self.open.seq, self.open.hash))
        elif event == LEDGER_EVENT:
            self.anchor = Anchor(int(values["rows"]), str(values["row_hash"]))
            self.begun_anew = False
            if values.get("accepted") is not None:
                self.open = None

    def check(self, path: Path) -> None:
        """Raise PrivacyRefused where the log at ``path`` can't vouch for any ledger."""
        if self.open is not None:
            raise PrivacyRefused(why_lost(self.open, path))
        if self.begun_anew:
            raise PrivacyRefused(
                f"{path}: was begun anew, so it doesn't know how far the privacy ledger had come; "
                "look at it, then accept it: wardround client ledger KIT"
            )


def why_lost(head: SignedHead, path: Path) -> str:
    """What it means that a log lacks a head, and what to do."""
    return (
        f"the server has countersigned line {head.seq} of this kit's audit log, and that line "
        "isn't here: the log was removed or put back, and with it what it knew of the privacy "
        f"ledger; restore {path.parent}, or begin the log anew (wardround audit restart {path} "
        f"--after {head.seq}), then: wardround client ledger KIT"
    )


class LogWitness:
    """The witness of one kit, while its audit log is open.

    Parameters
    ----------
    kit : tells the kit from every other one
    on_spent : is called when the ledger has come further, so that the server can countersign it

    Attributes
    ----------
    known : what the log knows
    """

    def __init__(
        self, audit: AuditLog, kit: str, on_spent: Callable[[], None] = lambda: None
    ) -> None:
        self._audit, self._kit, self._on_spent = audit, kit, on_spent
        self.known = Known.read(audit.path)
        self._refused, self._turn = "", threading.Lock()
        self._heard = threading.Event()

    @property
    def kit(self) -> str:
        return self._kit

    # --- what the server remembers ---------------------------------------------------------------
    def remembers(self, head: SignedHead, signature: bytes, server: bytes) -> bool:
        """Whether the log has a head that the server has countersigned; what it lacks is written
        down, once, and stops private training. A signature that isn't the server's tells nothing.

        server : its public key
        """
        if head.party != self._audit.party or self._audit.holds(head):
            return True
        if not verify(server, signature, head.countersigned(SERVER)):
            return True
        if (head.seq, head.hash) not in self.known.lost:
            self._audit.append(LOST_EVENT, head=head.row())
            self.known.lost.add((head.seq, head.hash))
            self.known.open = head
            log.warning("%s", why_lost(head, self._audit.path))
        self._heard.set()  # nobody need wait for it any more
        return False

    def countersigned(self) -> None:
        """The server has countersigned the log as this process goes on with it."""
        self._heard.set()

    # --- the ledger ------------------------------------------------------------------------------
    def refuse(self, why: str) -> None:
        """Nothing private is done until the next start; '' takes it back."""
        self._refused = why

    def newest(self) -> Anchor:
        """Raises PrivacyRefused where the log can't vouch for a ledger."""
        self.check_log()
        if not self._heard.wait(_PATIENCE_S):
            raise PrivacyRefused(
                "the server hasn't countersigned this kit's audit log since this client started; "
                "nothing private is done before"
            )
        self.check_log()  # what it remembers may have come meanwhile
        if self.known.anchor is None:
            raise PrivacyRefused(
                f"{self._audit.path}: knows of no privacy ledger; see: wardround client ledger KIT"
            )
        return self.known.anchor

    def check_log(self) -> None:
        """Raise PrivacyRefused where the log can't vouch for any ledger."""
        self.known.check(self._audit.path)
        if self._refused:
            raise PrivacyRefused(self._refused)

    def add(self, anchor: Anchor, entry: Mapping[str, Any]) -> None:
        # whom it touched is the ledger's alone
        self._forward(anchor, entry={**entry, "units": EVERYBODY})
        self._on_spent()

    def begin(self, anchor: Anchor) -> None:
        """The ledger has come so far, by other kits, or is taken up."""
        if anchor != self.known.anchor:
            self._forward(anchor)

    def _forward(self, anchor: Anchor, **more: Any) -> None:
        """Write a head down, and never one that the log was past: two studies may have spent at
        once, and be told of in the other order."""
        with self._turn:
            known = self.known.anchor
            further = known is not None and known.number > anchor.number
            self._write(known if known is not None and further else anchor, **more)

    def accept(self, anchor: Anchor, reason: str) -> None:
        """A person says that this is the ledger, whatever the log knew."""
        self._write(anchor, accepted=reason)
        self.known.open = None

    def _write(self, anchor: Anchor, **more: Any) -> None:
        self._audit.append(LEDGER_EVENT, rows=anchor.number, row_hash=anchor.hash, **more)
        self.known.anchor, self.known.begun_anew = anchor, False


def kit_id(authority: str, federation: str, hospital: str) -> str:
    """16 hexadecimal digits that tell one kit from another.

    authority : fingerprint of the consortium's certificate
    """
    text = "\x1f".join((authority, federation, hospital))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def spent_by_log(path: Path) -> list[Entry]:
    """What an audit log says that its kit has spent; lines that aren't sound say nothing."""
    found = []
    for values in told(path, LEDGER_EVENT):
        if isinstance(values.get("entry"), dict):
            try:
                found.append(Entry.of(values["entry"]))
            except (ValueError, KeyError, TypeError):
                log.warning("%s: line %s tells of no readable spending", path, values["seq"])
    return found
