"""What simulated clients remember, in files beside the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, RecordDict

from wardround.client.requests.kept import PERSONAL
from wardround.client.secagg.blind import blind_arrays
from wardround.client.state import ClientState
from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.durable.versioned import Format
from wardround.common.errors import CheckpointError
from wardround.common.flower.arrays import Arrays, decode_arrays, encode_arrays
from wardround.common.protocol import names as m
from wardround.common.run.directory import RunDirectory
from wardround.server.rounds.checkpoint import (
    checkpoint_path,
    committed_rounds,
    newest_checkpoint,
)
from wardround.simulations.clients import Clients

States = dict[str, RecordDict]
"""By hospital."""
FORMAT = Format("state of simulated hospitals", "begin the run anew")


def store_clients(clients: Clients, run: RunDirectory, server_round: int) -> None:
    """Write the clients' states of a round, before the checkpoint that makes the round count."""
    states = clients.states()
    if states:
        arrays = {
            f"{name}/{record_name}/{key}": value
            for name, state in states.items()
            for record_name, record in m.records_of(state, ArrayRecord).items()
            for key, value in decode_arrays(record).items()
        }
        stored = FORMAT.seal({"round": server_round})
        write_tensors(_clients_path(run, server_round), arrays, stored, durable=not run.lazily)


def forget_torn(run: RunDirectory) -> None:
    """Remove what the machine's end has torn: rounds after the newest one that is whole, with its
    line, its checkpoint and its clients' states. Where none is, nothing."""
    rounds = sorted(committed_rounds(run.checkpoints), reverse=True)
    lines = {0, *(row["round"] for row in run.rounds())}
    for index, number in enumerate(rounds):
        path = checkpoint_path(run.checkpoints, number)
        clients = _clients_path(run, number)
        if number in lines and _is_whole(path) and (_is_whole(clients) or not clients.exists()):
            for torn in rounds[:index]:
                checkpoint_path(run.checkpoints, torn).unlink()
                _clients_path(run, torn).unlink(missing_ok=True)
            return


def _is_whole(path: Path) -> bool:
    try:
        read_tensors(path)
    except CheckpointError:
        return False
    return True


def restore_clients(clients: Clients, run: RunDirectory) -> None:
    """Give the clients back what they remembered after the last committed round."""
    state = newest_checkpoint(run.checkpoints)
    if state is not None and (states := _states(run, state.round)):
        clients.set_states(states)


def blind_model(clients: Clients, server_round: int) -> Arrays:
    """The shared arrays of a blind run's model, by whose sum it was made of last, as any hospital
    has them. Raises CheckpointError where none does."""
    for state in clients.states().values():
        found = blind_arrays(ClientState(state), server_round)
        if found is not None:
            return found
    raise CheckpointError(f"no hospital has the model of round {server_round}")


class PersonalEntries:
    """The hospitals' personal entries that belong to the model of one round.

    Parameters
    ----------
    server_round : a round whose checkpoint is kept: the newest two, and the best
    accepted : the round that each hospital was last accepted in, then
    """

    def __init__(self, run: RunDirectory, server_round: int, accepted: dict[str, int]) -> None:
        self._states, self._accepted = _states(run, server_round), accepted

    def of(self, hospital: str) -> Arrays:
        """This hospital's; none if it has trained in no round until then."""
        state = ClientState(self._states.get(hospital, RecordDict()))
        return state.load(PERSONAL, self._accepted.get(hospital, 0)) or {}


def _clients_path(run: RunDirectory, server_round: int) -> Path:
    return checkpoint_path(run.checkpoints, server_round).with_suffix(".clients")


def _states(run: RunDirectory, server_round: int) -> States:
    path = _clients_path(run, server_round)
    if not path.exists():
        return {}
    arrays, stored = read_tensors(path)
    FORMAT.read(stored, CheckpointError, str(path))
    records: dict[str, dict[str, dict[str, Any]]] = {}
    for key, value in arrays.items():
        name, record_name, entry = key.split("/", 2)
        records.setdefault(name, {}).setdefault(record_name, {})[entry] = value
    return {
        name: RecordDict({key: encode_arrays(value) for key, value in parts.items()})
        for name, parts in records.items()
    }
