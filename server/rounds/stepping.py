"""A study that asks instead of training: the steps of its procedure, to the result.

As a phase of the preparation each step's sum is had once, and nobody joins on the way. A step
counts once its totals are on disk; a run that stops, for whatever reason, goes on with the step
that it stopped at, and one whose sum was being opened is opened from the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wardround.common.config.finished import model_digest
from wardround.common.durable.files import write_atomically
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.durable.versioned import Format
from wardround.common.errors import CheckpointError, ModelRefused, RequestRefused, RoundFailed
from wardround.common.export.finished import finished_model
from wardround.common.figures.sums import Sums
from wardround.common.flower.hosting import Grid
from wardround.common.model_folder.folder import opened
from wardround.common.privacy.sums import steps_epsilon, summed_noise
from wardround.common.procedures.carrying import CarryingProcedure
from wardround.common.procedures.known import make_procedure, needs_model, step_words
from wardround.common.procedures.procedure import Asked, FinishedModel
from wardround.common.protocol.sums import SumsRequest, joined, parted
from wardround.common.protocol.totals import Totals
from wardround.server.gathering.gatherer import Question, RunSettings
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.members.sampling import here, preparing
from wardround.server.observer import Phase
from wardround.server.privacy.honest import fewest_honest
from wardround.server.rounds.asking_all import ask_all
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.staying import Staying
from wardround.server.secagg.journal import Journal
from wardround.server.strategies import build_strategy

STATE = "steps.safetensors"
"""In a run directory: the totals of the steps that are done."""
FORMAT = Format("totals of a procedure's steps", "begin another run")


@dataclass(frozen=True)
class Answered:
    """A procedure that has ended.

    earlier : the totals of its steps
    hospitals : names of whose they are
    files : what was published, by name; it lies in the run directory
    """

    earlier: list[Sums]
    hospitals: list[str]
    files: Mapping[str, str]


class Stepping:
    """One run of a procedure, against any Flower ``Grid``."""

    def __init__(self, parts: FederationParts) -> None:
        self._parts, self._config, self._host = parts, parts.config, parts.host
        self._run, self._observer = parts.run_directory, parts.observer
        model = own_model(parts) if needs_model(parts.config) else None
        self._procedure = make_procedure(parts.config, parts.task, model)
        self._journal = Journal(self._run.journal if parts.keep_journal else None)
        self._earlier, names = read_steps(self._run.path / STATE)
        self._staying = Staying(self._observer, names)

    def run(self, grid: Grid) -> Answered:
        """All steps that are left; writes what is published. Raises WardroundError subclasses."""
        settings = RunSettings(
            config=self._config, task=self._parts.task, plan=build_strategy(self._config)
        )
        participants = Participants(
            self._parts, grid=grid, settings=settings, journal=self._journal
        )
        ask_all(self._parts, participants, lambda: self._steps(participants))
        return self._finish()

    def _steps(self, participants: Participants) -> None:
        procedure = self._procedure
        while procedure.more(self._earlier):
            step, what = procedure.step(self._earlier), f"'{procedure.name}'"
            members = self._staying.of(self._asked(participants), f"{what} was asked")
            whose = self._whose_sum(f"sums {step}", members)
            if not procedure.more(self._earlier):
                break
            self._observer.phase(Phase.PREPARING)
            most = procedure.most_steps
            self._observer.progress(f"asking for {what}, step {step + 1} of {most} at most")
            question = Question(
                f"sums {step}",
                SumsRequest(step, Totals.of(procedure.carried(self._earlier))),
                procedure.shapes(self._earlier),
                procedure if step == 0 else None,
                f"procedure {what}",
                step_words(self._config, procedure, self._earlier),
            )
            found = participants.gatherer.sums(members, question)
            self._commit(found, whose)

    def _asked(self, participants: Participants) -> list[Member]:
        """All who have rows for it; of a virtual population a sample."""
        members = here(participants.members, self._host.gone())
        if isinstance(members, VirtualMembers):
            return preparing(members, self._config)
        if not self._procedure.needs_model:
            return list(members)
        found = [one for one in members if self._procedure.adds(one.sizes)]
        what = f"'{self._procedure.name}'"
        if not found:
            raise RoundFailed(f"no hospital has rows for {what}")
        without = [f"{one.name}: it has no rows for {what}" for one in members if one not in found]
        if without and not self._earlier:
            self._observer.warnings(without)
        return found

    def _whose_sum(self, purpose: str, members: list[Member]) -> list[str]:
        """Names of who is in the next sum. One that some have given shares for is still of all who
        were asked for it; else a state goes on without those who left."""
        names, before = sorted(member.name for member in members), self._staying.names
        if before is None or len(names) == len(before):
            return names
        if self._journal.begun(purpose):
            return sorted(before)
        if isinstance(self._procedure, CarryingProcedure):
            self._earlier = self._procedure.left(self._earlier)
        return names

    def _commit(self, found: Sums, names: list[str]) -> None:
        """The step counts from now on: its journal is of no use any more."""
        self._earlier = self._procedure.after(self._earlier, found)
        self._staying.names = set(names)
        self._parts.before_commit(self._procedure.step(self._earlier))
        write_steps(self._run.path / STATE, self._earlier, names)
        self._journal.clear()

    def _whose(self, hospitals: int) -> Asked:
        """Whose answers they are, and what noise is on them."""
        config, steps, table = self._config, self._procedure.most_steps, self._config.privacy
        if not table.enabled:
            return Asked(hospitals)
        records = table.records_per_patient if table.unit == "patient" else 1
        sensitivity = self._procedure.sensitivity(records)
        noise = summed_noise(
            config, steps, sensitivity, hospitals, fewest_honest(config, hospitals)
        )
        return Asked(hospitals, noise, steps_epsilon(config, steps), table.delta, table.unit)

    def _finish(self) -> Answered:
        names = sorted(self._staying.names or ())
        files = self._procedure.result(self._earlier, self._whose(len(names)))
        for name, text in files.items():
            write_atomically(self._run.path / name, text.encode())
        self._run.update(
            status="complete",
            procedure=self._procedure.name,
            published=sorted(files),
            answered=names,
        )
        self._journal.close()
        return Answered(self._earlier, names, files)


def own_model(parts: FederationParts) -> FinishedModel:
    """The server's own copy of the finished model that a study asks about: where the settings say
    that it lies, else the one of its runs with that digest. Raises ModelRefused."""
    config = parts.config
    options = config.procedure.finished
    assert options is not None
    if options.model:
        return finished_model(config.folder / options.model, config)
    for files in sorted(parts.run_directory.path.parent.glob("*/model/files.json")):
        if model_digest(files.parent) == options.model_digest:
            return opened(files.parent, config)
    raise ModelRefused(
        f"no run here has the model of digest {options.model_digest[:16]}..., which the study asks "
        "about",
        mend="ask about a model of this server's runs",
    )


def write_steps(path: Path, earlier: list[Sums], names: list[str]) -> None:
    """Write the totals of all steps, and whose they are, in one file. Raises OSError."""
    state = FORMAT.seal({"steps": len(earlier), "names": names})
    write_tensors(path, joined(earlier), state)


def read_steps(path: Path) -> tuple[list[Sums], list[str] | None]:
    """What was written; nothing and None where nothing was. Raises CheckpointError."""
    if not path.exists():
        return [], None
    arrays, stored = read_tensors(path)
    state = FORMAT.read(stored, CheckpointError, str(path))
    try:
        names = [str(name) for name in state["names"]]
        return parted(arrays, int(state["steps"])), names
    except (KeyError, TypeError, ValueError, RequestRefused):
        raise CheckpointError("holds no totals of steps", who=str(path), mend=FORMAT.mend) from None
