"""The studies of the server that leads: what each waits for, and what is done with it next.

Every change is the database's first: what a change means here (a run begins, a hospital is told)
follows it, and is done again from the database by whoever leads next. One thread decides
(``look``); calls of researchers and words of hospitals write and wake it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from wardround.common.config.task import make_task
from wardround.common.errors import (
    AuditError,
    DatabaseAway,
    Overtaken,
    ResultsRefused,
    RunDirectoryError,
    StudyRefused,
    StudyUnknown,
    WardroundError,
)
from wardround.common.results.package import FILES
from wardround.common.run.directory import RunDirectory
from wardround.common.study.states import OVER, STATES, State
from wardround.common.study.study import SignedStudy, Submission
from wardround.common.trust.description import Description
from wardround.common.trust.pki import now_utc
from wardround.server.display.studies import StudiesBoard
from wardround.server.members.sampling import fewest_hospitals
from wardround.server.network.library import at_server
from wardround.server.network.shown import Shown
from wardround.server.network.stored import asked
from wardround.server.network.study_run import Premises, StudyRun, run_folder
from wardround.server.reception.manifest import preparation_manifest
from wardround.server.results.package import FOLDER, make_package, package_of
from wardround.server.studies.desk import Progress
from wardround.server.studies.outbox import Outbox
from wardround.server.studies.rights import Caller
from wardround.server.studies.rows import Decision, Event, NewStudy, StudyRow
from wardround.server.studies.store import StudyStore

log = logging.getLogger("wardround.server")

SERVER = "the server"
OPEN: tuple[State, ...] = tuple(state for state in STATES if state not in OVER)
_AGAIN_S = 30.0
"""A run whose disk failed is gone on with after so long."""
_TRIES = 5


class Studies:
    """What the leading server does with its studies; also the desk that the interface asks.

    Parameters
    ----------
    lead : the fence that it leads under
    owner : of this life of this process, as leases name it
    """

    def __init__(
        self,
        premises: Premises,
        store: StudyStore,
        outbox: Outbox,
        board: StudiesBoard,
        *,
        lead: int,
        owner: str,
        at_once: int,
        lease_s: float,
    ) -> None:
        self._premises, self._store, self._outbox = premises, store, outbox
        self._lead, self._owner = lead, owner
        self._at_once, self._lease_s = at_once, lease_s
        self._shown = Shown(store, board)
        self.runs: dict[str, StudyRun] = {}
        self._rows: dict[str, StudyRow] = {}
        self._lock = threading.RLock()
        self.wake = threading.Event()
        self._failed: dict[str, str] = {}
        self._shown.all()

    # --- one look -------------------------------------------------------------------------------
    def look(self) -> None:
        """Do what is next with every study. Raises DatabaseAway, AuditError."""
        self.wake.clear()
        rows = self._store.list(OPEN)
        with self._lock:
            self._rows = {row.id: row for row in rows}
            gone = [self.runs.pop(id) for id in set(self.runs) - set(self._rows)]
        for run in gone:
            run.close()
        now = self._store.now()
        for row in rows:
            with suppress(Overtaken):  # somebody was faster: the next look sees it
                self._advance(row, now)
        while (claimed := self._claim()) is not None:
            self._begin(claimed)
        self.tell()

    def tell(self) -> None:
        """Bring what has happened to audit log and board."""
        new = self._store.unaudited()
        self._outbox.send()
        self._shown.new(new)

    def _advance(self, row: StudyRow, now: float) -> None:
        if row.ends <= now:
            return self._over(row, "expired", "its end date has passed")
        asker = self._premises.port.description.now.researchers.get(row.researcher)
        if asker is None:
            return self._over(row, "aborted", f"'{row.researcher}' is no member any more")
        if row.state == "submitted":
            row = self._store.change(
                row.id, "waiting", expect="submitted", fence=row.fence, who=SERVER, lead=self._lead
            )
        run = self._opened(row)
        if run is None:
            return
        if run.researcher != asker:
            why = f"'{row.researcher}' has other keys now, and asks anew (wardround study rerun)"
            return self._over(row, "aborted", why)
        if row.state == "waiting" and self._may_begin(row, run, now):
            self._store.change(
                row.id, "queued", expect="waiting", fence=row.fence, who=SERVER, lead=self._lead
            )
        if run.begun and run.over:
            self._ended(row, run)

    def _opened(self, row: StudyRow) -> StudyRun | None:
        """What is done with a study here; made when it is first seen."""
        if (known := self.runs.get(row.id)) is not None:
            return known
        try:
            asked(self._store, row)
            signed = SignedStudy.read(self._store.body(row.id), self._premises.port.description.now)
            run = StudyRun(
                signed,
                self._premises,
                lambda name, word, reason: self._said(row.id, name, word, reason),
            )
        except (AuditError, DatabaseAway):
            raise
        except RunDirectoryError as error:  # room can be made
            self._tell_once(row, str(error))
            return None
        except WardroundError as error:
            self._over(row, "failed", f"it can't be run here: {error}")
            return None
        with self._lock:
            self.runs[row.id] = run
        return run

    def _may_begin(self, row: StudyRow, run: StudyRun, now: float) -> bool:
        """Whether as many have accepted as a round needs, and all others have decided or were
        waited for."""
        members = set(run.roster)
        words = [one for one in self._store.decisions(row.id) if one.hospital in members]
        accepted = sorted(one.time for one in words if one.word == "accepted")
        fewest = fewest_hospitals(run.config)
        if len(accepted) < fewest:
            return False
        undecided = [one for one in words if one.word == "waiting"]
        return not undecided or now >= accepted[fewest - 1] + run.study.wait_s

    def _claim(self) -> StudyRow | None:
        return self._store.claim(self._owner, self._lease_s, self._at_once, lead=self._lead)

    def _begin(self, row: StudyRow) -> None:
        run = self._opened(row)
        if run is None:
            self._store.renew(row.id, row.fence, _AGAIN_S, lead=self._lead)
            return
        with self._lock:
            self._rows[row.id] = row
        if not run.begun:  # else its lease ended while the database was away, and its rounds go on
            run.begin(self._shown.begin(run), self.wake.set)

    def renew(self) -> None:
        """Prolong the leases of what runs here; called well within ``lease_s``."""
        with self._lock:
            running = [(self._rows[id], run) for id, run in self.runs.items() if id in self._rows]
        for row, run in running:
            if run.begun and not run.over and row.state == "running":
                if not self._store.renew(row.id, row.fence, self._lease_s, lead=self._lead):
                    self.wake.set()

    # --- how one ends ---------------------------------------------------------------------------
    def _ended(self, row: StudyRow, run: StudyRun) -> None:
        """The rounds of a study have ended."""
        error = run.error
        if isinstance(error, AuditError):
            raise error  # what can't be written down isn't done
        if isinstance(error, RunDirectoryError):
            self._tell_once(row, f"{error}; it is gone on with in {_AGAIN_S:g} s")
            self._store.renew(row.id, row.fence, _AGAIN_S, lead=self._lead)
            with self._lock:  # it is opened anew, and begun once that lease has ended
                self.runs.pop(row.id).close()
            return
        if error is not None:
            return self._over(row, "failed", str(error))
        try:
            signed = self._store.body(row.id)
            make_package(
                run.run,
                self._premises.identity,
                network=run.study.network,
                study=row.id,
                signed_study=signed,
            )
        except (AuditError, DatabaseAway):
            raise
        except RunDirectoryError as error:
            self._tell_once(row, str(error))
            return
        except WardroundError as error:
            return self._over(row, "failed", f"its results can't be made: {error}")
        self._over(row, "complete", "", run.took_part())

    def _over(
        self,
        row: StudyRow,
        state: State,
        reason: str,
        results: Collection[str] = (),
        who: str = SERVER,
    ) -> None:
        """A study is over. Nothing more is asked once the database says so."""
        self._store.change(
            row.id,
            state,
            expect=row.state,
            fence=row.fence,
            who=who,
            reason=reason,
            results=results,
            lead=self._lead,
        )
        with self._lock:
            run = self.runs.pop(row.id, None)
        if run is not None:
            if run.begun and not run.over:
                run.stop(StudyRefused(f"the study is over: {reason}"))
            run.close()
        self._shown.end(row.id)
        self.wake.set()

    def stop(self, why: WardroundError, patience_s: float | None = None) -> None:
        """This server leads no longer: every run stops where it is, and whoever leads next goes on
        with it.

        patience_s : how long to wait for each; None: until it has, since this process lives on, and
            a run directory has one writer
        """
        with self._lock:
            runs = dict(self.runs)
        for run in runs.values():
            run.grid.fail(why)
        for id, run in runs.items():
            run.stop(why, patience_s)
            if (row := self._rows.get(id)) and row.state == "running":
                with suppress(WardroundError):
                    self._store.renew(id, row.fence, 0, lead=self._lead)

    # --- hospitals ------------------------------------------------------------------------------
    def connected(self, name: str) -> None:
        """A hospital has come in: it is shown the studies that it is wanted in."""
        with self._lock:
            runs = list(self.runs.values())
        for run in runs:
            run.connected(name)
        self.wake.set()

    def _said(self, id: str, hospital: str, word: str, reason: str) -> None:
        try:
            self._store.decide(id, hospital, word, reason, lead=self._lead)  # type: ignore[arg-type]
        except (Overtaken, StudyUnknown):
            return
        except WardroundError as error:
            log.warning("study %s: what %s said isn't written down: %s", id[:12], hospital, error)
        self.wake.set()

    def described(self, description: Description, anew: bool) -> None:
        """The signed description is another, or (``anew``) the same for longer."""
        with self._lock:
            runs = list(self.runs.values())
        if anew:
            self._premises.port.tell_description()
            for run in runs:
                run.admission.ask_again()
            return
        with ExitStack() as stack:
            for run in runs:
                if run.study.researcher in description.researchers:
                    try:
                        stack.enter_context(run.admission.renewing())
                    except WardroundError as error:  # such as: none of its hospitals is left
                        log.error("study %s: %s", run.study.run, error)
            self._premises.port.tell_description()
        self.wake.set()

    # --- the desk -------------------------------------------------------------------------------
    def submit(self, caller: Caller, submission: Submission, rerun_of: str = "") -> bool:
        study, description = submission.study, self._premises.port.description.now
        with suppress(StudyUnknown):
            self._store.get(study.id)
            return False
        config = at_server(study, description, self._premises.library)
        preparation_manifest(config, make_task(config), description, study.run, study)
        signed = submission.accepted(self._premises.identity, now_utc())
        new = NewStudy(
            study.id,
            study.name,
            study.researcher,
            study.hospitals,
            signed.to_bytes(),
            study.end.timestamp(),
        )
        fresh = self._store.submit(new, str(caller), lead=self._lead)
        self.wake.set()
        return fresh

    def list(self, caller: Caller, states: Collection[State], newest: int) -> Sequence[StudyRow]:
        researcher = caller.name if caller.role == "researcher" else ""
        hospital = caller.name if caller.role == "hospital" else ""
        return self._store.list(states, researcher, hospital, newest)

    def find(self, caller: Caller, text: str) -> Sequence[StudyRow]:
        return self._store.find(text, caller.name if caller.role == "researcher" else "")

    def signed(self, id: str) -> bytes:
        return self._store.body(id)

    def decisions(self, id: str) -> Sequence[Decision]:
        return self._store.decisions(id)

    def events(self, id: str, after: int) -> Sequence[Event]:
        return self._store.events(id, after)

    def progress(self, id: str) -> Progress:
        with self._lock:
            run = self.runs.get(id)
        if run is not None:
            rounds = run.config.federation.rounds if run.config.procedure.trains else 0
            return Progress(_rounds_of(run.run), rounds)
        row = self._store.get(id)
        done = _rounds_of(RunDirectory(self._folder(row)))
        return Progress(done, done) if row.state == "complete" else Progress(done, 0)

    def abort(self, caller: Caller, id: str, reason: str) -> None:
        for left in reversed(range(_TRIES)):
            row = self._store.get(id)
            if row.state in OVER:
                raise Overtaken(f"is '{row.state}' already", who=f"study '{row.name}'")
            try:
                return self._over(row, "aborted", reason, who=str(caller))
            except Overtaken:  # it went on to its next state
                if not left:
                    raise

    def results(self, id: str) -> Mapping[str, Path]:
        row = self._store.get(id)
        if row.state != "complete":
            raise StudyRefused(f"is '{row.state}': there are no results", who=f"study '{row.name}'")
        asked(self._store, row)
        folder = self._folder(row) / FOLDER
        if not folder.is_dir():
            raise ResultsRefused("its run directory isn't there any more", who=str(row.name))
        package = package_of(folder, self._premises.identity.public)
        names = [FILES, *(one.name for one in package.files)]
        return {name: folder / name for name in names}

    def _folder(self, row: StudyRow) -> Path:
        return run_folder(self._premises.runs, row)

    def _tell_once(self, row: StudyRow, line: str) -> None:
        if self._failed.get(row.id) != line:
            self._failed[row.id] = line
            log.error("study %s (%s): %s", row.name, row.id[:12], line)


def _rounds_of(run: RunDirectory) -> int:
    rows = run.rounds()
    return int(rows[-1].get("round", 0)) if rows else 0
