"""A federation's server while its one study runs: where its objects are made, and how it ends.

main thread: the federation's rounds          the port's own threads: ``port.py``
one thread for each hospital that is admitted
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.durable.files import MAKE_ROOM
from wardround.common.errors import WardroundError
from wardround.common.manifest.planned import planned_rounds
from wardround.common.mapped import keep_in
from wardround.common.run.directory import RunDirectory
from wardround.common.run.shaping import differences
from wardround.common.secagg.content import shared_settings
from wardround.common.tasks.base import Task
from wardround.common.trust.description import Description
from wardround.server.app import run_study
from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.server.gathering.host import Host
from wardround.server.observer import Observer
from wardround.server.process.present_run import ANEW, COMMAND
from wardround.server.provision.kits import ServerFolder
from wardround.server.reception.admission import Admission
from wardround.server.reception.attendance import Attendance
from wardround.server.reception.manifest import ManifestSigner
from wardround.server.reception.port import Port, PortEvents
from wardround.server.results.finish import finish_run
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.stepping import Answered
from wardround.server.tracking import tracked
from wardround.server.transport.grid import HospitalGrid

log = logging.getLogger("wardround.server")


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
        spool = run.path / "spool"
        spool.mkdir(exist_ok=True)
        keep_in(spool)
        self._port = Port(config, folder, audit, spool, board)
        self._description = self._port.description
        self._grid = HospitalGrid(run.path.name, self._port.hall)
        signer = ManifestSigner(
            config=config, task=setup.task, run_name=run.path.name, identity=folder.identity
        )
        self._admission = Admission(
            self._grid, signer, self._description, self._port.diary, self._run.keep_plan
        )
        self._port.events = PortEvents(
            on_open=self._admission.connected,
            on_described=self._described,
            on_unwritable=self._unwritable,
        )
        self._attendance = Attendance(config, self._grid, self._description.roster, setup.say)

    def serve(self) -> FederationOutcome | Answered:
        """Open the port, run the rounds, and say goodbye, whatever ends them.

        Raises WardroundError.
        """
        name = self._run.path.name
        self._audit.append("started", run=name, pid=os.getpid(), port=self._port.open())
        try:
            return self._rounds()
        finally:
            self._port.close(lambda: self._audit.append("run ended", run=name))

    # --- the main thread ------------------------------------------------------------------------
    def _rounds(self) -> FederationOutcome | Answered:
        self._describe_run()
        self._attendance.wait(everyone=True)
        with tracked(self._config, self._run, self._board) as observer:
            return self._run_to_end(observer)

    def _run_to_end(self, observer: Observer) -> FederationOutcome | Answered:
        run, board = self._run, self._board
        parts = FederationParts(
            config=self._config,
            task=self._setup.task,
            run_directory=run,
            observer=observer,
            roster=self._description.roster,
            host=self._host(),
            identity=self._setup.folder.identity,
        )
        try:
            outcome = run_study(parts, self._grid)
            if isinstance(outcome, FederationOutcome):
                digest = finish_run(parts, outcome.round)
                self._audit.append("model", run=run.path.name, round=outcome.round, digest=digest)
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
                rounds=planned_rounds(self._config),
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
        if error.mend in ("", MAKE_ROOM):
            error.mend = f"{MAKE_ROOM}: {COMMAND}"
        self._grid.fail(error)

    # --- the port's threads ---------------------------------------------------------------------
    def _described(self, description: Description, anew: bool) -> None:
        """The signed description is another, or it was signed ``anew``, for longer: then plans and
        members are what they were, and nothing is asked of those that take part."""
        if anew:
            self._port.tell_description()
            return self._admission.ask_again()
        self._tell_other_settings()
        with self._admission.renewing():
            self._port.tell_description()

    def _tell_other_settings(self) -> None:
        """Its members are taken up at once; its settings wait for another run."""
        settings = (self._config, self._description.now.config())
        if others := differences(*(shared_settings(one) for one in settings)):
            self._setup.say(
                f"the signed description has other settings than this run: {others}; hospitals "
                "refuse the run until they are restored (wardround provision), or another is begun "
                "with --new"
            )
