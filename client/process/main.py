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

from wardround.client.data.plan import Plan
from wardround.client.data.watch import DataWatch
from wardround.client.privacy.round import announced_sizes
from wardround.client.process.answers import Answers
from wardround.client.process.responder import Kept, Responder
from wardround.client.process.store import DurableState
from wardround.client.process.workplace import Workplace
from wardround.client.site.kit import Kit
from wardround.client.site.last_word import LastWord
from wardround.client.site.ledger import AUDIT, settle, witness_of
from wardround.client.site.outward import Outward
from wardround.client.site.stop import LOCK, is_stopped
from wardround.client.site.terms import Terms
from wardround.client.state import ClientState
from wardround.client.training.devices import told
from wardround.client.transport.connection import Connection
from wardround.common.audit.lines import SignedHead
from wardround.common.audit.log import AuditLog
from wardround.common.durable.lock import take_lock
from wardround.common.durable.private import denied
from wardround.common.errors import AuditError, ProvisionError, TransportError, WardroundError
from wardround.common.flower.hosting import CLIENT_NODE_ID, Context, become_client
from wardround.common.manifest.manifest import Manifest
from wardround.common.text import one_line
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
    shard : the data, as the task loads it; None for the task's own example data
    device : overrides the hospital's policy
    """

    def __init__(self, kit: Kit, shard: Path | None, device: str | None = None) -> None:
        self.kit, self._shard = kit, shard
        self._over, self._said, self._server = threading.Event(), "", ""
        self._warned = ""
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
            self.rules = LastWord(kit, self.audit, device, self._units, self._begin, self._accepted)
            self.witness = witness_of(kit, self.audit, self._send_head)
            settle(kit, self.rules.terms.site, self.witness)
            outward = Outward(shard, [kit.folder, Path.cwd()])
            self.work = Workplace(
                shard, self.rules.terms, self.witness, outward, self.rules.note_failure
            )
            self.data = DataWatch(
                shard, lambda: self.work.hospital, self.audit, kit.state / "data.json"
            )
            if shard is None:
                log.warning(
                    "trains on the task's public example data, on no patient of this hospital"
                )
            log.info("%s", told(self.work.hospital.config.training.device))
            self._state = DurableState(kit.state / "store")
            self.connection = Connection(lambda: self.kit, self)
            self.responder = Responder(
                lambda message: self.work.app(message, self._context()),
                Kept(self._state, Answers(kit.state / "answers")),
                self.audit,
                self.rules,
                mailbox=self.connection.mailbox,
                on_round=self._on_round,
                outward=outward,
            )
            become_client()
            self._opened = opened.pop_all()

    def _begin(self, run: str, terms: Terms) -> None:
        """Before a plan is looked at, in the responder's thread: what was edited or provisioned
        holds from now on. Raises WardroundError if it can't."""
        if others := self.work.take_up(terms):
            self.audit.append("settings", run=run, differ=one_line(others, 1000))
            log.info("the settings are others now: %s", others)
            settle(self.kit, terms.site, self.witness)  # they may name another ledger
        self.data.begin(run)

    def _accepted(self, manifest: Manifest) -> None:
        self.work.hospital.plan = Plan.accepted(manifest)
        ClientState(self._state.records).begin_run(manifest.run)
        self._state.save()
        self.connection.set_limit()

    def close(self) -> None:
        """Release files and lock of a process that isn't run."""
        self.work.close()
        self._opened.close()

    def run(self) -> None:
        """Serve the federation until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._over.set())
        self.audit.append("started", version=own_version(), pid=os.getpid())
        threads = [
            threading.Thread(target=_guarded, args=(target,), name=name, daemon=True)
            for name, target in (
                ("connection", self.connection.run),
                ("responder", self.responder.run),
            )
        ]
        for thread in threads:
            thread.start()
        state = self.kit.folder / "state"
        while not self._over.wait(0.5) and not is_stopped(state):
            self._note_decisions()
            self._warn_of_end()
            self.connection.mailbox.expire(_PARTIAL_S)
        why = "kill switch" if is_stopped(state) else "signal"
        self.connection.stop(why)  # first: from here on no answer leaves, whatever is still at work
        self.responder.stop()
        threads[0].join(_GOODBYE_S)
        self.audit.append("stopped", reason=why)
        log.info("stopped (%s)", why)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # training may hold other threads for minutes; nothing of it may leave any more

    def _note_decisions(self) -> None:
        """Twice a second: a person decides in another process, and a withdrawal breaks off even an
        answer that is on its way."""
        try:
            if withdrawn := self.rules.note_decisions():
                self.responder.withdraw(withdrawn)
        except AuditError:
            raise  # what can't be written down isn't done: the process ends
        except WardroundError as error:  # nothing leaves meanwhile: the responder looks, too
            if str(error) != self._said:
                self._said = str(error)
                log.warning("%s", error)

    def _warn_of_end(self) -> None:
        """Once a day, where the signed description ends soon, or has ended."""
        line = warning(self.kit.description, now_utc())
        if line != self._warned:
            self._warned = line
            if line:
                log.warning("%s", line)

    def _context(self) -> Context:
        return Context(
            run_id=1,
            node_id=CLIENT_NODE_ID,
            node_config={"hospital": self.kit.name},
            state=self._state.records,
            run_config={},
        )

    def _units(self) -> int | None:
        """How many protected units this hospital says that it trains on: what a plan may cost, and
        so whether it is refused, is told."""
        hospital = self.work.hospital
        return announced_sizes(hospital)["train"] if hospital.config.privacy.enabled else None

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
        return self.rules.terms.config.server.max_message_mb << 20

    def connected(self, server: str) -> None:
        self.audit.append("connected", server=server, address=self.kit.description.address)
        if server != self._server:  # of the same one nothing is asked twice: it waits for answers
            self._server = server
            self.responder.drop_all()
        self._send_head()

    def described(self, data: bytes) -> None:
        self.kit = self.kit.update_description(data)
        described = self.kit.description
        self.rules.described(self.kit)
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
        return self.responder.wanted(start)

    def request(self, message: Incoming) -> None:
        self.responder.request(message)

    def delivered(self, start: Start) -> None:
        log.debug("%s has arrived", start.type)

    def undelivered(self, start: Start, reason: str) -> None:
        log.warning("the server refused an answer to %s: %s", start.type, reason)

    def dropped(self, request_id: str) -> None:
        self.responder.drop(request_id)

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
