"""The hospital's process: everything that ``wardround client KIT --data SHARD`` runs.

    connection thread: frames in, bodies out        worker thread: one request after the other
    main thread: waits for signals

The kit's ``state/`` folder holds what must survive: lock, audit log, ledger, keys and counters,
kept answers, approvals, and the mark of the kill switch.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from wardround.client.process.studies import OWN, Studies
from wardround.client.process.study import House, StudyWork
from wardround.client.site.failures import Failures
from wardround.client.site.held_out import tell_held_out
from wardround.client.site.kit import Kit
from wardround.client.site.ledger import AUDIT, settle, witness_of
from wardround.client.site.policy import load_site
from wardround.client.site.stop import LOCK, is_stopped
from wardround.client.site.terms import Data, resolve_device
from wardround.client.training.devices import told
from wardround.client.transport.connection import Connection
from wardround.common.audit.lines import SignedHead
from wardround.common.audit.log import AuditLog
from wardround.common.durable.files import UNWRITABLE, unwritable
from wardround.common.durable.lock import take_lock
from wardround.common.durable.private import denied
from wardround.common.errors import AuditError, ProvisionError, TransportError
from wardround.common.flower.hosting import become_client
from wardround.common.mapped import keep_in
from wardround.common.transport.frames import Heads, Start
from wardround.common.transport.mailbox import Incoming
from wardround.common.trust.lifetime import warning
from wardround.common.trust.pki import now_utc
from wardround.common.versions import own_version

log = logging.getLogger("wardround.client")

_GOODBYE_S = 0.3
"""For the server to hear that this hospital leaves; `wardround client stop` kills after 0.6."""
_PARTIAL_S = 3600.0
"""A request of which nothing came for so long begins again."""


class HospitalProcess:
    """One hospital between its data and the server.

    Parameters
    ----------
    data : what it computes on: file or folder, as the task loads it; None for the task's own
        example data; of a network's studies, those that ``site.toml`` names no data for
    device : overrides the hospital's policy
    now : the time, UTC; this machine's clock
    """

    def __init__(
        self,
        kit: Kit,
        data: Path | Data | None,
        device: str | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.kit = kit
        data = data if isinstance(data, Data) else Data(data)
        self._over, self._server, self._warned = threading.Event(), "", ""
        self._now = now or (lambda: now_utc())
        self._running = False
        become_client()  # requests are Flower's messages here, too, wherever they are answered
        # lock, then the kill switch, then the audit log: nobody else writes here, and a hospital
        # that was stopped leaves no line
        with ExitStack() as opened:
            opened.enter_context(take_lock(kit.state / LOCK))
            if is_stopped(kit.state):
                raise TransportError(
                    f"{kit.folder}: this hospital was stopped with `wardround client stop`; allow "
                    f"it again with `wardround client stop {kit.folder} --undo`"
                )
            keep_in(kit.state)
            path = kit.state / AUDIT
            self.audit = opened.enter_context(AuditLog.open(path, kit.name, kit.identity))
            self.witness = witness_of(kit, self.audit, self._send_head)
            site = load_site(kit.site_path)
            settle(kit, site, self.witness)
            tell_held_out(site, kit.folder, self.audit)
            self._studies: Studies | None = None
            self.connection = Connection(lambda: self.kit, self)
            house = House(
                kit=lambda: self.kit,
                audit=self.audit,
                witness=self.witness,
                failures=Failures(kit.state),
                device=device,
                data=data,
                mailbox=self.connection.mailbox,
                now=self._now,
                on_accepted=self.connection.set_limit,
                on_round=lambda number: self._send_head(),
            )
            self._studies = Studies(house, site.studies_at_once, self._begin)
            self._studies.open_all()
            if data == Data():
                log.warning(
                    "trains on the task's public example data, on no patient of this hospital"
                )
            log.info("%s", told(resolve_device(device or site.device)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Release files and lock of a process that isn't run."""
        self.studies.close()
        self._opened.close()

    @property
    def studies(self) -> Studies:
        """All that this hospital takes part in."""
        assert self._studies is not None
        return self._studies

    @property
    def own(self) -> StudyWork:
        """A federation's own study. Raises KeyError in a network."""
        return self.studies.own

    def _begin(self, target: Callable[[], None]) -> None:
        """A study's thread, once this process runs."""
        if self._running:
            _start(target, "responder")

    def run(self) -> None:
        """Serve the federation until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._over.set())
        self.audit.append("started", version=own_version(), pid=os.getpid())
        self._running = True
        for work in self.studies.works.values():
            self._begin(work.responder.run)
        connection = _start(self.connection.run, "connection")
        state = self.kit.folder / "state"
        while not self._over.wait(0.5) and not is_stopped(state):
            self.studies.note_decisions()
            self._warn_of_end()
            self.connection.mailbox.expire(_PARTIAL_S)
        why = "kill switch" if is_stopped(state) else "signal"
        self.connection.stop(why)  # first: from here on no answer leaves, whatever is still at work
        for work in list(self.studies.works.values()):
            work.responder.stop()
        connection.join(_GOODBYE_S)
        self.audit.append("stopped", reason=why)
        log.info("stopped (%s)", why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # training may hold other threads for minutes; nothing of it may leave any more

    def _warn_of_end(self) -> None:
        """Once a day, where the signed description ends soon, or has ended."""
        line = warning(self.kit.description, self._now())
        if line != self._warned:
            self._warned = line
            if line:
                log.warning("%s", line)

    # --- events of the connection --------------------------------------------------------------
    def dialling(self) -> None:
        try:
            if data := self.kit.brought():
                self.described(data)
        except ProvisionError as error:  # what it holds may still serve
            log.warning("%s", error)

    def status(self, text: str, ok: bool) -> None:
        log.log(logging.INFO if ok else logging.WARNING, "%s", text)

    def most_bytes(self) -> int:
        own = self._studies.works.get(OWN) if self._studies is not None else None
        config = own.rules.terms.config if own is not None else self.kit.description.config()
        return config.server.max_message_mb << 20

    def connected(self, server: str) -> None:
        self.audit.append("connected", server=server, address=self.kit.description.address)
        if server != self._server:  # of the same one nothing is asked twice: it waits for answers
            self._server = server
            for work in list(self.studies.works.values()):
                work.responder.drop_all()
        self._send_head()

    def described(self, data: bytes) -> None:
        self.kit = self.kit.update_description(data)
        described = self.kit.description
        for work in list(self.studies.works.values()):
            work.rules.described(self.kit)
        hospitals = sorted(described.roster)
        until = described.valid_until
        self.audit.append(
            "description", version=described.version, hospitals=hospitals, valid_until=until
        )
        log.info(
            "the federation's description is now version %d, valid until %s",
            described.version,
            until,
        )

    def wanted(self, start: Start) -> str | None:
        return self.studies.wanted(start)

    def request(self, message: Incoming) -> None:
        self.studies.request(message)

    def delivered(self, start: Start) -> None:
        log.debug("%s has arrived", start.type)

    def undelivered(self, start: Start, reason: str) -> None:
        log.warning("the server refused an answer to %s: %s", start.type, reason)

    def dropped(self, request_id: str) -> None:
        for work in list(self.studies.works.values()):
            work.responder.drop(request_id)

    def heads(self, heads: Heads) -> None:
        server = self.kit.description.server
        try:
            if heads.countersigned:
                head = SignedHead.from_bytes(heads.countersigned.encode())
                signature = bytes.fromhex(heads.signature)
                if self.witness.remembers(head, signature, server):
                    self.audit.add_countersignature(head, "server", server, signature)
                    if heads.head:  # else it is what the server remembers, from before
                        self.witness.countersigned()
            if heads.head:
                theirs = SignedHead.from_bytes(heads.head.encode())
                signature = self.audit.countersign(theirs, server)
                own = "" if heads.countersigned else self._head()  # asked for first: ours, too
                answer = Heads(head=own, countersigned=heads.head, signature=signature.hex())
                self.connection.mailbox.put_control(answer)
        except AuditError as error:
            log.warning("%s", error)

    def _send_head(self) -> None:
        """Our audit head, for the server to countersign; it answers with its own."""
        self.connection.mailbox.put_control(Heads(head=self._head()))

    def _head(self) -> str:
        return self.audit.signed_head().to_bytes().decode()


def _start(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=_guarded, args=(target,), name=name, daemon=True)
    thread.start()
    return thread


def _guarded(target: Callable[[], None]) -> None:
    """A thread's work. What it can't go on from ends the process: whoever started it starts it
    again, and nothing was promised that isn't on disk."""
    try:
        target()
    except AuditError as error:  # what can't be written down isn't done
        print(f"wardround: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except PermissionError as error:
        print(f"wardround: {denied(error)}", file=sys.stderr, flush=True)
        os._exit(ProvisionError.exit_code)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            told = unwritable(error, go_on="start again")
            print(f"wardround: {told}", file=sys.stderr, flush=True)
            os._exit(told.exit_code)
        log.error("a thread failed with %s", type(error).__name__, exc_info=True)
        os._exit(1)
