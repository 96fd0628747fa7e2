"""The model of a study's results as this hospital has it: with its own personal layers.

Where nothing is personal it is the package's file. Else the hospital kept its whole model of each
evaluated round (``client/requests/own_model.py``): that of the results' round is put beside the
shared one, if all that they share is the same, bit for bit. So it is also seen that the model in
the results is the one that was evaluated here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from wardround.client.data.hospital import Hospital
from wardround.client.requests.own_model import own_model_path
from wardround.common.durable.files import write_atomically
from wardround.common.durable.private import private_folder
from wardround.common.durable.tensors import read_tensors
from wardround.common.errors import CheckpointError
from wardround.common.figures.sums import Sums
from wardround.common.model.named import build_model
from wardround.common.model.saved import (
    MODEL,
    PERSONAL,
    PREPARATION,
    hospital_path,
    listed,
    load_file,
)
from wardround.common.model_folder.listed import Listed, read_list

FOLDER = "model"
_PIECE_BYTES = 1 << 20


def load_results(hospital: Hospital, folder: Path) -> tuple[nn.Module, Sums]:
    """The results' model as it was trained, on the hospital's device, and the totals that it needs.

    Where entries are personal, the whole model is first written to ``model/hospitals/NAME``.

    Raises CheckpointError if it isn't the whole model of this hospital's task.
    """
    place = model_folder(hospital, folder)
    if place != folder / FOLDER and Listed.read(read_list(place), str(place)).run != folder.name:
        raise CheckpointError(f"{place}: it is of another run, and these results have no model")
    path = place / MODEL
    totals, _ = read_tensors(place / PREPARATION)
    shared, state = read_tensors(path)
    if state.get(PERSONAL) and place != folder / FOLDER:
        path = hospital_path(place, hospital.name)
    elif state.get(PERSONAL):
        path = _join(hospital, folder, shared, int(state["round"]), state[PERSONAL])
    model = build_model(hospital.task, totals, hospital.config.federation.seed)
    load_file(path, hospital.task, model)
    return model.to(hospital.config.training.device), totals


def model_folder(hospital: Hospital, folder: Path) -> Path:
    """Where the model of these results is: among them, or of a blind run this hospital's own, for
    nobody else could write it."""
    own = hospital.model_folder
    blind = hospital.config.secure_aggregation.blind
    return own if blind and own is not None else folder / FOLDER


def _join(
    hospital: Hospital,
    folder: Path,
    shared: dict[str, np.ndarray],
    server_round: int,
    personal: list[str],
) -> Path:
    place = hospital.model_folder
    own = own_model_path(place, server_round) if place is not None else None
    if own is None or not own.is_file():
        raise CheckpointError(
            f"{listed(personal)} stay with each hospital, and this one has none of round "
            f"{server_round}: it didn't evaluate that round's model"
        )
    whole, _ = read_tensors(own)
    for name, value in shared.items():
        if name not in whole or not (name in personal or np.array_equal(whole[name], value)):
            raise CheckpointError(
                f"'{name}' in the results isn't what this hospital evaluated in round "
                f"{server_round}, so its own layers don't belong to it"
            )
    target = hospital_path(folder / FOLDER, hospital.name)
    private_folder(target.parent)
    with open(own, "rb") as file:
        write_atomically(target, iter(lambda: file.read(_PIECE_BYTES), b""), private=True)
    return target
