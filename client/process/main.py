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
from pathlib import Path

from wardround.client.process.place import OwnPlace
from wardround.client.process.study import House, StudyWork
from wardround.client.site.kit import Kit
from wardround.client.site.ledger import AUDIT, witness_of
from wardround.client.site.outward import Outward
from wardround.client.site.stop import LOCK, is_stopped
from wardround.client.training.devices import told
from wardround.client.transport.connection import Connection
from wardround.common.audit.lines import SignedHead
from wardround.common.audit.log import AuditLog
from wardround.common.durable.lock import take_lock
from wardround.common.durable.private import denied
from wardround.common.errors import AuditError, ProvisionError, TransportError, WardroundError
from wardround.common.transport.frames import Heads, Start
from wardround.common.transport.mailbox import Incoming
from wardround.common.trust.lifetime import warning
from wardround.common.trust.pki import now_utc
from wardround.common.versions import own_version

log = logging.getLogger("wardround.client")

OWN = ""
"""The federation's own study, in a federation that has one."""
_GOODBYE_S = 0.3
"""For the server to hear that this hospital leaves; `wardround client stop` kills after 0.6."""
_PARTIAL_S = 3600.0
"""A request of which nothing came for so long begins again."""


class HospitalProcess:
    """One hospital between its data and the server.

    Parameters
    ----------
    shard : the data, as the task loads it; None for the task's own example data
    device : overrides the hospital's policy
    """

    def __init__(self, kit: Kit, shard: Path | None, device: str | None = None) -> None:
        self.kit = kit
        self._over, self._server, self._warned = threading.Event(), "", ""
        self._said: dict[str, str] = {}
        # lock, then the kill switch, then the audit log: nobody else writes here, and a hospital
        # that was stopped leaves no line
        with ExitStack() as opened:
            opened.enter_context(take_lock(kit.state / LOCK))
            if is_stopped(kit.state):
                raise TransportError(
                    f"{kit.folder}: this hospital was stopped with `wardround client stop`; allow "
                    f"it again with `wardround client stop {kit.folder} --undo`"
                )
            path = kit.state / AUDIT
            self.audit = opened.enter_context(AuditLog.open(path, kit.name, kit.identity))
            self.witness = witness_of(kit, self.audit, self._send_head)
            self.works: dict[str, StudyWork] = {}
            self.connection = Connection(lambda: self.kit, self)
            house = House(
                kit=lambda: self.kit,
                audit=self.audit,
                witness=self.witness,
                device=device,
                mailbox=self.connection.mailbox,
                on_accepted=self.connection.set_limit,
                on_round=self._on_round,
            )
            self.works[OWN] = self.own = StudyWork(
                house,
                kit.state,
                Outward(shard, [kit.folder, Path.cwd()]),
                lambda terms, around: OwnPlace(shard, terms, kit.state, around),
            )
            if shard is None:
                log.warning(
                    "trains on the task's public example data, on no patient of this hospital"
                )
            log.info("%s", told(self.own.rules.terms.config.training.device))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Release files and lock of a process that isn't run."""
        for work in self.works.values():
            work.close()
        self._opened.close()

    def run(self) -> None:
        """Serve the federation until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._over.set())
        self.audit.append("started", version=own_version(), pid=os.getpid())
        connection = _start(self.connection.run, "connection")
        for work in self.works.values():
            _start(work.responder.run, "responder")
        state = self.kit.folder / "state"
        while not self._over.wait(0.5) and not is_stopped(state):
            self._note_decisions()
            self._warn_of_end()
            self.connection.mailbox.expire(_PARTIAL_S)
        why = "kill switch" if is_stopped(state) else "signal"
        self.connection.stop(why)  # first: from here on no answer leaves, whatever is still at work
        for work in self.works.values():
            work.responder.stop()
        connection.join(_GOODBYE_S)
        self.audit.append("stopped", reason=why)
        log.info("stopped (%s)", why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # training may hold other threads for minutes; nothing of it may leave any more

    def _note_decisions(self) -> None:
        """Twice a second: a person decides in another process."""
        for study, work in self.works.items():
            try:
                work.note_decisions()
            except AuditError:
                raise  # what can't be written down isn't done: the process ends
            except WardroundError as error:  # nothing leaves meanwhile: the responder looks, too
                if str(error) != self._said.get(study):
                    self._said[study] = str(error)
                    log.warning("%s", error)

    def _warn_of_end(self) -> None:
        """Once a day, where the signed description ends soon, or has ended."""
        line = warning(self.kit.description, now_utc())
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
        if not self.works:
            return self.kit.description.config().server.max_message_mb << 20
        tables = [work.rules.terms.config.server for work in self.works.values()]
        return max(one.max_message_mb for one in tables) << 20

    def connected(self, server: str) -> None:
        self.audit.append("connected", server=server, address=self.kit.description.address)
        if server != self._server:  # of the same one nothing is asked twice: it waits for answers
            self._server = server
            for work in self.works.values():
                work.responder.drop_all()
        self._send_head()

    def described(self, data: bytes) -> None:
        self.kit = self.kit.update_description(data)
        described = self.kit.description
        for work in self.works.values():
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
        return self.own.responder.wanted(start)

    def request(self, message: Incoming) -> None:
        self.own.responder.request(message)

    def delivered(self, start: Start) -> None:
        log.debug("%s has arrived", start.type)

    def undelivered(self, start: Start, reason: str) -> None:
        log.warning("the server refused an answer to %s: %s", start.type, reason)

    def dropped(self, request_id: str) -> None:
        for work in self.works.values():
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

    def _on_round(self, server_round: int) -> None:
        log.info("round %d", server_round)
        self._send_head()

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
        log.error("a thread failed with %s", type(error).__name__, exc_info=True)
        os._exit(1)
