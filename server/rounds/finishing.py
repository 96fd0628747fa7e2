"""The end of a run: the chosen round's model becomes a folder that stands by itself, signed."""

from __future__ import annotations

from wardround.common.errors import RoundFailed
from wardround.common.figures.converging import still_falling
from wardround.common.figures.figure import is_number
from wardround.common.figures.sums import Sums
from wardround.common.flower.arrays import Arrays
from wardround.common.model.saved import MODEL, ModelForm, write_preparation
from wardround.common.model_folder.write import describe_model, seal_folder
from wardround.common.run.traffic import training_bytes
from wardround.common.tasks.coefficients import FILE as COEFFICIENTS
from wardround.server.rounds.checkpoint import (
    FederationState,
    checkpoint_path,
    read_checkpoint,
)
from wardround.server.rounds.parts import FederationParts


def chosen_round(parts: FederationParts, state: FederationState, lost: int) -> FederationState:
    """The round whose model the run leaves.

    lost : how many rounds in a row, up to the last one, have no update

    Raises RoundFailed where no round was made.
    """
    if 0 < state.round == lost:
        raise RoundFailed("no round was made: all were lost", mend=parts.host.anew)
    if parts.config.evaluation.select != "best":
        return state
    if state.best_round is None:
        note = "no round had a validation figure to be chosen by: the last one's model is kept"
        parts.observer.warnings([note])
        parts.run_directory.update(not_chosen=note)
        return state
    return read_checkpoint(checkpoint_path(parts.run_directory.checkpoints, state.best_round))


def finish_model(
    parts: FederationParts, model: Arrays, totals: Sums, chosen_round: int, form: ModelForm
) -> str:
    """Write the model folder of a run; the same again if it is there already.

    model : values of the shared entries

    Returns the digest of its ``files.json``. Raises OSError.
    """
    folder, config = parts.run_directory.model, parts.config
    form.write(folder / MODEL, model, chosen_round, config.federation.seed)
    write_preparation(folder, totals)
    describe_model(folder, config, parts.task, totals)
    errors = [
        row["factors_error"] for row in parts.run_directory.rounds() if "factors_error" in row
    ]
    if errors:
        parts.run_directory.update(factors_error={"largest": max(errors), "rounds": len(errors)})
    size = training_bytes(parts.run_directory.rounds())
    parts.run_directory.update(training_bytes=size)
    _tell_of_falling(parts, chosen_round)
    return seal_model(parts, chosen_round)


def _tell_of_falling(parts: FederationParts, chosen_round: int) -> None:
    """Say so where the last round's model is the result, and its training loss still fell."""
    rows = parts.run_directory.rounds()
    known = [row for row in rows if is_number(row["train_loss"])]
    falling = still_falling([row["train_loss"] for row in known])
    if falling is None or rows[-1]["round"] != chosen_round:
        return
    linear = (parts.run_directory.model / COEFFICIENTS).exists()
    fitted = "; a regression of the procedure 'statistics' is fitted to its end" * linear
    line = (
        "it has not converged: the training loss was still falling when the run ended, and rounds "
        f"{known[falling.since - 1]['round']} to {known[-1]['round']} brought "
        f"{falling.share:.0%} of its whole fall; more rounds (federation.rounds) or a higher "
        f"training.lr may help{fitted}"
    )
    parts.observer.warnings([line])
    parts.run_directory.update(falling=line)


def seal_model(parts: FederationParts, chosen_round: int) -> str:
    """List and sign all that lies in a run's model folder; its digest stands in ``run.json``."""
    digest = seal_folder(
        parts.run_directory.model,
        run=parts.run_directory.path.name,
        round=chosen_round,
        identity=parts.identity,
        network=parts.config.federation.name,
        study=parts.study,
        valid_days=parts.config.card.valid_days,
    )
    parts.run_directory.update(model_digest=digest)
    return digest
