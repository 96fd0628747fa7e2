"""Which round has the best model, and when waiting for a better one is over.

Only validation rows choose: test rows would no longer say what the model does with rows that nobody
looked at. Figures are compared over the same hospitals only: when others evaluate than before, the
best model so far is evaluated again, by those who evaluate now, before anything is held against it.
An undefined figure chooses nothing and is no reason to stop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from wardround.common.figures.figure import Figure
from wardround.common.figures.records import model_figure
from wardround.common.settings import EvaluationTable
from wardround.common.tasks.base import Task
from wardround.server.rounds.checkpoint import FederationState
from wardround.server.rounds.round import EvaluationResult

Again = Callable[[], EvaluationResult]
_SPLIT = "validation"


@dataclass(frozen=True)
class Noted:
    """What came of an evaluation beside the state.

    note : what the user should know
    again : the best model's evaluation by the hospitals that evaluate now
    """

    note: str | None = None
    again: EvaluationResult | None = None


def selects(table: EvaluationTable) -> bool:
    """Whether anything depends on the best round."""
    return table.select == "best" or table.patience > 0


def note_figure(
    state: FederationState, evaluation: EvaluationResult, figure: Figure, again: Again | None
) -> Noted:
    """Remember the best round, or count one more evaluation that wasn't better.

    Rounds without an evaluation don't count, nor do undefined figures.

    again : evaluates the best model so far; None: comparison starts anew when the hospitals change
    """
    if _SPLIT not in evaluation.overall:
        if not evaluation.overall:
            return Noted()
        return Noted("none of the hospitals that evaluated has validation rows to choose by")
    value = _figure(evaluation, figure)
    if value is None:
        return Noted(
            f"the validation {figure.name} is undefined (none of the hospitals' validation rows "
            "allow one): it can choose no round; raise data.validation_fraction, or set "
            "evaluation.select = 'last' and evaluation.patience = 0"
        )
    # the order: who it is over, then whether the best is to be compared anew, then the comparison
    over, noted = _digest(evaluation), Noted()
    if state.best_round is not None and state.best_over not in (None, over):
        noted = _renew(state, over, figure, again)
        if state.best_over not in (None, over):
            return noted
    if figure.is_better(value, state.best_value):
        state.best_round, state.best_value, state.not_better = state.round, value, 0
    else:
        state.not_better += 1
    state.best_over = over
    return noted


def _renew(state: FederationState, over: str, figure: Figure, again: Again | None) -> Noted:
    """Put the best model's figure over the present hospitals in the place of the old one."""
    changed = "other hospitals evaluate than before"
    if again is None:
        state.best_round = state.best_value = state.best_over = None
        state.not_better = 0
        return Noted(f"{changed}: models are compared from round {state.round} on only")
    found = again()
    value = _figure(found, figure) if _digest(found) == over else None
    if value is None:
        return Noted(
            f"{changed}, and the best model so far (round {state.best_round}) was not evaluated by "
            f"the same ones: round {state.round} is compared with nothing",
            found,
        )
    before, state.best_value, state.best_over = state.best_value, value, over
    return Noted(
        f"{changed}: the model of round {state.best_round}, the best so far, has a validation "
        f"{figure.name} of {value:.4g} there ({before:.4g} before)",
        found,
    )


def patience_spent(
    state: FederationState, table: EvaluationTable, task: Task[object]
) -> str | None:
    """Why no further round is to be trained; None if one is."""
    if not table.patience or state.not_better < table.patience:
        return None
    best = "there has been none"
    if state.best_round is not None:
        best = f"the best one is {state.best_value:.4g} in round {state.best_round}"
    return (
        f"the validation {task.primary_metric} has not improved in {state.not_better} evaluated "
        f"rounds (evaluation.patience = {table.patience}); {best}"
    )


def _figure(evaluation: EvaluationResult, figure: Figure) -> float | None:
    return model_figure(evaluation.record(), _SPLIT, figure)


def _digest(evaluation: EvaluationResult) -> str:
    """Of the names of the hospitals that a figure is over: a checkpoint needn't list them. How many
    of them had nothing to add to a masked sum is part of it; nobody knows which."""
    names = "\n".join(sorted(evaluation.over.get(_SPLIT, ())))
    if failed := evaluation.gathered.failed.get(_SPLIT):
        names += f"\nbut {failed}"
    return hashlib.sha256(names.encode()).hexdigest()[:16]
