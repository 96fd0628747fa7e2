"""Which round has the best model, and when waiting for a better one is over.

Only validation rows choose: test rows would no longer say what the model does with rows that nobody
looked at.
"""

from __future__ import annotations

from wardround.common.config_tables import EvaluationTable
from wardround.common.tasks.base import Task
from wardround.server.checkpoint import FederationState
from wardround.server.rounds import EvaluationResult


def note_figure(state: FederationState, evaluation: EvaluationResult, task: Task[object]) -> None:
    """Remember the best round, or count one more evaluation that wasn't better.

    A figure that is not a number is never better. Rounds without one don't count.
    """
    value = evaluation.overall.get("validation", {}).get(task.primary_metric)
    if value is None:
        return
    if task.figure_table().primary.is_better(value, state.best_value):
        state.best_round, state.best_value, state.not_better = state.round, value, 0
    else:
        state.not_better += 1


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
