"""What simulated hospitals remember, as an earlier or a later wardround stored it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import CheckpointError
from wardround.common.run.directory import RunDirectory
from wardround.simulations.run.client_states import FORMAT, PersonalEntries


def test_states_from_before_there_were_versions_are_read_and_newer_ones_refused(
    tmp_path: Path,
) -> None:
    run = RunDirectory.create(tmp_path, "f", "")
    path = run.checkpoints / "round-0003.clients"
    weights = np.arange(3.0)
    for state in ({"round": 3}, FORMAT.seal({"round": 3})):
        write_tensors(path, {"north/personal@3/w": weights}, state)
        entries = PersonalEntries(run, 3, {"north": 3})
        assert np.array_equal(entries.of("north")["w"], weights) and entries.of("south") == {}
    write_tensors(path, read_tensors(path)[0], {"round": 3, "version": 2})
    with pytest.raises(CheckpointError, match="clients: .*version 2.*or begin the run anew"):
        PersonalEntries(run, 3, {"north": 3})
