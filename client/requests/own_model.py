"""A hospital's own whole model, where entries are personal: nobody else can have it.

At every evaluation the shared model of that round is here, and so are the personal entries that
belong to it: then it is written. Kept are the newest one and the best so far, as the server says; a
run's result is one of the two, and its report names the round.

    KIT/model/round-0015.safetensors   preparation.safetensors

Of a blind run it is the whole model folder, when the run is over: the server has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.requests.received import Received
from wardround.common.durable.private import private_folder
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import CheckpointError
from wardround.common.model.entries import Entries
from wardround.common.model.named import build_model, model_arrays
from wardround.common.model.saved import (
    MODEL,
    PREPARATION,
    ModelForm,
    hospital_path,
    load_file,
    write_preparation,
)
from wardround.common.model_folder.write import describe_model, seal_folder
from wardround.common.tasks.base import Task

FOLDER = "model"
"""In a hospital's kit."""
_FILES = "round-*.safetensors"


def keep_own_model(hospital: Hospital, received: Received, best_round: int) -> None:
    """Write the model that an evaluation request has loaded, if there is a folder for it.

    best_round : the best before it, whose model is kept too
    """
    sent = received.request.model
    folder, number = hospital.model_folder, sent.server_round
    own_model = hospital.config.strategy.keeps == "model"
    if folder is None or not (sent.local_keys or own_model):
        return
    private_folder(folder)
    model = received.model
    form = _form(hospital, received)
    seed = hospital.config.federation.seed
    form.write(own_model_path(folder, number), model_arrays(model), number, seed, hospital.name)
    write_preparation(folder, hospital.totals)
    kept = {own_model_path(folder, number), own_model_path(folder, best_round)}
    for file in set(folder.glob(_FILES)) - kept:
        file.unlink()


def write_blind_model(hospital: Hospital, received: Received) -> None:
    """Write the model of a blind run, which a request has loaded, as a folder that stands by
    itself, signed by this hospital: ``KIT/model``. Again writes the same. Raises OSError."""
    folder, sent, model = hospital.model_folder, received.request.model, received.model
    if folder is None or received.blind is None:
        return
    private_folder(folder)
    for file in folder.glob(_FILES):  # an earlier run's
        file.unlink()
    config, form = hospital.config, _form(hospital, received)
    number, seed = sent.server_round, config.federation.seed
    form.write(folder / MODEL, received.arrays, number, seed)
    if form.entries.of_hospitals:
        path = hospital_path(folder, hospital.name)
        private_folder(path.parent)
        form.write(path, model_arrays(model), number, seed, hospital.name)
    write_preparation(folder, hospital.totals)
    describe_model(folder, config, hospital.task, received.totals)
    seal_folder(
        folder,
        run=hospital.plan.run,
        round=number,
        identity=hospital.identity,
        network=config.federation.name,
        valid_days=config.card.valid_days,
    )


def _form(hospital: Hospital, received: Received) -> ModelForm:
    whole = hospital.config.strategy.keeps == "model"
    entries = Entries.of(received.model, received.request.model.local_keys, whole)
    return ModelForm.of(hospital.task, received.model, entries, received.totals)


def load_own_model(
    folder: Path, task: Task[Any], seed: int, server_round: int | None = None
) -> nn.Module:
    """The hospital's model of a round (by default the newest one), in evaluation mode.

    Raises CheckpointError if it isn't there, or isn't the whole model of this task.
    """
    files = sorted(folder.glob(_FILES))
    path = files[-1] if files else folder / "round-0001.safetensors"
    if server_round is not None:
        path = own_model_path(folder, server_round)
    if not path.exists():
        here = ", ".join(file.stem for file in files) or "none"
        raise CheckpointError(f"{path}: there is no such model; there is {here}")
    totals, _ = read_tensors(folder / PREPARATION)
    model = build_model(task, totals, seed)
    load_file(path, task, model)
    return task.predictor(model.eval(), totals)


def own_model_path(folder: Path, server_round: int) -> Path:
    """Where the whole model of a round stands, if it is kept."""
    return folder / f"round-{server_round:04d}.safetensors"
