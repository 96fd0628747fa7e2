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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from flwr.app import Context, RecordDict
from grpc_health.v1.health import HealthServicer

from wardround.common.audit import AuditLog
from wardround.common.config import Config, load_config
from wardround.common.description import Description
from wardround.common.errors import RunDirectoryError, WardroundError
from wardround.common.hosting import RUN_ID, SERVER_NODE_ID
from wardround.common.locks import take_lock
from wardround.common.memory import one_arena
from wardround.common.rundir import DEPLOYED, RunDirectory, write_atomically
from wardround.common.secagg.content import shared_settings
from wardround.common.shaping import check_same, check_unedited, differences, digest
from wardround.common.tasks.base import Task
from wardround.common.wire import tls
from wardround.server.admission import Admission
from wardround.server.app import create_server_app
from wardround.server.board import Board
from wardround.server.certificate import Certificate
from wardround.server.console import shown_path
from wardround.server.diary import Diary
from wardround.server.federation import Federation, FederationOutcome
from wardround.server.host import Host
from wardround.server.provision import ServerFolder
from wardround.server.transport.grid import HospitalGrid
from wardround.server.transport.service import Door, open_port

log = logging.getLogger("wardround.server")

_WATCH_S = 0.5
_CURRENT = "current-run"
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

    def run(self, new: bool = False) -> FederationOutcome | None:
        """Wait for the hospitals, and run (or go on with) the rounds; None if the present run is
        complete. Raises WardroundError.

        new : begin another run, whatever has become of the last one
        """
        one_arena()
        folder = self.folder
        self._description = folder.description
        self._check_settings()
        lock = take_lock(folder.folder / "lock")
        audit = AuditLog.open(
            folder.audit_path, "server", folder.identity, listener=self.board.audit
        )
        with lock, audit:
            run = self._run_directory(new)
            if run is None:
                return None
            self.run_path = run.path
            self._diary = Diary(audit, self.board, lambda: self._description)
            grid, admission = self._make_grid(run)
            server, health, port = self._open_port(grid, admission)
            audit.append("started", run=run.path.name, pid=os.getpid(), port=port)
            over = threading.Event()
            threading.Thread(target=self._watch, args=(grid, over), daemon=True).start()
            try:
                return self._rounds(grid, run, admission)
            finally:
                over.set()
                audit.append("run ended", run=run.path.name)
                self._diary.ask_for_heads([link.mailbox for link in grid.links.values()])
                time.sleep(_LAST_WORDS_S)
                self._door.goodbye("the server stops")
                health.enter_graceful_shutdown()
                audit.append("stopped", run=run.path.name)
                server.stop(1.0).wait()

    def _make_grid(self, run: RunDirectory) -> tuple[HospitalGrid, Admission]:
        table, spool = self.config.server, run.path / "spool"
        spool.mkdir(exist_ok=True)
        most_bytes = table.max_message_mb << 20
        grid = HospitalGrid(run.path.name, table.lease_s, most_bytes, spool, self._diary)
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

    # --- before the rounds ---------------------------------------------------------------------
    def _check_settings(self) -> None:
        if not self._description.hospitals:
            raise self.config.error("server.hospitals", "no hospital is provisioned yet")

    def _listen(self) -> str:
        table = self.config.server
        return table.listen or f"[::]:{table.address.rpartition(':')[2]}"

    def _run_directory(self, new: bool) -> RunDirectory | None:
        """The present run, or a new one; None if the present one is complete."""
        pointer = self.folder.folder / _CURRENT
        if not new and pointer.exists():
            path = self.folder.folder / pointer.read_text("utf-8")  # or absolute
            try:
                run = RunDirectory.open(Path(os.path.normpath(path)))
            except RunDirectoryError:
                raise RunDirectoryError(
                    "the run that was going on is not there any more",
                    who=os.path.normpath(path),
                    mend="bring it back, or begin another with --new",
                ) from None
            if run.summary().get("status") == "complete":
                self.say(f"{shown_path(run.path)} is complete; begin another run with --new")
                return None
            return self._begun(run)
        folder = self.config.runs_folder()
        run = RunDirectory.create(
            folder,
            self.config.federation.name,
            self.config.to_toml(folder / "run"),
            kind=DEPLOYED,
            identity=digest(self.config, deployed=True),
        )
        relative = os.path.relpath(run.path.resolve(), self.folder.folder.resolve())
        write_atomically(pointer, relative.encode())
        return run

    def _begun(self, run: RunDirectory) -> RunDirectory:
        """Go on with a run, under settings of which those that shape its model are as they were."""
        begun = load_config(run.config_path)
        check_unedited(run, begun)
        check_same(begun, self.config, deployed=True, who=str(run.path))
        write_atomically(run.config_path, self.config.to_toml(run.path).encode())
        self.say(f"going on with {shown_path(run.path)}")
        return run

    # --- while it runs -------------------------------------------------------------------------
    def _rounds(
        self, grid: HospitalGrid, run: RunDirectory, admission: Admission
    ) -> FederationOutcome:
        self.board.describe_run(
            run=run.path.name,
            rounds=self.config.federation.rounds,
            hospitals=self._description.hospitals,
            hidden=self.config.secure_aggregation.enabled,
            primary=self.task.primary_metric,
        )
        titles = self.config.server.titles.items()
        run.update(titles={name: title for name, title in titles if name != title})
        self.board.restore(run.rounds())
        patience_s = self.config.server.wait_s
        self._wait_for_hospitals(grid, patience_s)
        federation = Federation(
            self.config,
            self.task,
            run,
            self.board,
            roster=_LiveRoster(lambda: self._description.hospitals),
            host=Host(
                admission.model_known,
                lambda everyone: self._wait_for_hospitals(grid, patience_s * everyone),
                lambda: self._description.version,
                "`wardround server` goes on with it",
            ),
        )
        outcomes: list[FederationOutcome] = []
        app = create_server_app(lambda context: federation, outcomes.append)
        try:
            app(grid, Context(RUN_ID, SERVER_NODE_ID, {}, RecordDict(), {}))
        except OSError as error:
            what = error.strerror or type(error).__name__
            raise RunDirectoryError(
                f"{run.path}: can't be written ({what}); make room and start again: the run goes on"
            ) from None
        except (WardroundError, KeyboardInterrupt) as error:
            run.update(status=f"stopped: {error or 'interrupted'}")
            self.board.run_ended(f"stopped: {error or 'interrupted'}")
            raise
        self.board.run_ended("complete")
        return outcomes[0]

    def _wait_for_hospitals(self, grid: HospitalGrid, patience_s: float) -> None:
        """For all of the roster; once enough are there, at most ``patience_s`` for the others."""
        needed, enough_at, said = self._needed(), math.inf, ""
        while True:
            everyone, ready = set(self._description.hospitals), set(grid.admitted())
            missing = sorted(everyone - ready)
            if len(ready) < needed:
                enough_at = math.inf
            else:
                enough_at = min(enough_at, time.monotonic())
                if not missing or time.monotonic() - enough_at >= patience_s:
                    return
            line = f"waiting for hospitals: {len(ready)} of {len(everyone)} are ready"
            reasons = [self._missing(grid, name) for name in missing[:8]]
            if missing:
                line += f"; missing: {', '.join(reasons)}{' ...' if len(missing) > 8 else ''}"
            if len(everyone) < needed:
                line += f"; a round needs {needed}: admit more with wardround provision"
            if line != said:
                said = line
                self.say(line)
            with grid.changed:
                grid.changed.wait(0.25)

    def _needed(self) -> int:
        """The fewest hospitals that a round can be made of."""
        secure = self.config.secure_aggregation
        return max(self.config.federation.min_clients, secure.min_cohort * secure.enabled)

    @staticmethod
    def _missing(grid: HospitalGrid, name: str) -> str:
        link = grid.links.get(name)
        return f"{name} (refuses the run)" if link is not None and link.refusal else name

    def _watch(self, grid: HospitalGrid, over: threading.Event) -> None:
        path, seen = self.folder.description_path, b""
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
