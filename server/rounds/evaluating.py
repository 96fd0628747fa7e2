"""A round's line of ``metrics.jsonl``: who took part, and its model's figures.

Which hospitals a figure is over stands beside it (``over``). Where others evaluate than when the
best model so far was, that one is evaluated again by the same, so that the two can be compared
(``server/rounds/selection.py``); with secure aggregation comparison starts anew instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from wardround.common.config.load import Config
from wardround.common.errors import RoundFailed
from wardround.common.flower.arrays import Arrays
from wardround.server.gathering.gatherer import Trained
from wardround.server.members.lazy import VirtualMembers
from wardround.server.members.member import Member
from wardround.server.members.sampling import evaluated
from wardround.server.rounds.checkpoint import FederationState, checkpoint_path, read_checkpoint
from wardround.server.rounds.parts import FederationParts
from wardround.server.rounds.round import EvaluationResult, RoundRunner, TrainResult
from wardround.server.rounds.selection import note_figure, selects


class Evaluator:
    """Evaluates the models of a run."""

    def __init__(self, parts: FederationParts) -> None:
        self._config, self._task, self._host = parts.config, parts.task, parts.host
        self._run_directory, self._observer = parts.run_directory, parts.observer
        self._told: set[str] = set()
        self._masked = parts.config.secure_aggregation.enabled

    def add_figures(
        self,
        row: dict[str, Any],
        runner: RoundRunner,
        state: FederationState,
    ) -> dict[str, Any]:
        """The round's line of ``metrics.jsonl`` with figures of the state's model, and of the best
        one so far where other hospitals evaluate than before: but not under masks, where two
        sums of one model over other hospitals would open who joined or left, nor where figures
        carry noise, which is paid for each time."""

        def again() -> EvaluationResult:
            path = checkpoint_path(self._run_directory.checkpoints, state.best_round or 0)
            return self._evaluate(runner, state, read_checkpoint(path).model, "best")

        table, best = self._config.evaluation, state.best_round
        result = self._evaluate(runner, state, state.model)
        # personal layers of an earlier round are at no hospital any more; noise costs once more
        other = runner.entries.of_hospitals or self._masked or result.noised
        may = again if selects(table) and not other else None
        noted = note_figure(state, result, self._task.figure_table().primary, may)
        if noted.note is not None and selects(table) and noted.note not in self._told:
            self._told.add(noted.note)
            self._observer.warnings([f"round {state.round}: {noted.note}"])
        state.note_best_blind()
        evaluations = [result.kept(state.round, self._masked)]
        if noted.again is not None and best is not None:
            evaluations.append(noted.again.kept(best, self._masked))
        state.keep_sums(*evaluations)
        return _with_figures(row, result, noted.again, best)

    def _evaluate(
        self, runner: RoundRunner, state: FederationState, model: Arrays, what: str = ""
    ) -> EvaluationResult:
        """Figures of a model; taken once more where the membership changed meanwhile and somebody
        didn't answer for it. Never once more under masks after a sum of it was opened.

        what : which model it is, where it isn't the round's own: strategies aren't told of it
        """
        while True:  # each turn needs another change of the membership, made by people
            standing = self._host.standing()
            try:
                runner.participants.look_again()
            except RoundFailed as error:  # the model is good all the same
                self._observer.warnings([f"round {state.round} is not evaluated: {error}"])
                return EvaluationResult()
            asked = evaluated(runner.participants.members, self._config)
            last = state.round == self._config.federation.rounds
            asked = runner.participants.budgets.evaluating(asked, last)
            if not last:  # who trains meanwhile would answer when that is done
                busy = runner.participants.at_work()
                asked = [member for member in asked if member.name not in busy]
            if runner.entries.of_hospitals:  # what is never trained there would be measured
                asked = [member for member in asked if member.trains]
            best = state.best_round if self._config.evaluation.select == "best" else None
            found = runner.evaluate(
                state.round, model, asked, state.accepted, what, best, state.sent_blind
            )
            opened = self._masked and bool(found.gathered.sums)
            if not found.refused or opened or standing == self._host.standing():
                if not what:
                    runner.tell_strategy(state.round, found)
                return found
            self._host.wait_ready(False)


def check_selection(config: Config, members: Sequence[Member]) -> None:
    """Raise ConfigError where a round is to be chosen by rows that nobody has.

    Only now it is known: the data may give validation rows that no setting tells of.
    """
    table = config.evaluation
    if not selects(table):
        return
    if isinstance(members, VirtualMembers):  # where each has its own, the first evaluation tells
        sizes = [members.same_sizes] if members.same_sizes else []
    else:
        sizes = [member.sizes for member in members]
    if sizes and not any(one["validation"] for one in sizes):
        key = "evaluation.select" if table.select == "best" else "evaluation.patience"
        raise config.error(
            key,
            "chooses by validation rows, never by test rows, and no hospital has any; set "
            "data.validation_fraction above 0 or give validation rows with the data, or choose "
            "nothing: evaluation.select = 'last', evaluation.patience = 0",
        )


def round_line(
    server_round: int,
    attempt: int,
    cohort: list[Member],
    trained: TrainResult,
    secure: bool,
) -> dict[str, Any]:
    """A line of ``metrics.jsonl``, without figures. ``hidden``: the server can't know those of
    single hospitals. ``failed``: by step (``train``) or split, how many hospitals added nothing to
    a masked sum."""
    training = trained.gathered
    return {
        "round": server_round,
        "attempt": attempt,
        "cohort": [member.name for member in cohort],
        "accepted": training.accepted,
        "refused": training.refused,
        "failed": {"train": training.failed} if training.failed else {},
        "train_loss": trained.loss,
        **EvaluationResult().record(),
        "hidden": secure,
        "clipped": training.clipped,
        "resolution": training.resolution,
        "privacy": {name: claim.row() for name, claim in sorted(training.claims.items())},
        "clipping_norm": trained.clipping_norm,
        "bytes_down": training.bytes_down,
        "bytes_up": training.bytes_up,
        "training_bytes": _per_hospital(training),
        "seconds": {"train": trained.seconds, "evaluate": 0.0, "total": trained.seconds},
    } | ({} if training.factors_error is None else {"factors_error": training.factors_error})


def _per_hospital(training: Trained) -> dict[str, int]:
    """Bytes that training took of each hospital that answered usefully, in the mean: ``up`` from
    it, ``down`` to it, keys and shares of masks among them."""
    count = max(1, len(training.accepted))
    return {"up": training.bytes_up // count, "down": training.bytes_down // count}


def _with_figures(
    row: dict[str, Any],
    evaluation: EvaluationResult,
    again: EvaluationResult | None,
    best_round: int | None,
) -> dict[str, Any]:
    """The line with its model's figures, and those of the best model by the same hospitals."""
    made, second = [evaluation], {}
    failed = {split: count for split, count in evaluation.gathered.failed.items() if count}
    if again is not None:
        made.append(again)
        second = {"again": {"round": best_round, "refused": again.refused, **again.record()}}
    seconds = math.fsum(one.seconds for one in made)
    train = row["seconds"]["train"]
    return {
        **row,
        **evaluation.record(),
        **second,
        "failed": row.get("failed", {}) | failed,
        "refused": row["refused"] + [line for one in made for line in one.refused],
        "bytes_down": row["bytes_down"] + sum(one.gathered.bytes_down for one in made),
        "bytes_up": row["bytes_up"] + sum(one.gathered.bytes_up for one in made),
        "seconds": {"train": train, "evaluate": seconds, "total": train + seconds},
    }
