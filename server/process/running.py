"""A server while it runs: where every object of the coordinator's process is made, and how it ends.

main thread: the federation's rounds          gRPC's threads: one stream for each hospital
watch thread: leases, a new description       one thread for each hospital that is admitted
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1.health import HealthServicer

from wardround.common.address import split_address
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.errors import AuditError, WardroundError
from wardround.common.run.directory import RunDirectory
from wardround.common.run.shaping import differences
from wardround.common.secagg.content import shared_settings
from wardround.common.tasks.base import Task
from wardround.common.transport import tls
from wardround.common.trust.lifetime import warning
from wardround.common.trust.pki import now_utc
from wardround.server.app import run_federation
from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.server.gathering.host import Host
from wardround.server.process.admission import Admission
from wardround.server.process.attendance import Attendance
from wardround.server.process.certificate import Certificate
from wardround.server.process.diary import Diary
from wardround.server.process.manifest import ManifestSigner
from wardround.server.process.present_description import PresentDescription
from wardround.server.process.present_run import ANEW, COMMAND
from wardround.server.provision.kits import ServerFolder
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.service import Door, Terms, open_port

log = logging.getLogger("wardround.server")

_WATCH_S = 0.5
_LAST_WORDS_S = 0.5
"""For the audit heads of the end to be countersigned."""


@dataclass(frozen=True, kw_only=True)
class ServerSetup:
    """What a coordinator's process is given.

    say : a line for people, said when it changes
    """

    config: Config
    task: Task[Any]
    folder: ServerFolder
    board: Board
    say: Callable[[str], None]


class RunningServer:
    """All objects of a server that has its folder, its audit log and a run to go on with."""

    def __init__(self, setup: ServerSetup, run: RunDirectory, audit: AuditLog) -> None:
        config, folder, board = setup.config, setup.folder, setup.board
        self._setup, self._config, self._board = setup, config, board
        self._run, self._audit = run, audit
        self._description = PresentDescription(folder)
        self._diary = Diary(audit, board, self._description.roster, self._unwritable)
        spool = run.path / "spool"
        spool.mkdir(exist_ok=True)
        most_bytes = config.server.max_message_mb << 20
        self._grid = HospitalGrid(
            run.path.name,
            config.server.lease_s,
            most_bytes,
            spool,
            self._diary,
            config.server.max_spool_mb << 20,
        )
        signer = ManifestSigner(
            config=config, task=setup.task, run_name=run.path.name, identity=folder.identity
        )
        self._admission = Admission(
            self._grid, signer, self._description, self._diary, self._run.keep_plan
        )
        self._door = Door(
            self._grid,
            Terms(
                instance=secrets.token_hex(16),
                heartbeat_s=config.server.heartbeat_s,
                most_bytes=most_bytes,
            ),
            description=self._description,
            events=self._diary,
            on_open=self._admission.begin,
        )
        self._attendance = Attendance(config, self._grid, self._description.roster, setup.say)
        self._over, self._warned = threading.Event(), ""

    def serve(self) -> FederationOutcome:
        """Open the port, run the rounds, and say goodbye, whatever ends them.

        Raises WardroundError.
        """
        server, health, port = self._open_port()
        self._audit.append("started", run=self._run.path.name, pid=os.getpid(), port=port)
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            return self._rounds()
        finally:
            self._over.set()
            with suppress(AuditError):  # why it ends is told by what is raised
                self._audit.append("run ended", run=self._run.path.name)
                self._diary.ask_for_heads([link.mailbox for link in self._grid.links.values()])
                time.sleep(_LAST_WORDS_S)
            self._door.goodbye("the server stops")
            health.enter_graceful_shutdown()
            with suppress(AuditError):
                self._audit.append("stopped", run=self._run.path.name)
            server.stop(1.0).wait()
            self._diary.end()

    def _open_port(self) -> tuple[grpc.Server, HealthServicer, int]:
        table, own = self._config.server, Certificate(self._setup.folder)
        credentials = tls.server_credentials(own.files, own.renewed)
        listen = table.listen or f"[::]:{split_address(table.address)[1]}"
        return open_port(self._door, listen, credentials, table.max_connections)

    # --- the main thread ------------------------------------------------------------------------
    def _rounds(self) -> FederationOutcome:
        run, board = self._run, self._board
        self._describe_run()
        self._attendance.wait(everyone=True)
        parts = FederationParts(
            config=self._config,
            task=self._setup.task,
            run_directory=run,
            observer=board,
            roster=self._description.roster,
            host=self._host(),
        )
        try:
            outcome = run_federation(parts, self._grid)
        except (WardroundError, KeyboardInterrupt) as error:
            with suppress(OSError):  # must not hide why it ends
                run.update(
                    status=f"stopped: {error or 'interrupted'}", away=self._attendance.away()
                )
            board.run_ended(f"stopped: {error or 'interrupted'}")
            raise
        run.update(away=self._attendance.away())
        board.run_ended("complete")
        return outcome

    def _host(self) -> Host:
        return Host(
            on_model=self._admission.model_known,
            wait_ready=self._attendance.wait,
            standing=lambda: self._description.now.version,
            departures=self._grid.departures,
            gone=self._grid.gone,
            on_members=self._attendance.note_members,
            go_on=COMMAND,
            anew=ANEW,
        )

    def _describe_run(self) -> None:
        called = self._config.server.titles.items()
        titles = {name: title for name, title in called if name != title}
        self._board.describe_run(
            RunFacts(
                run=self._run.path.name,
                rounds=self._config.federation.rounds,
                hospitals=self._description.now.hospitals,
                hidden=self._config.secure_aggregation.enabled,
                primary=self._setup.task.primary_metric,
                titles=titles,
            )
        )
        self._run.update(titles=titles)
        self._board.restore(self._run.rounds())

    def _unwritable(self, error: WardroundError) -> None:
        """What happens can't be written down any more: the rounds end, in their own thread."""
        error.mend = error.mend or f"make room or mend its rights, then start again: {COMMAND}"
        self._grid.fail(error)

    # --- the watch thread -----------------------------------------------------------------------
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
        before = self._description.now
        if self._description.look_again():
            self._described(before.digest() == self._description.now.digest())
        self._warn_of_end()
        self._door.check_all(new_description=False)
        self._grid.give_up_silent()
        self._grid.sweep()
        for name, link in list(self._grid.links.items()):
            if link.connected and link.silent_s() < 2 * _WATCH_S:
                self._board.seen(name)

    def _described(self, anew: bool) -> None:
        """The signed description is another, or it was signed ``anew``, for longer: then plans and
        members are what they were, and nothing is asked of those that take part."""
        one = self._description.now
        log.info("the description is now version %d, valid until %s", one.version, one.valid_until)
        if anew:
            self._door.check_all(new_description=True)
            return self._admission.ask_again()
        self._tell_other_settings()
        self._admission.renew(lambda: self._door.check_all(new_description=True))

    def _warn_of_end(self) -> None:
        """Once a day, on console and dashboard, where the signed description ends soon, or has; and
        that it doesn't any more, as what was said stays on the dashboard."""
        one = self._description.now
        line = warning(one, now_utc())
        if line != self._warned:
            self._warned = line
            renewed = f"the federation's signed description was renewed, until {one.valid_until}"
            self._board.warnings([line or renewed])

    def _tell_other_settings(self) -> None:
        """Its members are taken up at once; its settings wait for another run."""
        settings = (self._config, self._description.now.config())
        if others := differences(*(shared_settings(one) for one in settings)):
            self._setup.say(
                f"the signed description has other settings than this run: {others}; hospitals "
                "refuse the run until they are restored (wardround provision), or another is begun "
                "with --new"
            )
