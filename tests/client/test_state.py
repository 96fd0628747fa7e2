"""What a client remembers is what a later round can take up."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import RecordDict

from wardround.client.state import ClientState
from wardround.common.errors import ReplyRefused


@pytest.mark.parametrize("wrong", [np.inf, np.nan, 1e13])
def test_what_has_run_away_is_refused_and_the_version_before_stays(wrong: float) -> None:
    """Kept, it ended a whole simulation when its states were written."""
    state = ClientState(RecordDict())
    state.save("personal", {"bias": np.ones(1, np.float32)}, 1, 0)
    with pytest.raises(ReplyRefused, match="'bias' holds .*; lower training.lr"):
        state.save("personal", {"bias": np.array([wrong], np.float32)}, 2, 1)
    kept = state.load("personal", 1)
    assert kept is not None and kept["bias"][0] == 1


def test_arrays_of_another_runs_rounds_are_forgotten_and_keys_are_not() -> None:
    state = ClientState(RecordDict())
    state.begin_run("one")
    state.save("personal", {"w": np.ones(2, np.float32)}, 3, 0)
    state.set_values("secagg-session", {"n": 1})
    state.begin_run("one")
    assert state.load("personal", 3) is not None
    state.begin_run("two")
    assert state.load("personal", 3) is None
    assert state.values("secagg-session") == {"n": 1}
