"""The federation's loop: set up, then rounds until the last one is committed.

A round is trained (again, with another attempt number, if too few hospitals answer), evaluated,
written to ``metrics.jsonl``, and counts once its checkpoint is on disk. A run that stops, for
whatever reason, goes on from there and ends with the model of an uninterrupted run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid
from torch import nn

from wardround.common.arrays import Arrays, layout_of
from wardround.common.config import Config
from wardround.common.entries import SHARED, Entries, entries_of
from wardround.common.errors import CheckpointError, RoundFailed
from wardround.common.initial import Initial, read_initial
from wardround.common.models import build_model, model_arrays
from wardround.common.privacy.rules import check_model, check_task
from wardround.common.rundir import RunDirectory
from wardround.common.secagg.keys import Roster
from wardround.common.tasks.base import Sums, Task
from wardround.common.tensorfile import write_tensors
from wardround.server.checkpoint import (
    FederationState,
    checkpoint_path,
    newest_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from wardround.server.gathering import Expected, Gatherer, PlainGatherer
from wardround.server.groups import STATELESS, GroupGatherer, may_group
from wardround.server.journal import Journal
from wardround.server.members import VirtualMembers
from wardround.server.membership import Membership
from wardround.server.observer import Observer
from wardround.server.privacy import MakeSource, PrivacyPlan
from wardround.server.replies import Member
from wardround.server.requests import Totals
from wardround.server.rounds import EvaluationResult, RoundRunner, TrainResult
from wardround.server.sampling import draw_cohort, evaluated, preparing
from wardround.server.secure import SecureGatherer
from wardround.server.selection import note_figure, patience_spent
from wardround.server.setup import sum_statistics
from wardround.server.strategies import StrategyPlan, build_strategy
from wardround.server.strategies.state import capture_state, restore_state

BeforeCommit = Callable[[int], None]
OnModel = Callable[[Expected], None]


@dataclass(frozen=True)
class FederationOutcome:
    """A finished run: the chosen round's model (state dict arrays) and the totals it needs."""

    model: Arrays
    totals: Sums
    round: int
    members: Sequence[Member]


class Federation:
    """One run of a federation, against any Flower ``Grid``.

    Parameters
    ----------
    before_commit : called with the round just before its checkpoint is written; a simulation
        stores its clients' states there, so that both belong together after a crash
    roster : every hospital's name and public key, for secure aggregation and privacy's claims
    make_source : gives a round's source of central noise; the operating system's by default
    wait_ready : returns when enough hospitals can be asked; called before every attempt at a round.
        True: the others are waited for, too, as long as the host's settings say
    on_model : is told, before the first round, what hospitals will be asked to send
    keep_journal : whether to write down what a restarted server needs to open a round's sums; of no
        use where the hospitals die with the server
    """

    def __init__(
        self,
        config: Config,
        task: Task[Any],
        run: RunDirectory,
        observer: Observer | None = None,
        before_commit: BeforeCommit | None = None,
        roster: Roster | None = None,
        make_source: MakeSource | None = None,
        keep_journal: bool = True,
        on_model: OnModel | None = None,
        wait_ready: Callable[[bool], None] = lambda everyone: None,
    ) -> None:
        self.config, self.task, self.run_directory = config, task, run
        self.observer = observer or Observer()
        self.before_commit = before_commit or (lambda server_round: None)
        # a live roster is kept as it is, also while it is empty
        self.roster: Roster = {} if roster is None else roster
        self.wait_ready = wait_ready
        self.make_source, self.on_model = make_source, on_model or (lambda expected: None)
        self.journal = Journal(run.journal if keep_journal else None)

    def run(self, grid: Grid) -> FederationOutcome:
        """All remaining rounds; writes the final model. Raises WardroundError subclasses."""
        plan = build_strategy(self.config)
        membership = Membership(grid, self.config, self.observer, self.roster)
        members = membership.members
        self._record_members(members)
        gatherer = self._gatherer(grid, plan, members)
        state = newest_checkpoint(self.run_directory.checkpoints)
        initial = read_initial(self.config) if state is None else None
        totals = state.totals if state else self._prepare(gatherer, members)
        model = build_model(self.task, totals, self.config.federation.seed)
        entries = entries_of(self.config, model)
        if state is None:
            arrays = self._first_arrays(initial, model, entries)
            state = self._first_state(plan, arrays, totals, entries.parameters, len(members))
        else:
            self._resume(state, plan, model, entries)
        check_task(self.config, self.task)
        check_model(self.config, model, entries.personal)
        privacy = self._privacy(members)
        runner = RoundRunner(grid, self.config, plan, gatherer, Totals(totals), entries, privacy)
        norm = state.clipping_norm or self.config.privacy.clipping_norm
        self.on_model(runner.expected(state.round + 1, state.model, len(members), norm))
        del model  # it would stay in memory for the rest of the run
        for server_round in range(state.round + 1, self.config.federation.rounds + 1):
            if (reason := patience_spent(state, self.config.evaluation, self.task)) is not None:
                self._end_early(state, reason)
                break
            if membership.changed():
                members = membership.members
                self._change_members(runner, members)
            try:
                with self.journal.burnt_by_errors():
                    self._round(runner, plan, state, members, server_round)
            except _BudgetsSpent as error:
                if state.round == 0:
                    raise RoundFailed(str(error)) from None
                self._end_early(state, str(error))
                break
        return self._finish(state, members)

    def _end_early(self, state: FederationState, reason: str) -> None:
        last = f"round {state.round} of {self.config.federation.rounds} is the last"
        self.observer.warnings([f"{reason}; {last}"])
        self.run_directory.update(ended_early=reason)

    def _prepare(self, gatherer: Gatherer, members: Sequence[Member]) -> Sums:
        """The federated preparation, which takes every member; tried as often as a round."""
        attempts = self.config.federation.round_attempts
        members = preparing(members, self.config)
        for attempt in range(1, attempts + 1):
            try:
                with self.journal.burnt_by_errors():
                    return sum_statistics(gatherer, members, self.task, self.observer)
            except RoundFailed as error:
                if attempt == attempts:
                    raise
                self.observer.round_failed(0, attempt, str(error))
                time.sleep(self.config.federation.retry_wait_s)
                self.wait_ready(True)
        raise AssertionError("unreachable: round_attempts is at least 1")

    def _change_members(self, runner: RoundRunner, members: Sequence[Member]) -> None:
        """Go on with other members, or other keys of theirs."""
        self._record_members(members)
        spent = runner.gatherer.spent
        runner.gatherer = self._gatherer(runner.grid, runner.plan, members)
        runner.gatherer.spent |= spent
        runner.privacy = self._privacy(members)

    # --- set-up ------------------------------------------------------------------------------
    def _gatherer(self, grid: Grid, plan: StrategyPlan, members: Sequence[Member]) -> Gatherer:
        common = (grid, self.config, self.task, plan, self.observer)
        if not self.config.secure_aggregation.enabled:
            kind = GroupGatherer if may_group(grid, self.config, plan) else PlainGatherer
            return kind(*common)
        if unknown := [member.name for member in members if member.name not in self.roster]:
            raise RoundFailed(
                f"{unknown[0]} is not in the roster: secure aggregation needs every hospital's "
                "public key"
            )
        return SecureGatherer(*common, self.roster, members, self.journal)

    def _privacy(self, members: Sequence[Member]) -> PrivacyPlan | None:
        if not self.config.privacy.enabled:
            return None
        if unknown := [member.name for member in members if member.name not in self.roster]:
            raise RoundFailed(
                f"{unknown[0]} is not in the roster: privacy needs every hospital's public key"
            )
        name = self.run_directory.path.name
        return PrivacyPlan(self.config, members, self.roster, name, self.make_source)

    def _able(self, runner: RoundRunner, members: Sequence[Member]) -> Sequence[Member]:
        """Members whose privacy budget allows a round. Raises _BudgetsSpent if too few."""
        spent = runner.gatherer.spent
        if not spent:
            return members
        able = [member for member in members if member.name not in spent]
        secure = self.config.secure_aggregation
        needed = max(self.config.federation.min_clients, secure.min_cohort if secure.enabled else 1)
        if len(able) < needed:
            raise _BudgetsSpent(
                f"{len(spent)} of {len(members)} hospitals have spent their privacy budget, and a "
                f"round needs {needed}"
            )
        return able

    def _record_members(self, members: Sequence[Member]) -> None:
        if isinstance(members, VirtualMembers):
            sizes = dict(members.same_sizes or {})
            who: dict[str, Any] = {"population": {"clients": len(members), **sizes}}
        else:
            rows = [{"hospital": x.name, **x.sizes, "warnings": x.warnings} for x in members]
            who = {"hospitals": rows}
        self.run_directory.update(
            name=self.config.federation.name,
            status="running",
            **self.task.figure_table().record(),
            strategy=self.config.strategy.name,
            **who,
        )

    def _first_arrays(self, initial: Initial | None, model: nn.Module, entries: Entries) -> Arrays:
        """The first model's shared entries: as the task makes them, or from the file of
        ``federation.initial``."""
        arrays = model_arrays(model)
        if initial is not None:
            found = initial.first(arrays, entries.personal)
            self.observer.warnings([found.line(initial.path.name)])
            self.run_directory.update(initial=initial.record(found))
            arrays = found.arrays
        return entries.only(arrays, *SHARED)

    def _first_state(
        self,
        plan: StrategyPlan,
        arrays: Arrays,
        totals: Sums,
        trainable: list[str],
        population: int,
    ) -> FederationState:
        if plan.ours:
            plan.ours.prepare(arrays, trainable, population)
        state = FederationState(0, arrays, totals)
        self._commit(state, plan)
        return state

    def _resume(
        self, state: FederationState, plan: StrategyPlan, model: nn.Module, entries: Entries
    ) -> None:
        if layout_of(state.model) != layout_of(entries.only(model_arrays(model), *SHARED)):
            raise CheckpointError("the checkpoint is of another model than the task now builds")
        restore_state(plan.strategy, state.strategy_arrays, state.strategy_tree)
        self.run_directory.keep_rounds(state.round)
        self.observer.phase(f"going on after round {state.round}")

    # --- rounds ------------------------------------------------------------------------------
    def _round(
        self,
        runner: RoundRunner,
        plan: StrategyPlan,
        state: FederationState,
        members: Sequence[Member],
        server_round: int,
    ) -> None:
        trained, cohort, attempt = self._train(runner, state, members, server_round, state.model)
        state.model = trained.model
        # who can't remember a round needn't be told of it: a virtual population's list would grow
        stateless = not runner.entries.personal and plan.algorithm in STATELESS
        if not stateless or not isinstance(members, VirtualMembers):
            state.accepted |= dict.fromkeys(trained.gathered.accepted, server_round)
        state.round = server_round
        state.clipping_norm = trained.clipping_norm
        evaluation = EvaluationResult()
        if server_round % self.config.evaluation.every == 0 or self._is_last(server_round):
            asked = evaluated(members, self.config)
            evaluation = runner.evaluate(server_round, trained.model, asked, state.accepted)
        note_figure(state, evaluation, self.task)
        secure = self.config.secure_aggregation.enabled
        row = _row(server_round, attempt, cohort, trained, evaluation, secure)
        self.run_directory.append_round(row)
        self._commit(state, plan)
        self.observer.round_committed(row)

    def _train(
        self,
        runner: RoundRunner,
        state: FederationState,
        members: Sequence[Member],
        server_round: int,
        shared: Arrays,
    ) -> tuple[TrainResult, list[Member], int]:
        federation = self.config.federation
        kept = self.journal.find(f"train {server_round}")
        first = min(kept.attempt, federation.round_attempts) if kept else 1
        for attempt in range(first, federation.round_attempts + 1):
            self.wait_ready(False)
            able = self._able(runner, members)
            cohort = draw_cohort(
                able, federation.clients_per_round, federation.seed, server_round, attempt
            )
            if kept and attempt == first:  # whoever of it is back
                cohort = [x for x in members if x.name in kept.cohort] or cohort
            self.journal.attempt = attempt
            self.observer.round_started(server_round, [x.name for x in cohort], attempt)
            try:
                result = runner.train(
                    server_round, shared, cohort, state.accepted, state.clipping_norm
                )
                return result, cohort, attempt
            except RoundFailed as error:
                self.journal.clear()
                self.observer.round_failed(server_round, attempt, str(error))
                self._able(runner, members)
                if attempt == federation.round_attempts:
                    raise RoundFailed(
                        f"round {server_round} failed after {attempt} attempts: {error}; "
                        f"round {state.round} is kept; go on with "
                        f"--resume {self.run_directory.path}"
                    ) from None
                time.sleep(federation.retry_wait_s)
        raise AssertionError("unreachable: round_attempts is at least 1")

    def _is_last(self, server_round: int) -> bool:
        return server_round == self.config.federation.rounds

    def _commit(self, state: FederationState, plan: StrategyPlan) -> None:
        state.strategy_arrays, state.strategy_tree = capture_state(plan.strategy)
        self.before_commit(state.round)
        write_checkpoint(self.run_directory.checkpoints, state)
        self.journal.clear()

    def _finish(self, state: FederationState, members: Sequence[Member]) -> FederationOutcome:
        chosen = state
        if self.config.evaluation.select == "best" and state.best_round is not None:
            path = checkpoint_path(self.run_directory.checkpoints, state.best_round)
            chosen = read_checkpoint(path)
        folder = self.run_directory.model
        write_tensors(folder / "model.safetensors", chosen.model, {"round": chosen.round})
        write_tensors(folder / "preparation.safetensors", chosen.totals, {})
        self.run_directory.update(status="complete", chosen_round=chosen.round)
        self.journal.close()
        return FederationOutcome(chosen.model, chosen.totals, chosen.round, members)


class _BudgetsSpent(Exception):
    """Too few hospitals may go on."""


def _row(
    server_round: int,
    attempt: int,
    cohort: list[Member],
    trained: TrainResult,
    evaluation: EvaluationResult,
    secure: bool,
) -> dict[str, Any]:
    """A line of ``metrics.jsonl``. ``hidden``: the server can't know single hospitals' figures."""
    training, metrics = trained.gathered, evaluation.gathered
    return {
        "round": server_round,
        "attempt": attempt,
        "cohort": [member.name for member in cohort],
        "accepted": training.accepted,
        "refused": training.refused + metrics.refused,
        "train_loss": trained.loss,
        "overall": evaluation.overall,
        "hospitals": metrics.hospitals,
        "hidden": secure,
        "clipped": training.clipped,
        "privacy": {name: claim.row() for name, claim in sorted(training.claims.items())},
        "clipping_norm": trained.clipping_norm,
        "bytes_down": training.bytes_down + metrics.bytes_down,
        "bytes_up": training.bytes_up + metrics.bytes_up,
        "seconds": {
            "train": trained.seconds,
            "evaluate": evaluation.seconds,
            "total": trained.seconds + evaluation.seconds,
        },
    }
