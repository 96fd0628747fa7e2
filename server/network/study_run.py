"""One study at the server, from when it is accepted to when it is over.

It is shown to the hospitals that are wanted, and to no other, as soon as it is accepted; its rounds
run in a thread of their own once it is claimed. It writes no state: what becomes of it is its
owner's to note.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wardround.common.config.load import Config, load_config
from wardround.common.config.task import make_task
from wardround.common.durable.files import writing
from wardround.common.errors import StudyRefused, WardroundError
from wardround.common.manifest.planned import planned_rounds
from wardround.common.protocol.errors import Code
from wardround.common.run.directory import DEPLOYED, RunDirectory
from wardround.common.run.report.from_run import report_run
from wardround.common.run.shaping import check_same, check_unedited, digest
from wardround.common.study.study import SignedStudy
from wardround.common.text import one_line
from wardround.common.transport.frames import Start
from wardround.common.trust.identity import Identity
from wardround.server.app import run_study
from wardround.server.display.board import Board
from wardround.server.display.board_rows import RunFacts
from wardround.server.gathering.host import Host
from wardround.server.network.library import at_server
from wardround.server.observer import Observer
from wardround.server.reception.admission import Admission
from wardround.server.reception.attendance import Attendance
from wardround.server.reception.diary import Diary
from wardround.server.reception.manifest import ManifestSigner
from wardround.server.reception.port import Port
from wardround.server.results.finish import finish_run
from wardround.server.rounds.federation import FederationOutcome
from wardround.server.rounds.parts import FederationParts
from wardround.server.studies.rows import StudyRow
from wardround.server.tracking import tracked
from wardround.server.transport.events import ServerEvents
from wardround.server.transport.grid import HospitalGrid

log = logging.getLogger("wardround.server")

Said = Callable[[str, str, str], None]
"""A hospital's word on a study: its name, 'waiting', 'accepted' or 'rejected', and the reason."""


@dataclass(frozen=True, kw_only=True)
class Premises:
    """What all studies of a server have in common.

    library : folder of what never travels
    runs : folder of run directories
    identity : the server's
    config : the server's own: its trackers are told of the rounds of every study
    """

    port: Port
    library: Path
    runs: Path
    identity: Identity
    config: Config = Config()


class StudyRun:
    """A study that isn't over.

    Parameters
    ----------
    said : is told each hospital's word, when it changes; in threads of the admission

    Attributes
    ----------
    researcher : the public key of who asks
    run : its directory
    events : what happens in it is told there
    error : why its rounds ended; None while they run, and where they ended well
    over : its rounds have ended
    """

    def __init__(self, signed: SignedStudy, premises: Premises, said: Said) -> None:
        self.study, self._premises = signed.study, premises
        port = premises.port
        self.researcher = port.description.now.researchers[self.study.researcher]
        config = at_server(self.study, port.description.now, premises.library)
        self.config, self.task = config, make_task(config)
        self.run = self._directory()
        self.events = _StudyEvents(self, port.diary, said)
        self.grid = HospitalGrid(self.study.run, port.hall, self.study.id, self.events)
        signer = ManifestSigner(
            config=config,
            task=self.task,
            run_name=self.study.run,
            identity=premises.identity,
            study=self.study,
        )
        self.admission = Admission(
            self.grid,
            signer,
            port.description,
            self.events,
            self.run.keep_plan,
            signed.to_bytes(),
        )
        self.roster = _Wanted(port.description.roster, self.study.hospitals)
        self.attendance = Attendance(config, self.grid, self.roster, self._says, self._may_come)
        self.error: WardroundError | None = None
        self.over = False
        self._thread: threading.Thread | None = None
        for name in port.hall.connected():
            self.connected(name)

    def _directory(self) -> RunDirectory:
        """Its run directory; one that is there was begun with the same settings."""
        config = self.config
        path = self._premises.runs / self.study.run
        text, identity = config.to_toml(path), digest(config, deployed=True)
        run = RunDirectory.at(
            path,
            text,
            name=self.study.name,
            purpose=one_line(self.study.purpose, 2000),
            study=self.study.id,
            kind=DEPLOYED,
            identity=identity,
        )
        begun = load_config(run.config_path)
        check_unedited(run, begun)
        check_same(begun, config, deployed=True, who=str(path))
        return run

    # --- who takes part ---------------------------------------------------------------------------
    def connected(self, name: str) -> None:
        """A hospital has connected: one that is wanted is shown the study."""
        if name in self.roster:
            self.admission.connected(name)

    def _may_come(self, name: str) -> bool:
        """Whether its rounds should wait for a hospital: not for one that has refused the study, or
        that a person hasn't decided for, which was waited for before."""
        link = self.grid.links.get(name)
        return link is None or not link.refusal

    def _says(self, line: str) -> None:
        log.info("study %s: %s", self.study.run, line)

    # --- its rounds -------------------------------------------------------------------------------
    @property
    def begun(self) -> bool:
        """Whether its rounds were begun here."""
        return self._thread is not None

    def begin(self, board: Board, ended: Callable[[], None]) -> None:
        """Run its rounds in a thread, or go on with them. ``ended``: called when they end."""
        self.events.board = board
        self._thread = threading.Thread(
            target=self._watched, args=(board, ended), name=self.study.run, daemon=True
        )
        self._thread.start()

    def _watched(self, board: Board, ended: Callable[[], None]) -> None:
        with tracked(self._premises.config, self.run, board) as observer:
            self._rounds(board, observer, ended)  # nobody waits for a tracker to hear of its end

    def _rounds(self, board: Board, observer: Observer, ended: Callable[[], None]) -> None:
        try:
            with writing(self.run.path, "its rounds go on by themselves"):
                self.attendance.wait(everyone=True)
                parts = self._parts(observer)
                outcome = run_study(parts, self.grid)
                if isinstance(outcome, FederationOutcome):
                    finish_run(parts, outcome.round)
                self.run.update(away=self.attendance.away())
                report_run(self.run)
        except WardroundError as error:
            self.error = error
        except OSError as error:
            self.error = WardroundError(f"{self.run.path}: the disk failed ({error.strerror})")
        except Exception as error:  # a mistake in this program ends one study, not all of them
            log.error("study %s failed", self.study.run, exc_info=True)
            self.error = WardroundError(f"{type(error).__name__} in the server's program")
        finally:
            if self.error is not None:
                with suppress(OSError):
                    self.run.update(status=f"stopped: {self.error}", away=self.attendance.away())
            board.run_ended("complete" if self.error is None else "stopped")
            self.over = True
            ended()

    def _parts(self, observer: Observer) -> FederationParts:
        host = Host(
            on_model=self.admission.model_known,
            wait_ready=self.attendance.wait,
            standing=lambda: self._premises.port.description.now.version,
            departures=self.grid.departures,
            gone=self.grid.gone,
            on_members=self.attendance.note_members,
            go_on="the server goes on with it when it is started again",
            anew="ask again: wardround study rerun",
        )
        return FederationParts(
            config=self.config,
            task=self.task,
            run_directory=self.run,
            observer=observer,
            roster=self.roster,
            host=host,
            identity=self._premises.identity,
            study=self.study.id,
        )

    def facts(self) -> RunFacts:
        """What its board shows from the start."""
        return RunFacts(
            run=self.study.run,
            rounds=planned_rounds(self.config),
            hospitals=sorted(self.roster),
            hidden=self.config.secure_aggregation.enabled,
            primary=self.task.primary_metric,
            titles={},
        )

    def took_part(self) -> list[str]:
        """Hospitals whose update or figures are in it."""
        found: set[str] = set()
        for row in self.run.rounds():
            found.update(row.get("accepted", ()))
            for names in row.get("over", {}).values():
                found.update(names)
        found.update(self.run.summary().get("answered", ()))  # of another procedure than training
        return sorted(found & set(self.study.hospitals))

    def stop(self, why: WardroundError, patience_s: float | None = 10.0) -> None:
        """Ask nothing more; wait, for so long or for ever, until its rounds have ended."""
        self.grid.fail(why)
        self.grid.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(patience_s)

    def close(self) -> None:
        """Nothing of it is asked any more."""
        self.grid.fail(StudyRefused(f"study '{self.study.run}' is over"))
        self.grid.close()


def run_folder(runs: Path, row: StudyRow) -> Path:
    """A study's run directory: ``Study.run``, of what the database has of it."""
    return runs / f"{row.name}-{row.id[:16]}"


class _StudyEvents(ServerEvents):
    """What happens in one study, told to the server's diary under its name."""

    def __init__(self, run: StudyRun, diary: Diary, said: Said) -> None:
        self._run, self._diary, self._said = run, diary, said
        self._last: dict[str, tuple[str, str]] = {}
        self.board = Board()

    def sent(self, name: str, start: Start) -> None:
        self._diary.sent(name, start)
        self.board.sent(name, start.type, start.size_bytes)

    def received(self, name: str, start: Start) -> None:
        self._diary.received(name, start)
        self.board.received(name, start.type, start.size_bytes)

    def admitted(self, name: str) -> None:
        self._diary.accepts(name, self._run.study.id)
        self.board.admitted(name)
        self._tell(name, "accepted", "")

    def not_admitted(self, name: str, reason: str, withdrew: bool) -> None:
        waits = self._run.grid.link(name).refusal_code is Code.WAITING
        if not waits:
            self._diary.refuses(name, reason, self._run.study.id)
        self.board.not_admitted(name, reason, withdrew)
        self._tell(name, "waiting" if waits else "rejected", "" if waits else reason)

    def _tell(self, name: str, word: str, reason: str) -> None:
        if self._last.get(name) != (word, reason):
            self._last[name] = (word, reason)
            self._said(name, word, reason)


class _Wanted(Mapping[str, bytes]):
    """Of a live roster those that a study is asked of."""

    def __init__(self, roster: Mapping[str, bytes], names: tuple[str, ...]) -> None:
        self._roster, self._names = roster, names

    def __getitem__(self, name: str) -> bytes:
        if name not in self._names:
            raise KeyError(name)
        return self._roster[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._names if name in self._roster)

    def __len__(self) -> int:
        return sum(1 for _ in self)
