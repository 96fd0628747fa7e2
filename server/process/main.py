"""The coordinator's process: everything that ``wardround server federation.toml`` runs.

    main thread: the federation's rounds          gRPC's threads: one stream for each hospital
    watch thread: leases, a new description       one thread for each hospital that is admitted

Killed at any moment and started again it goes on after the last committed round of its run. The
server folder holds its keys, the signed description, the audit log, a lock, and which run is the
present one.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1.health import HealthServicer

from wardround.common.address import split_address
from wardround.common.audit.log import AuditLog
from wardround.common.config.load import Config
from wardround.common.durable.files import writing
from wardround.common.durable.lock import take_lock
from wardround.common.errors import AuditError, WardroundError
from wardround.common.memory import one_arena
from wardround.common.run.directory import RunDirectory
from wardround.common.run.shaping import differences
from wardround.common.secagg.content import shared_settings
from wardround.common.tasks.base import Task
from wardround.common.transport import tls
from wardround.common.trust.description import Description
from wardround.server.app import run_federation
from wardround.server.display.board import Board
from wardround.server.gathering.host import Host
from wardround.server.members.member import Member
from wardround.server.process.admission import Admission
from wardround.server.process.certificate import Certificate
from wardround.server.process.diary import Diary
from wardround.server.process.present_run import COMMAND, present_run
from wardround.server.provision.kits import ServerFolder
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.service import Door, open_port

log = logging.getLogger("wardround.server")

_WATCH_S = 0.5
_LAST_WORDS_S = 0.5
"""For the audit heads of the end to be countersigned."""


@dataclass
class Coordinator:
    """One run of a federation over the network.

    Parameters
    ----------
    say : a line for people, said when it changes
    """

    config: Config
    task: Task[Any]
    folder: ServerFolder
    board: Board
    say: Callable[[str], None]
    run_path: Path | None = None
    _idle: dict[str, str] = field(default_factory=dict)
    """Processes of hospitals that have nothing to train on."""

    def run(self, new: bool = False) -> FederationOutcome | None:
        """Wait for the hospitals, and run (or go on with) the rounds; None if the present run is
        complete. Raises WardroundError.

        new : begin another run, whatever has become of the last one
        """
        one_arena()
        folder = self.folder
        self._description = folder.description
        if not self._description.hospitals:
            raise self.config.error("server.hospitals", "no hospital is provisioned yet")
        with ExitStack() as held:
            held.enter_context(writing(folder.folder, f"start again: {COMMAND}"))
            held.enter_context(take_lock(folder.folder / "lock"))
            path, identity = folder.audit_path, folder.identity
            audit = AuditLog.open(path, "server", identity, listener=self.board.audit)
            held.enter_context(audit)
            run = present_run(self.config, folder.folder, new, self.say)
            if run is None:
                return None
            self.run_path = run.path
            return self._serve(run, audit)

    def _serve(self, run: RunDirectory, audit: AuditLog) -> FederationOutcome:
        self._diary = Diary(audit, self.board, lambda: self._description, self._unwritable)
        grid, admission = self._make_grid(run)
        server, health, port = self._open_port(grid, admission)
        audit.append("started", run=run.path.name, pid=os.getpid(), port=port)
        over = threading.Event()
        threading.Thread(target=self._watch, args=(grid, over), daemon=True).start()
        try:
            return self._rounds(grid, run, admission)
        finally:
            over.set()
            with suppress(AuditError):  # why it ends is told by what is raised
                audit.append("run ended", run=run.path.name)
                self._diary.ask_for_heads([link.mailbox for link in grid.links.values()])
                time.sleep(_LAST_WORDS_S)
            self._door.goodbye("the server stops")
            health.enter_graceful_shutdown()
            with suppress(AuditError):
                audit.append("stopped", run=run.path.name)
            server.stop(1.0).wait()
            self._diary.end()

    def _make_grid(self, run: RunDirectory) -> tuple[HospitalGrid, Admission]:
        table, spool = self.config.server, run.path / "spool"
        spool.mkdir(exist_ok=True)
        most_bytes = table.max_message_mb << 20
        grid = HospitalGrid(run.path.name, table.lease_s, most_bytes, spool, self._diary)
        self._grid = grid
        self._admission = Admission(
            grid,
            self._diary,
            self.config,
            self.task,
            run.path.name,
            lambda: self._description,
            self.folder.identity,
        )
        return grid, self._admission

    def _open_port(
        self, grid: HospitalGrid, admission: Admission
    ) -> tuple[grpc.Server, HealthServicer, int]:
        table, folder = self.config.server, self.folder
        self._door = Door(
            grid,
            lambda: self._description,
            lambda: folder.description_path.read_text("utf-8"),
            secrets.token_hex(16),
            table.heartbeat_s,
            table.max_message_mb << 20,
            self._diary,
            admission.begin,
        )
        own = Certificate(folder)
        credentials = tls.server_credentials(own.files, own.renewed)
        return open_port(self._door, self._listen(), credentials, table.max_connections)

    def _listen(self) -> str:
        table = self.config.server
        return table.listen or f"[::]:{split_address(table.address)[1]}"

    # --- while it runs -------------------------------------------------------------------------
    def _rounds(
        self, grid: HospitalGrid, run: RunDirectory, admission: Admission
    ) -> FederationOutcome:
        called = self.config.server.titles.items()
        titles = {name: title for name, title in called if name != title}
        self.board.describe_run(
            run=run.path.name,
            rounds=self.config.federation.rounds,
            hospitals=self._description.hospitals,
            hidden=self.config.secure_aggregation.enabled,
            primary=self.task.primary_metric,
            titles=titles,
        )
        run.update(titles=titles)
        self.board.restore(run.rounds())
        patience_s = self.config.server.wait_s
        self._wait_for_hospitals(grid, patience_s)
        parts = FederationParts(
            config=self.config,
            task=self.task,
            run_directory=run,
            observer=self.board,
            roster=_LiveRoster(lambda: self._description.hospitals),
            host=Host(
                on_model=admission.model_known,
                wait_ready=lambda everyone: self._wait_for_hospitals(grid, patience_s * everyone),
                standing=lambda: self._description.version,
                departures=grid.departures,
                gone=grid.gone,
                on_members=lambda members: self._note_members(grid, members),
                go_on=COMMAND,
            ),
        )
        try:
            outcome = run_federation(parts, grid)
        except (WardroundError, KeyboardInterrupt) as error:
            with suppress(OSError):  # must not hide why it ends
                run.update(status=f"stopped: {error or 'interrupted'}")
            self.board.run_ended(f"stopped: {error or 'interrupted'}")
            raise
        self.board.run_ended("complete")
        return outcome

    def _wait_for_hospitals(self, grid: HospitalGrid, patience_s: float) -> None:
        """For all of the roster; once enough are there, at most ``patience_s`` for the others."""
        needed, enough_at, said = self._needed(), math.inf, ""
        while True:
            grid.check()
            everyone, ready = set(self._description.hospitals), set(grid.admitted())
            missing, idle = sorted(everyone - ready), self._evaluating_only(grid, ready)
            if len(ready) - len(idle) < needed:
                enough_at = math.inf
            else:
                enough_at = min(enough_at, time.monotonic())
                if not missing or time.monotonic() - enough_at >= patience_s:
                    return
            line = f"waiting for hospitals: {len(ready)} of {len(everyone)} are ready"
            reasons = [self._missing(grid, name) for name in missing[:8]]
            if missing:
                line += f"; missing: {', '.join(reasons)}{' ...' if len(missing) > 8 else ''}"
            if idle:
                line += f"; in evaluations only: {', '.join(idle[:8])}{' ...' if idle[8:] else ''}"
            if len(everyone) - len(idle) < needed:
                line += f"; a round needs {needed}: admit more with wardround provision"
            if line != said:
                said = line
                self.say(line)
            with grid.changed:
                grid.changed.wait(0.25)

    def _note_members(self, grid: HospitalGrid, members: Sequence[Member]) -> None:
        """Remember which hospitals have nothing to train on, as long as their processes last."""
        for one in members:
            link = grid.links.get(one.name)
            if link is not None:
                self._idle[one.name] = "" if one.trains else link.instance

    def _evaluating_only(self, grid: HospitalGrid, ready: Collection[str]) -> list[str]:
        """Of those who are ready: who is known to have no rows to train on."""
        return sorted(
            name for name in ready if self._idle.get(name) == grid.links[name].instance != ""
        )

    def _unwritable(self, error: WardroundError) -> None:
        """What happens can't be written down any more: the rounds end, in their own thread."""
        error.mend = error.mend or f"make room or mend its rights, then start again: {COMMAND}"
        self._grid.fail(error)

    def _needed(self) -> int:
        """The fewest hospitals that a round can be made of."""
        secure = self.config.secure_aggregation
        return max(self.config.federation.min_clients, secure.min_cohort * secure.enabled)

    @staticmethod
    def _missing(grid: HospitalGrid, name: str) -> str:
        link = grid.links.get(name)
        if link is None or link.admitted or not link.refusal:
            return name
        return f"{name} ({'withdrew' if link.withdrew else 'refuses the run'})"

    def _watch(self, grid: HospitalGrid, over: threading.Event) -> None:
        path, seen, said = self.folder.description_path, b"", ""
        while not over.wait(_WATCH_S):
            try:
                data, new = path.read_bytes(), False
                if data != seen:
                    description = Description.read(data, self.folder.ca_pem)
                    new = description.version != self._description.version
                if new:
                    self._description = description
                    self._tell_other_settings()
                    log.info("the description is now version %d", self._description.version)
                seen = data
                if new:
                    self._admission.renew(lambda: self._door.check_all(new_description=True))
                self._door.check_all(new_description=False)
                grid.give_up_silent()
                for name, link in list(grid.links.items()):
                    if link.connected and link.silent_s() < 2 * _WATCH_S:
                        self.board.seen(name)
            except (OSError, WardroundError) as error:
                if str(error) != said:
                    said = str(error)
                    log.error("the watch: %s", error)

    def _tell_other_settings(self) -> None:
        """Its members are taken up at once; its settings wait for another run."""
        settings = (self.config, self._description.config())
        if others := differences(*(shared_settings(one) for one in settings)):
            self.say(
                f"the signed description has other settings than this run: {others}; hospitals "
                "refuse the run until they are restored (wardround provision), or another is begun "
                "with --new"
            )


class _LiveRoster(Mapping[str, bytes]):
    """The roster of the present description, which may change while the run goes on."""

    def __init__(self, hospitals: Callable[[], Mapping[str, bytes]]) -> None:
        self._hospitals = hospitals

    def __getitem__(self, name: str) -> bytes:
        return self._hospitals()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hospitals())

    def __len__(self) -> int:
        return len(self._hospitals())
