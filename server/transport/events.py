"""What happens on the server's connections, for its audit log, its board and its logs."""

from __future__ import annotations

from wardround.common.transport.frames import Heads, Start
from wardround.common.transport.mailbox import Mailbox


class ServerEvents:
    """Does nothing; the coordinator's overrides write it down. Called from several threads.

    What can't be written down raises AuditError, and isn't done: the connection ends by it.
    """

    def connected(self, name: str, address: str, version: str) -> None:
        """A hospital's connection was accepted."""

    def disconnected(self, name: str, reason: str) -> None:
        """A hospital's connection is over."""

    def refused(self, who: str, code: str, reason: str) -> None:
        """A connection was refused; ``who``: the certificate's name, or an address."""

    def admitted(self, name: str) -> None:
        """A hospital's policy allows the run."""

    def not_admitted(self, name: str, reason: str, withdrew: bool) -> None:
        """It doesn't, or not yet; ``withdrew``: it took part, and a person there rejected the run
        since."""

    def sent(self, name: str, start: Start) -> None:
        """A request has arrived at the hospital."""

    def received(self, name: str, start: Start) -> None:
        """A reply (or an error) has come as a whole."""

    def heads(self, name: str, heads: Heads, mailbox: Mailbox) -> None:
        """A hospital's signed audit head has come."""

    def unwritable(self, error: OSError) -> None:
        """A hospital's message couldn't be taken in, for the server's disk doesn't take it."""
