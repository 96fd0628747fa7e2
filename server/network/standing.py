"""The process of ``wardround server network.toml``: it leads, or waits until it can.

main thread: looks at the studies, again and again     lease thread: says that it lives
one thread for the rounds of each study that runs      the port's threads, one for each call

Who leads is said by a lease in the database, whose fence every write carries, and by a lock in the
server's folder. A server that couldn't say that it lives for a whole lease leads no longer, whether
or not another one has taken over.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import grpc

from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.durable.files import MAKE_ROOM, writing
from wardround.common.durable.lock import take_lock
from wardround.common.errors import (
    AuditError,
    DatabaseAway,
    Interrupted,
    Overtaken,
    TransportError,
    WardroundError,
)
from wardround.common.mapped import keep_in
from wardround.common.memory import one_arena
from wardround.common.trust.description import Description
from wardround.common.trust.lifetime import check_in_force
from wardround.common.trust.pki import now_utc
from wardround.server.display.board_rows import RunFacts
from wardround.server.display.studies import StudiesBoard
from wardround.server.network.deliverer import Deliverer
from wardround.server.network.shown import Shown
from wardround.server.network.studies import Studies
from wardround.server.network.study_run import Premises
from wardround.server.provision.kits import ServerFolder
from wardround.server.reception.port import Port, PortEvents
from wardround.server.studies.outbox import Outbox
from wardround.server.studies.service import StudiesService
from wardround.server.studies.store import StudyStore

log = logging.getLogger("wardround.server")

DATABASE = "studies.sqlite"
_LOOK_S = 0.5
_PATIENCE_S = 10.0
"""For the rounds of each study, where the process ends."""
_AGAIN = "`wardround server` goes on with all that it has"


@dataclass(frozen=True, kw_only=True)
class NetworkSetup:
    """What a network's server is given.

    config : with a ``[network]`` table
    board : of all its studies
    say : a line for people, said when it changes
    """

    config: Config
    folder: ServerFolder
    board: StudiesBoard
    say: Callable[[str], None]


class NetworkServer:
    """A server that stands until it is stopped.

    Raises WardroundError.
    """

    def __init__(self, setup: NetworkSetup) -> None:
        table = setup.config.network
        if table is None:
            raise setup.config.error("network", "the file has no such table")
        self._setup, self._table = setup, table
        self._owner = f"{socket.gethostname()[:100]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._said = ""

    def run(self) -> None:
        """Lead, or wait for that, for ever. Raises WardroundError; KeyboardInterrupt ends it."""
        one_arena()
        folder = self._setup.folder
        check_in_force(folder.description, now_utc())
        with writing(folder.folder, f"start again: {_AGAIN}"):
            store = self._open()
            try:
                while True:
                    self._lead(store, self._wait_to_lead(store))
            finally:
                store.close()

    def _open(self) -> StudyStore:
        """The database, once it answers."""
        database = self._table.database or self._setup.folder.folder / DATABASE
        while True:
            try:
                return StudyStore.open(database)
            except DatabaseAway as error:
                self._say(f"waiting for the database: {error}")
                time.sleep(1.0)

    def _wait_to_lead(self, store: StudyStore) -> int:
        """The fence to lead under."""
        shown = False
        while True:
            try:
                if (fence := store.lead(self._owner, self._table.lease_s)) is not None:
                    return fence
                if not shown:
                    Shown(store, self._setup.board).all()
                    shown = True
                self._say("standing by: another server leads this network")
            except DatabaseAway as error:
                self._say(f"waiting for the database: {error}")
            time.sleep(min(1.0, self._table.lease_s / 3))

    def _lead(self, store: StudyStore, fence: int) -> None:
        """Until the lease is lost. Whatever else ends it, the lease is let go."""
        folder = self._setup.folder
        lease = _Lease(store, self._owner, fence, self._table.lease_s)
        try:
            with ExitStack() as held:
                held.callback(lease.end)
                self._take_folder(held, lease)
                audit = AuditLog.open(folder.audit_path, "server", folder.identity)
                held.enter_context(audit)
                _Leading(self._setup, store, audit, lease, self._owner).serve()
        except (_LeaseLost, Overtaken):
            self._say("the lease of this network was lost; standing by")
        except DatabaseAway as error:
            self._say(f"waiting for the database: {error}")
        finally:
            with suppress(WardroundError):
                store.keep_lead(self._owner, fence, 0)

    def _take_folder(self, held: ExitStack, lease: _Lease) -> None:
        while True:
            try:
                held.enter_context(take_lock(self._setup.folder.folder / "lock"))
                return
            except TransportError as error:  # who led before hasn't ended yet
                self._say(str(error))
                lease.check()
                time.sleep(0.5)

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._setup.say(line)


class _LeaseLost(Exception):
    """The network's lease has passed on, or may have."""


class _Lease:
    """The network's lease, prolonged by a thread; with it those of studies that run here."""

    def __init__(self, store: StudyStore, owner: str, fence: int, lease_s: float) -> None:
        self.fence, self.lease_s = fence, lease_s
        self._store, self._owner = store, owner
        self._kept = time.monotonic()
        self._passed = False
        self._over = threading.Event()
        self.studies: Studies | None = None
        threading.Thread(target=self._keep, name="lease", daemon=True).start()

    def check(self) -> None:
        """Raise _LeaseLost where another server may lead by now."""
        if self._passed or time.monotonic() - self._kept > self.lease_s:
            raise _LeaseLost

    def end(self) -> None:
        """Prolong nothing any more."""
        self._over.set()

    def _keep(self) -> None:
        said = ""
        while not self._over.wait(self.lease_s / 4):
            before = time.monotonic()
            try:
                if not self._store.keep_lead(self._owner, self.fence, self.lease_s):
                    self._passed = True
                    return
                self._kept, said = before, ""
                if self.studies is not None:
                    self.studies.renew()
            except WardroundError as error:
                if str(error) != said:
                    said = str(error)
                    log.warning("the lease isn't prolonged: %s", error)


def _outbox(store: StudyStore, audit: AuditLog) -> Outbox:
    """The way to the audit log; a person is told where an empty database stands in for another."""
    outbox = Outbox(store, audit)
    if outbox.replaced:
        log.warning(
            "%s has no study, but the audit log tells of studies of another database: if that "
            "wasn't meant, stop the server and bring the other one back",
            store.name,
        )
    return outbox


class _Leading:
    """All objects of a server that leads."""

    def __init__(
        self,
        setup: NetworkSetup,
        store: StudyStore,
        audit: AuditLog,
        lease: _Lease,
        owner: str,
    ) -> None:
        config, folder = setup.config, setup.folder
        assert config.network is not None  # NetworkServer has looked
        self._setup, self._lease, self._audit = setup, lease, audit
        runs = config.runs_folder()
        spool = runs / "spool"
        spool.mkdir(parents=True, exist_ok=True)
        keep_in(spool)
        self._port = Port(config, folder, audit, spool, setup.board.network)
        self._premises = Premises(
            port=self._port,
            library=config.folder / config.network.library,
            runs=runs,
            identity=folder.identity,
            config=config,
        )
        self._studies = Studies(
            self._premises,
            store,
            _outbox(store, audit),
            setup.board,
            lead=lease.fence,
            owner=owner,
            at_once=config.network.at_once,
            lease_s=config.network.lease_s,
        )
        lease.studies = self._studies
        self._service = StudiesService(
            self._studies, self._port.description, most_open=config.network.most_open
        )
        self._deliverer = Deliverer(
            self._premises, store, lease.fence, config.server.max_message_mb << 20
        )
        self._broken: WardroundError | None = None
        self._port.events = PortEvents(
            on_open=self._connected,
            on_described=self._described,
            on_unwritable=self._unwritable,
        )
        self._describe(self._port.description.now)

    def serve(self) -> None:
        """Open the port and look after the studies, until the lease is lost or somebody stops it.

        Raises what ends it.
        """
        port = self._port.open(self._handlers())
        self._audit.append("started", network=self._setup.config.federation.name, pid=os.getpid())
        self._setup.say(f"leads the network; hospitals and researchers dial port {port}")
        why: WardroundError = Interrupted("the server stops; started again, it goes on")
        patience_s: float | None = _PATIENCE_S
        try:
            while True:
                self._lease.check()
                if self._broken is not None:
                    raise self._broken
                self._look()
                self._studies.wake.wait(_LOOK_S)
        except (_LeaseLost, Overtaken):
            patience_s = None
            raise
        except WardroundError as error:
            why = error
            raise
        finally:
            self._service.close()
            self._deliverer.stop()
            self._studies.stop(why, patience_s)
            with suppress(WardroundError):
                self._studies.tell()
            self._port.close()

    def _look(self) -> None:
        try:
            self._studies.look()
            self._deliverer.look()
        except DatabaseAway as error:
            self._setup.say(f"waiting for the database: {error}")
            self._studies.wake.clear()

    def _handlers(self) -> Sequence[grpc.GenericRpcHandler]:
        return [self._service]

    def _connected(self, name: str) -> None:
        self._deliverer.connected(name)
        self._studies.connected(name)

    def _described(self, description: Description, anew: bool) -> None:
        self._describe(description)
        self._studies.described(description, anew)

    def _describe(self, description: Description) -> None:
        called = self._setup.config.server.titles.items()
        self._setup.board.network.describe_run(
            RunFacts(
                run=self._setup.config.federation.name,
                hospitals=list(description.hospitals),
                titles={name: title for name, title in called if name != title},
            )
        )

    def _unwritable(self, error: WardroundError) -> None:
        if isinstance(error, AuditError) and error.mend in ("", MAKE_ROOM):
            error.mend = f"{MAKE_ROOM}: {_AGAIN}"
        self._broken = self._broken or error
        self._studies.wake.set()
