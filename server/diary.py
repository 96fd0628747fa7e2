"""What happens on the connections, written down: audit log, board, logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from wardround.common.audit import AuditLog
from wardround.common.audit_lines import SignedHead
from wardround.common.description import Description
from wardround.common.errors import AuditError
from wardround.common.wire.frames import Heads, Start
from wardround.common.wire.mailbox import Mailbox
from wardround.server.board import Board
from wardround.server.transport.events import ServerEvents

log = logging.getLogger("wardround.server")


class Diary(ServerEvents):
    """The coordinator's own record of its connections."""

    def __init__(
        self, audit: AuditLog, board: Board, description: Callable[[], Description]
    ) -> None:
        self._audit, self._board, self._description = audit, board, description

    def connected(self, name: str, address: str, version: str) -> None:
        self._audit.append("connected", hospital=name, address=address, version=version)
        self._board.connected(name, address, version)
        log.info("%s is connected", name)

    def disconnected(self, name: str, reason: str) -> None:
        self._audit.append("disconnected", hospital=name, reason=reason)
        self._board.disconnected(name, reason)
        log.info("%s is away: %s", name, reason)

    def refused(self, who: str, code: str, reason: str) -> None:
        self._audit.append("refused", who=who, code=code, reason=reason)
        if code == "revoked":
            self._board.revoked(who)
        self._board.refused(who, reason)
        log.warning("%s was refused: %s", who, reason)

    def admitted(self, name: str) -> None:
        self._audit.append("manifest", hospital=name, accepted=True)

    def not_admitted(self, name: str, reason: str) -> None:
        self._audit.append("manifest", hospital=name, accepted=False, reason=reason)
        self._board.not_admitted(name, reason)
        log.warning("%s doesn't take part: %s", name, reason)

    def sent(self, name: str, start: Start) -> None:
        self._audit.append(
            "sent",
            hospital=name,
            kind=start.type,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.id,
        )
        self._board.sent(name, start.type, start.size_bytes)

    def received(self, name: str, start: Start) -> None:
        self._audit.append(
            "received",
            hospital=name,
            kind=start.type,
            bytes=start.size_bytes,
            digest=start.digest,
            request=start.reply_to,
            error=start.reason or None,
        )
        self._board.received(name, start.type, start.size_bytes)

    def ask_for_heads(self, mailboxes: Iterable[Mailbox]) -> None:
        """Have every hospital countersign what is here, and send its own head."""
        own = Heads(head=self._audit.signed_head().to_bytes().decode())
        for mailbox in mailboxes:
            mailbox.put_control(own)

    def heads(self, name: str, heads: Heads, mailbox: Mailbox) -> None:
        public = self._description().hospitals.get(name, b"")
        try:
            if heads.countersigned:
                head = SignedHead.from_bytes(heads.countersigned.encode())
                signature = bytes.fromhex(heads.signature)
                self._audit.add_countersignature(head, name, public, signature)
            if heads.head:
                theirs = SignedHead.from_bytes(heads.head.encode())
                signature = self._audit.countersign(theirs, public)
                own = self._audit.signed_head().to_bytes().decode()
                mailbox.put_control(
                    Heads(head=own, countersigned=heads.head, signature=signature.hex())
                )
        except AuditError as error:
            log.warning("%s: %s", name, error)
