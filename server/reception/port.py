"""What stands as long as a server does, whatever it runs: its port, who is connected, the signed
description, and a watch over them.

gRPC's threads: one stream for each hospital        watch thread: leases, a new description
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import grpc

from wardround.common.address import split_address
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.errors import AuditError, WardroundError
from wardround.common.transport import tls
from wardround.common.trust.description import Description
from wardround.common.trust.lifetime import warning
from wardround.common.trust.pki import now_utc
from wardround.server.display.board import Board
from wardround.server.provision.kits import ServerFolder
from wardround.server.reception.certificate import Certificate
from wardround.server.reception.diary import Diary
from wardround.server.reception.present_description import PresentDescription
from wardround.server.transport.hall import Hall
from wardround.server.transport.service import Door, Terms, open_port

log = logging.getLogger("wardround.server")

_WATCH_S = 0.5
_LAST_WORDS_S = 0.5
"""For the audit heads of the end to be countersigned."""


@dataclass(frozen=True, kw_only=True)
class PortEvents:
    """What a port tells; called in its own threads.

    on_open : a hospital has come in
    on_described : the signed description is another, or (``anew``) the same was signed for longer;
        whoever is told sends it on with ``Port.tell_description``
    on_unwritable : what happens can't be written down any more
    """

    on_open: Callable[[str], None]
    on_described: Callable[[Description, bool], None]
    on_unwritable: Callable[[WardroundError], None]


class Port:
    """The port of a server that has its folder and its audit log.

    Parameters
    ----------
    spool : folder for hospitals' answers
    board : is told of connections
    events : set later by whoever makes the port, before it opens
    """

    def __init__(
        self, config: Config, folder: ServerFolder, audit: AuditLog, spool: Path, board: Board
    ) -> None:
        self._config, self._folder, self._board = config, folder, board
        self.audit, self.events = audit, _nobody()
        self.description = PresentDescription(folder)
        self.diary = Diary(
            audit, board, self.description.roster, lambda error: self.events.on_unwritable(error)
        )
        table = config.server
        most_bytes = table.max_message_mb << 20
        self.hall = Hall(table.lease_s, most_bytes, spool, self.diary, table.max_spool_mb << 20)
        self.door = Door(
            self.hall,
            Terms(
                instance=secrets.token_hex(16),
                heartbeat_s=table.heartbeat_s,
                most_bytes=most_bytes,
            ),
            description=self.description,
            events=self.diary,
            on_open=lambda name: self.events.on_open(name),
        )
        self._over, self._warned = threading.Event(), ""

    def open(self, more: Sequence[grpc.GenericRpcHandler] = ()) -> int:
        """Listen, and watch; gives the port's number. ``more``: handlers beside the hospitals'.

        Raises TransportError if the address can't be had.
        """
        table, own = self._config.server, Certificate(self._folder)
        credentials = tls.server_credentials(own.files, own.renewed)
        listen = table.listen or f"[::]:{split_address(table.address)[1]}"
        self._server, self._health, number = open_port(
            self.door, listen, credentials, table.max_connections, more
        )
        threading.Thread(target=self._watch, daemon=True).start()
        return number

    def close(self, ended: Callable[[], object] = lambda: None) -> None:
        """Say goodbye to all who are connected, and end. ``ended``: a last line for the audit log
        that hospitals still countersign; may raise AuditError."""
        self._over.set()
        with suppress(AuditError):  # why it ends is told by what is raised
            ended()
            self.diary.ask_for_heads([line.mailbox for line in self.hall.lines.values()])
            time.sleep(_LAST_WORDS_S)
        self.door.goodbye("the server stops")
        self._health.enter_graceful_shutdown()
        with suppress(AuditError):
            self.audit.append("stopped")
        self._server.stop(1.0).wait()
        self.diary.end()

    def tell_description(self) -> None:
        """Send the present description to all who are connected."""
        self.door.check_all(new_description=True)

    # --- the watch thread -------------------------------------------------------------------------
    def _watch(self) -> None:
        said = ""
        while not self._over.wait(_WATCH_S):
            try:
                self._look()
            except (OSError, WardroundError) as error:
                if str(error) != said:
                    said = str(error)
                    log.error("the watch: %s", error)

    def _look(self) -> None:
        before = self.description.now
        if self.description.look_again():
            one = self.description.now
            log.info(
                "the description is now version %d, valid until %s", one.version, one.valid_until
            )
            self.events.on_described(one, before.digest() == one.digest())
        self._warn_of_end()
        self.door.check_all(new_description=False)
        self.hall.give_up_silent()
        self.hall.sweep()
        for name, line in list(self.hall.lines.items()):
            if line.connected and line.silent_s() < 2 * _WATCH_S:
                self._board.seen(name)

    def _warn_of_end(self) -> None:
        """Once a day, on console and dashboard, where the signed description ends soon, or has; and
        that it doesn't any more, as what was said stays on the dashboard."""
        one = self.description.now
        line = warning(one, now_utc())
        if line != self._warned:
            self._warned = line
            renewed = f"the federation's signed description was renewed, until {one.valid_until}"
            self._board.warnings([line or renewed])


def _nobody() -> PortEvents:
    return PortEvents(
        on_open=lambda name: None,
        on_described=lambda description, anew: None,
        on_unwritable=lambda error: None,
    )
