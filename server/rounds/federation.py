"""The federation's loop: set up, then rounds until the last one is committed.

A round is trained (again, with another attempt number, if too few hospitals answer), evaluated,
written to ``metrics.jsonl``, and counts once its checkpoint is on disk. A run that stops, for
whatever reason, goes on from there and ends with the model of an uninterrupted run.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from wardround.common.errors import CheckpointError, NobodyContributed, PartlyFailed, RoundFailed
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays, encode_arrays, layout_of
from wardround.common.flower.hosting import Grid
from wardround.common.model.entries import SHARED, entries_of
from wardround.common.model.factors import check_factors
from wardround.common.model.initial import Initial, read_initial
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import MODEL, ModelForm, listed
from wardround.common.privacy.incompatible import check_model, check_task
from wardround.common.protocol.totals import Totals
from wardround.common.run.sums import write_sums
from wardround.common.secagg.content import record_digest
from wardround.common.secagg.messages import FIRST, Blind
from wardround.server.gathering.cohorts import STATELESS
from wardround.server.gathering.gatherer import RunSettings
from wardround.server.gathering.host import Attempts, KnownModel, given_up
from wardround.server.gathering.strategy import check_narrow
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.members.sampling import (
    draw_cohort,
    fewest_hospitals,
    here,
    largest_weight,
    training,
)
from wardround.server.rounds.able import able, budgets_spent
from wardround.server.rounds.blind import leave_with_hospitals
from wardround.server.rounds.buffer import Buffer
from wardround.server.rounds.checkpoint import FederationState, newest_checkpoint
from wardround.server.rounds.commits import Commits
from wardround.server.rounds.ends import MOST_LOST, BudgetsSpent, RoundLost
from wardround.server.rounds.evaluating import Evaluator, check_selection, round_line
from wardround.server.rounds.figures import FigureMaker
from wardround.server.rounds.finishing import chosen_round, finish_model
from wardround.server.rounds.judging import judge_model
from wardround.server.rounds.participants import Participants
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.preparation import Preparation
from wardround.server.rounds.round import RoundRunner, TrainResult
from wardround.server.rounds.selection import patience_spent
from wardround.server.secagg.journal import Journal
from wardround.server.strategies import StrategyPlan, build_strategy, check_hospitals
from wardround.server.strategies.state import capture_state, restore_state


@dataclass(frozen=True)
class FederationOutcome:
    """A finished run: the chosen round's model and the totals it needs.

    model : values of the entries that hospitals share
    form : what a file of the model holds
    accepted : the round that each hospital's personal entries of this model are from
    """

    model: Arrays
    totals: Sums
    round: int
    members: Sequence[Member]
    form: ModelForm
    accepted: dict[str, int]


class Federation:
    """One run of a federation, against any Flower ``Grid``."""

    def __init__(self, parts: FederationParts) -> None:
        self._parts, self._config = parts, parts.config
        self._task, self._host = parts.task, parts.host
        self._run_directory, self._observer = parts.run_directory, parts.observer
        self._evaluator = Evaluator(parts)
        folder = parts.run_directory.journal if parts.keep_journal else None
        self._journal = Journal(folder, parts.config.secure_aggregation)
        self._commits = Commits(parts.run_directory, not parts.config.privacy.enabled)
        self._buffer: Buffer | None = None
        self._lost = 0  # rounds in a row, up to the present one

    def run(self, grid: Grid) -> FederationOutcome:
        """All remaining rounds; writes the final model. Raises WardroundError subclasses."""
        plan = build_strategy(self._config)
        settings = RunSettings(config=self._config, task=self._task, plan=plan)
        participants = Participants(
            self._parts, grid=grid, settings=settings, journal=self._journal
        )
        check_hospitals(self._config, len(participants.members))
        check_selection(self._config, participants.members)
        state = newest_checkpoint(self._run_directory.checkpoints)
        initial = read_initial(self._config) if state is None else None
        totals = state.totals if state else Preparation(self._parts).run(participants)
        model = build_model(self._task, totals, self._config.federation.seed)
        form = ModelForm.of(self._task, model, entries_of(self._config, model), totals)
        layout = layout_of(form.entries.only(model_arrays(model), *SHARED))
        if state is None:
            arrays = self._first_arrays(initial, model, form)
            state = self._first_state(plan, arrays, totals, form, participants.members)
        else:
            self._resume(state, plan, model, form)
            if not self._parts.keep_journal:
                # simulated hospitals' limits stay; elsewhere one may have been raised since
                participants.budgets.spent |= set(state.spent)
        check_task(self._config, self._task)
        check_model(self._config, model, form.entries.personal)
        check_factors(self._config, form.low_rank, form.entries.personal)
        check_narrow(self._config, plan, layout)
        runner = RoundRunner(
            settings,
            grid=grid,
            participants=participants,
            totals=Totals.of(totals),
            form=form,
            figures=FigureMaker(self._config, self._task, totals),
            largest_weight=state.largest_weight,
            layout=layout,
        )
        if self._config.federation.buffered:
            self._buffer = Buffer.of(self._parts, runner, grid, plan.algorithm, state)
        norm = state.clipping_norm or self._config.privacy.clipping_norm
        cohort = len(training(participants.members))
        expected = runner.expected(
            state.round + 1, state.model, cohort, norm, blind=state.sent_blind
        )
        self._host.on_model(KnownModel(expected, state.first_model))
        del model, expected  # it would stay in memory for the rest of the run
        self._rounds(runner, plan, state)
        chosen = chosen_round(self._parts, state, self._lost)
        kept = state.figure_sums.get(chosen.round)
        judge_model(self._parts, participants, self._journal, chosen, kept, form)
        return self._finish(state, chosen, participants, form)

    def _rounds(self, runner: RoundRunner, plan: StrategyPlan, state: FederationState) -> None:
        """All that are left, and on the disk."""
        table, last = self._config.evaluation, self._config.federation.rounds
        with self._commits:
            for server_round in range(state.round + 1, last + 1):
                if (reason := patience_spent(state, table, self._task)) is not None:
                    self._end_early(state, reason)
                    break
                try:
                    self._round(runner, plan, state, server_round)
                except BudgetsSpent as error:
                    if state.round == 0:
                        raise RoundFailed(str(error)) from None
                    self._evaluate_last(runner, plan, state)
                    self._end_early(state, str(error))
                    break

    def _end_early(self, state: FederationState, reason: str) -> None:
        last = f"round {state.round} of {self._config.federation.rounds} is the last"
        self._observer.warnings([f"{reason}; {last}"])
        self._run_directory.update(ended_early=reason)

    # --- set-up ------------------------------------------------------------------------------
    def _first_arrays(self, initial: Initial | None, model: nn.Module, form: ModelForm) -> Arrays:
        """The first model's shared entries: as the task makes them, or from the file of
        ``federation.initial``."""
        arrays = model_arrays(model)
        if initial is not None:
            found = initial.first(arrays, form)
            self._observer.warnings([found.line(initial.path.name)])
            self._run_directory.update(initial=initial.record(found))
            arrays = found.arrays
        return form.entries.only(arrays, *SHARED)

    def _first_state(
        self,
        plan: StrategyPlan,
        arrays: Arrays,
        totals: Sums,
        form: ModelForm,
        members: Sequence[Member],
    ) -> FederationState:
        if plan.ours:
            plan.ours.prepare(arrays, form.entries.parameters, len(training(members)))
        state = FederationState(
            0,
            arrays,
            totals,
            frozen=form.frozen_digest,
            largest_weight=largest_weight(self._config, plan.weighting, members),
            first_model=record_digest(encode_arrays(arrays)).hex(),
            blind=FIRST.to_bytes() if self._config.secure_aggregation.blind else b"",
        )
        self._commit(state, plan)
        return state

    def _resume(
        self, state: FederationState, plan: StrategyPlan, model: nn.Module, form: ModelForm
    ) -> None:
        shared = form.entries.only(model_arrays(model), *SHARED)
        if state.blind:
            self._run_directory.keep_rounds(state.round)
            self._observer.progress(f"going on after round {state.round}")
            restore_state(plan.strategy, state.strategy_arrays, state.strategy_tree)
            return
        if layout_of(state.model) != layout_of(shared):
            raise CheckpointError("the checkpoint is of another model than the task now builds")
        if state.frozen not in ("", form.frozen_digest):
            raise CheckpointError(
                "the task now makes other frozen entries than when the run began; use the versions "
                "that environment.json names"
            )
        # a file sorts its arrays; a strategy's lists (Flower's momentum) have the model's order
        state.model = {name: state.model[name] for name in shared}
        restore_state(plan.strategy, state.strategy_arrays, state.strategy_tree)
        self._run_directory.keep_rounds(state.round)
        self._observer.progress(f"going on after round {state.round}")

    # --- rounds ------------------------------------------------------------------------------
    def _round(
        self,
        runner: RoundRunner,
        plan: StrategyPlan,
        state: FederationState,
        server_round: int,
    ) -> None:
        """One round, to its commit: train, evaluate, the line, the checkpoint.

        The line of ``metrics.jsonl`` comes first: a resumed run forgets lines that no checkpoint
        follows, while a checkpoint without its line would leave a gap for good.
        """
        lost = ""
        try:
            trained, cohort, attempt = self._train(runner, state, server_round)
            self._lost = 0
        except RoundLost as error:
            lost, cohort, attempt = str(error), [], self._journal.attempt
            self._lost += 1
            trained = TrainResult.nothing(state, error.failed)
            self._observer.warnings([f"round {server_round} is lost: {lost}; the model stays"])
        self._commits.wait()  # the last round's
        state.model, state.blind = trained.model, trained.blind
        # who can't remember a round needn't be told of it: a virtual population's list would grow
        stateless = not runner.entries.of_hospitals and plan.algorithm in STATELESS
        if not stateless or not isinstance(runner.participants.members, VirtualMembers):
            state.accepted |= dict.fromkeys(trained.gathered.accepted, server_round)
        state.round = server_round
        state.spent = sorted(runner.participants.budgets.spent)
        state.clipping_norm, state.scales = trained.clipping_norm, trained.scales
        due = server_round % self._config.evaluation.every == 0 or self._is_last(server_round)
        secure = self._config.secure_aggregation.enabled
        row = round_line(server_round, attempt, cohort, trained, secure)
        if lost:
            row["lost"] = lost
        if self._buffer:
            state.ready = self._buffer.over(row, self._is_last(server_round))
        if due or budgets_spent(runner.participants, self._config) is not None:
            row = self._evaluator.add_figures(row, runner, state)
        self._run_directory.append_round(row)
        self._commit(state, plan)
        self._observer.round_committed(row)

    def _evaluate_last(
        self, runner: RoundRunner, plan: StrategyPlan, state: FederationState
    ) -> None:
        """Evaluate the last round that was made, if it wasn't: the run ends before it was due."""
        row = self._run_directory.rounds()[-1]
        if row["overall"]:
            return
        row = self._evaluator.add_figures(row, runner, state)
        self._commit(state, plan)
        self._run_directory.replace_round(row)
        self._observer.round_evaluated(row)

    def _train(
        self, runner: RoundRunner, state: FederationState, server_round: int
    ) -> tuple[TrainResult, list[Member], int]:
        """The model, the cohort that made it, and which attempt it was.

        Each attempt looks at the members anew and draws another cohort, from (seed, round,
        attempt), so that a resumed run draws the same; but for a sum that somebody has given shares
        for, which is tried to be opened again. A failed one leaves nothing else: its keys are
        burnt, the state that clients begin from is the last accepted one.

        Raises RoundFailed after the last attempt, RoundLost where the hospitals have taken part in
        a sum of this round that can't be opened, and BudgetsSpent where none can be made.
        """
        federation, participants = self._config.federation, runner.participants
        # a sum that a server who died had begun to open is of that attempt, and of its cohort
        kept = self._journal.find(f"train {server_round}")
        attempts = Attempts(federation.round_attempts, self._host, kept.attempt if kept else 1)
        for attempt in attempts:
            self._host.wait_ready(False)
            try:
                participants.look_again()
                cohort = self._cohort(runner, state, server_round, attempt)
                self._journal.attempt = attempt
                self._observer.round_started(server_round, [x.name for x in cohort], attempt)
                requests = (
                    self._buffer.requests(server_round, state.model) if self._buffer else None
                )
                goes_by = state.accepted, state.clipping_norm, state.scales
                result = runner.train(
                    server_round, state.model, cohort, *goes_by, requests, state.sent_blind
                )
                return result, cohort, attempt
            except RoundFailed as error:
                self._observer.round_failed(server_round, attempt, str(error))
                able(participants, self._config)
                spoiled = self._journal.pending.is_spoiled(f"train {server_round}")
                over = spoiled or isinstance(error, NobodyContributed | PartlyFailed)
                if over or not attempts.another():
                    self._check_lost(participants, server_round, error)
                    left = state.round
                    raise given_up(error, server_round, attempt, left, self._host) from None
                time.sleep(federation.retry_wait_s)
        raise AssertionError("unreachable: attempts don't end by themselves")

    def _cohort(
        self, runner: RoundRunner, state: FederationState, server_round: int, attempt: int
    ) -> list[Member]:
        """Whom an attempt at a round asks. Raises RoundFailed where nobody can be."""
        federation, purpose = self._config.federation, f"train {server_round}"
        participants, buffer = runner.participants, self._buffer
        if begun := self._journal.begun(purpose):  # whoever of it is here
            if cohort := [one for one in participants.members if one.name in begun]:
                return buffer.again(server_round, cohort) if buffer else cohort
        out, asked = self._journal.pending.out(purpose), able(participants, self._config)
        if buffer:
            return buffer.next_group(server_round, state.model, asked, out)
        asked = here(self._host.present(asked), self._host.gone())
        if out:
            asked = [one for one in asked if one.name not in out]
        cohort = draw_cohort(
            asked, federation.clients_per_round, federation.seed, server_round, attempt
        )
        if not cohort:  # a strategy would wait for somebody for ever
            raise RoundFailed("nobody who is here has rows to train on")
        return cohort

    def _check_lost(
        self, participants: Participants, server_round: int, error: RoundFailed
    ) -> None:
        """Raise RoundLost if hospitals have given shares for a sum of the round that isn't open,
        or that some had nothing to add to: no further attempt would be better, and a next round may
        be."""
        if isinstance(error, PartlyFailed) and self._lost < MOST_LOST:
            raise RoundLost(str(error), error.failed)  # who fails often stops by itself
        purpose = f"train {server_round}"
        given = self._journal.pending.out(purpose) | self._journal.pending.gave(purpose)
        if self._journal.pending.is_spoiled(purpose) or self._lost:
            return  # it would be the same in the next round: somebody must look
        if given and len(training(participants.members)) >= fewest_hospitals(self._config):
            raise RoundLost(
                f"{len(given)} hospitals gave shares for a sum that can't be opened, and take part "
                f"in no other of this round: {error}"
            ) from None

    def _is_last(self, server_round: int) -> bool:
        return server_round == self._config.federation.rounds

    def _commit(self, state: FederationState, plan: StrategyPlan) -> None:
        """Make a round count: the clients' states of a simulation, then the checkpoint. Only when
        that is renamed into place is the round's journal of no use any more."""
        state.strategy_arrays, state.strategy_tree = capture_state(plan.strategy)
        self._parts.before_commit(state.round)
        self._commits.make(state)
        self._journal.clear()

    def _finish(
        self,
        state: FederationState,
        chosen: FederationState,
        participants: Participants,
        form: ModelForm,
    ) -> FederationOutcome:
        leave_with_hospitals(self._parts, participants, chosen, form)
        members, model = participants.members, chosen.model
        if not chosen.blind:
            finish_model(self._parts, model, chosen.totals, chosen.round, form)
        elif self._parts.blind_model is not None:
            model = self._parts.blind_model(Blind.from_bytes(chosen.blind).round)
            finish_model(self._parts, model, chosen.totals, chosen.round, form)
        else:
            self._observer.progress("the model is at the hospitals: this server can't read it")
        if form.entries.own_model:
            self._observer.progress(f"{MODEL} is the shared model; each hospital has its own")
        elif personal := form.entries.personal:
            self._observer.progress(
                f"{MODEL} leaves out what stays with each hospital: {listed(personal)}"
            )
        write_sums(self._run_directory, state.figure_sums.get(chosen.round))
        self._run_directory.update(status="complete", chosen_round=chosen.round)
        self._journal.close()
        return FederationOutcome(model, chosen.totals, chosen.round, members, form, chosen.accepted)
