"""Checkpoints: whole or not at all, checked, pruned; any strategy's state survives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from wardround.common.durable.tensors import read_tensors, write_tensors
from wardround.common.errors import CheckpointError, StrategyError
from wardround.server.rounds.checkpoint import (
    FederationState,
    checkpoint_path,
    committed_rounds,
    newest_checkpoint,
    write_checkpoint,
)
from wardround.server.strategies import INDIVIDUAL, MEAN
from wardround.server.strategies.state import capture_state, restore_state


def state(server_round: int, best: int | None = None) -> FederationState:
    return FederationState(
        server_round,
        {"w": np.full(3, server_round, np.float32)},
        {"count": np.array([4.0])},
        {"m": np.arange(2.0)},
        {"eta": 0.1},
        {"a": server_round},
        best,
        0.5,
    )


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, state(3))
    first = path.read_bytes()
    back = newest_checkpoint(tmp_path)
    assert back is not None and back.round == 3 and back.accepted == {"a": 3}
    np.testing.assert_array_equal(back.model["w"], state(3).model["w"])
    np.testing.assert_array_equal(back.strategy_arrays["m"], [0, 1])
    write_checkpoint(tmp_path, back)
    assert path.read_bytes() == first


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for number in range(1, 8):
        checkpoint_path(tmp_path, number).with_suffix(".clients").write_bytes(b"x")
        write_checkpoint(tmp_path, state(number, best=3 if number >= 3 else None))
    assert committed_rounds(tmp_path) == [3, 6, 7]
    assert len(list(tmp_path.glob("*.clients"))) == 3


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path: Path, damage: str) -> None:
    write_checkpoint(tmp_path, state(1))
    path = write_checkpoint(tmp_path, state(2))
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = bytearray()
    else:
        data[-1] ^= 1
    path.write_bytes(data)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.round == 1
    checkpoint_path(tmp_path, 1).unlink()
    with pytest.raises(CheckpointError, match=r"round-0002\.safetensors"):
        newest_checkpoint(tmp_path)


def rewritten(path: Path, change: dict[str, object], without: Sequence[str] = ()) -> None:
    """The same checkpoint with other keys."""
    arrays, tree = read_tensors(path)
    kept = {key: one for key, one in tree.items() if key not in without}
    write_tensors(path, arrays, kept | change)


def test_a_checkpoint_of_before_there_were_versions_is_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, state(2))
    rewritten(path, {}, without=("format", "version", "spent", "best_over"))
    back = newest_checkpoint(tmp_path)
    assert back is not None and (back.round, back.spent, back.best_over) == (2, [], None)


def test_a_newer_checkpoint_is_not_passed_over_for_an_older_round(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, state(1))
    rewritten(write_checkpoint(tmp_path, state(2)), {"version": 2, "another": 1})
    with pytest.raises(CheckpointError) as caught:
        newest_checkpoint(tmp_path)
    text = str(caught.value)
    assert "round-0002.safetensors: the stored checkpoint has version 2, and this" in text
    assert "install the version of wardround that wrote it, or remove it to go on" in text


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not readable"):
        read_tensors(tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "y.safetensors")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": np.zeros(2)}, {})
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_tensors(path, {"x": np.ones(2)}, {})
    np.testing.assert_array_equal(read_tensors(path)[0]["x"], [0, 0])


class Odd:
    """All kinds of attributes that a strategy may keep."""

    def __init__(self) -> None:
        self.none, self.flag, self.number, self.text = None, True, 1.5, "x"
        self.array = np.arange(3, dtype=np.int32)
        self.nested = {"a": [np.ones(2), 3], "b": (1, "two")}
        self.record = ArrayRecord({"w": Array(np.ones((2, 2), np.float32))})
        self.numpy_scalar = np.float64(0.25)
        self.function = len


def test_any_attributes_survive_a_round_trip(tmp_path: Path) -> None:
    arrays, tree = capture_state(Odd())
    write_tensors(tmp_path / "s", arrays, tree)
    fresh = Odd()
    for name in vars(fresh):
        if name != "function":
            setattr(fresh, name, "lost")
    restore_state(fresh, *read_tensors(tmp_path / "s"))
    assert (fresh.none, fresh.flag, fresh.number, fresh.text) == (None, True, 1.5, "x")
    np.testing.assert_array_equal(fresh.array, [0, 1, 2])
    assert fresh.array.dtype == np.int32
    np.testing.assert_array_equal(fresh.nested["a"][0], [1, 1])
    assert fresh.nested["a"][1] == 3 and fresh.nested["b"] == (1, "two")
    np.testing.assert_array_equal(fresh.record["w"].numpy(), np.ones((2, 2)))
    assert fresh.numpy_scalar == 0.25


def test_state_that_would_be_lost_is_refused_by_name() -> None:
    odd = Odd()
    odd.nested["c"] = {1, 2}
    with pytest.raises(StrategyError, match="a set in 'nested.c'"):
        capture_state(odd)


@pytest.mark.parametrize("name", sorted(MEAN | INDIVIDUAL))
def test_every_strategy_resumed_is_the_uninterrupted_one(
    name, federate, settings, shards, line
) -> None:
    """Stop after round 2 of 4 by lowering the number of rounds, then go on from there.

    Client states travel in the grid, as they would in the hospitals' own processes.
    """
    shards = shards | {"c": shards["a"], "d": shards["b"]}
    # these want two layers
    task = line(norm=name in ("fedbn", "fedper", "fedrep", "moon"))
    options = {"fedavgm": "server_momentum = 0.5\n", "fedtrimmedavg": "beta = 0.25\n"}.get(name, "")

    def config(rounds: int):
        return settings(
            f"[federation]\nrounds = {rounds}\n[training]\nlocal_steps = 2\n"
            f"[strategy]\nname = '{name}'\n{options}"
        )

    whole = federate(config(4), shards, task=task)
    half = federate(config(2), shards, task=task)
    rest = federate(config(4), shards, task=task, directory=half.directory, grid=half.grid)
    assert [row["round"] for row in rest.directory.rounds()] == [1, 2, 3, 4]
    for key, value in whole.outcome.model.items():
        np.testing.assert_array_equal(rest.outcome.model[key], value)
