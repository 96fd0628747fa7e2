"""What happens on the connections, written down: audit log, board, logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from wardround.common.audit.lines import SignedHead
from wardround.common.audit.log import AuditLog
from wardround.common.errors import AuditError, RunDirectoryError, WardroundError
from wardround.common.transport.frames import Heads, Start
from wardround.common.transport.mailbox import Mailbox
from wardround.common.trust.identity import Roster
from wardround.server.display.board import Board
from wardround.server.transport.events import ServerEvents

log = logging.getLogger("wardround.server")

_MOST_REFUSALS_OF_DISK = 8
"""Without a whole message in between: hospitals send again what the server couldn't keep."""


class Diary(ServerEvents):
    """The coordinator's own record of its connections.

    Parameters
    ----------
    roster : names and public keys; a live view
    on_unwritable : is told that what happens can't be written down, or taken in, any more
    """

    def __init__(
        self,
        audit: AuditLog,
        board: Board,
        roster: Roster,
        on_unwritable: Callable[[WardroundError], None],
    ) -> None:
        self._audit, self._board, self._roster = audit, board, roster
        self._on_unwritable, self._refusals_of_disk = on_unwritable, 0
        self._over = False
        self._greeted: set[str] = set()

    def _append(self, event: str, **fields: Any) -> None:
        """A line of the audit log. Raises AuditError: what can't be written down isn't done."""
        try:
            self._audit.append(event, **fields)
        except AuditError as error:
            if self._over:
                return
            self._on_unwritable(error)
            raise

    def end(self) -> None:
        """The log is about to be closed: what threads of the last connections still tell is lost,
        and no error."""
        self._over = True

    def unwritable(self, error: OSError) -> None:
        self._refusals_of_disk += 1
        if self._refusals_of_disk >= _MOST_REFUSALS_OF_DISK:
            why = f"the run's spool can't be written ({error.strerror})"
            mend = "make room, then start the server again: the run goes on"
            self._on_unwritable(RunDirectoryError(why, mend=mend))

    def connected(self, name: str, address: str, version: str) -> None:
        self._append("connected", hospital=name, address=address, version=version)
        self._greeted.discard(name)
        self._board.connected(name, address, version)
        log.info("%s is connected", name)

    def disconnected(self, name: str, reason: str) -> None:
        self._append("disconnected", hospital=name, reason=reason)
        self._board.disconnected(name, reason)
        log.info("%s is away: %s", name, reason)

    def refused(self, who: str, code: str, reason: str) -> None:
        self._append("refused", who=who, code=code, reason=reason)
        if code == "revoked":
            self._board.revoked(who)
        self._board.refused(who, reason)
        log.warning("%s was refused: %s", who, reason)

    def accepts(self, name: str, study: str = "") -> None:
        """A hospital accepts the plan, of a network's ``study``."""
        self._append("manifest", hospital=name, accepted=True, **_of(study))

    def refuses(self, name: str, reason: str, study: str = "") -> None:
        """It refuses it."""
        self._append("manifest", hospital=name, accepted=False, reason=reason, **_of(study))

    def admitted(self, name: str) -> None:
        self.accepts(name)
        self._board.admitted(name)

    def not_admitted(self, name: str, reason: str, withdrew: bool) -> None:
        self.refuses(name, reason)
        self._board.not_admitted(name, reason, withdrew)
        log.warning("%s %s: %s", name, "withdrew" if withdrew else "doesn't take part", reason)

    def sent(self, name: str, start: Start) -> None:
        self._append(
            "sent",
            hospital=name,
            kind=start.type,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.id,
            **_of(start.study),
        )
        self._board.sent(name, start.type, start.size_bytes)

    def received(self, name: str, start: Start) -> None:
        self._refusals_of_disk = 0
        self._append(
            "received",
            hospital=name,
            kind=start.type,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.reply_to,
            error=start.reason or None,
            **_of(start.study),
        )
        self._board.received(name, start.type, start.size_bytes)

    def brought(self, name: str, study: str, run: str, state: str, digest: str) -> None:
        """A hospital has what it is owed of a study that is over. ``digest``: of the signed list of
        its results; '' where it got none."""
        self._append("results", hospital=name, study=study, run=run, state=state, digest=digest)

    def ask_for_heads(self, mailboxes: Iterable[Mailbox]) -> None:
        """Have every hospital countersign what is here, and send its own head."""
        own = Heads(head=self._audit.signed_head().to_bytes().decode())
        for mailbox in mailboxes:
            mailbox.put_control(own)

    def _remind(self, name: str, mailbox: Mailbox) -> None:
        """Send a hospital the last head of its log that was countersigned here."""
        if last := self._audit.countersigned_of(name):
            head, signature = last.head.to_bytes().decode(), last.signature.hex()
            mailbox.put_control(Heads(head="", countersigned=head, signature=signature))

    def heads(self, name: str, heads: Heads, mailbox: Mailbox) -> None:
        public = self._roster.get(name, b"")
        try:
            if heads.countersigned:
                head = SignedHead.from_bytes(heads.countersigned.encode())
                signature = bytes.fromhex(heads.signature)
                self._audit.add_countersignature(head, name, public, signature)
            if heads.head:
                if name not in self._greeted:  # a log that was lost, or put back, shows there
                    self._greeted.add(name)
                    self._remind(name, mailbox)
                theirs = SignedHead.from_bytes(heads.head.encode())
                signature = self._audit.countersign(theirs, public)
                own = self._audit.signed_head().to_bytes().decode()
                mailbox.put_control(
                    Heads(head=own, countersigned=heads.head, signature=signature.hex())
                )
        except AuditError as error:
            if not self._over:
                log.warning("%s: %s", name, error)


def _of(study: str) -> dict[str, str]:
    """What a line says of the study that it is about."""
    return {"study": study} if study else {}
