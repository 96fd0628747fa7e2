"""What a hospital's process remembers: whole after a crash at any write, and nothing old left."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, RecordDict

from wardround.client.state import ClientState
from wardround.common.durable.records import DurableState
from wardround.common.errors import ProvisionError
from wardround.common.flower.arrays import encode_arrays


class Killed(BaseException):
    """Stands for kill -9."""


def kill_at_write(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """The ``number``-th fsync or rename never happens, nor anything after it."""
    count = 0
    for name in ("fsync", "replace"):
        original = getattr(os, name)

        def call(*args: object, original=original) -> object:  # type: ignore[no-untyped-def]
            nonlocal count
            count += 1
            if count >= number:
                raise Killed
            return original(*args)

        monkeypatch.setattr(os, name, call)


def content(records: RecordDict) -> dict[str, object]:
    return {
        name: dict(one) if isinstance(one, ConfigRecord) else {k: a.data for k, a in one.items()}
        for name, one in records.items()
    }


def fill(state: DurableState, value: int) -> None:
    view = ClientState(state.records)
    view.set_values("secagg-session", {"n": value, "key": bytes([value]) * 32})
    view.save("personal", {"w": np.full(3, value)}, value, value - 1)


@pytest.mark.parametrize("number", range(1, 14))
def test_a_crash_at_any_write_leaves_the_old_state_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    state = DurableState(tmp_path / "store")
    fill(state, 1)
    state.save()
    old = content(state.records)
    fill(state, 2)
    new = content(state.records)
    with monkeypatch.context() as patch:
        kill_at_write(patch, number)
        try:
            state.save()
            survived = True
        except Killed:
            survived = False
    found = DurableState(tmp_path / "store")
    assert content(found.records) in ((new,) if survived else (old, new))
    assert list(found.records) in (list(old), list(new))
    names = {file.name for file in (tmp_path / "store").iterdir()}
    assert len(names) == 1 + len(found.records), "records of old or of no state are left"
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "store").iterdir())
    found.save()
    fill(found, 3)
    found.save()
    assert content(DurableState(tmp_path / "store").records) == content(found.records)


def test_only_what_changed_is_written_and_old_keys_are_gone(tmp_path: Path) -> None:
    state = DurableState(tmp_path)
    state.records["big"] = encode_arrays({"w": np.ones(1000)})
    ClientState(state.records).set_values("s", {"key": b"first secret"})
    state.save()
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    state.save()
    assert before == {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    ClientState(state.records).set_values("s", {"key": b"second secret"})
    state.save()
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert [name for name in before if kept.get(name) == before[name]] == ["00000001.record"]
    assert not any(b"first secret" in file.read_bytes() for file in tmp_path.iterdir())


def test_a_folder_of_before_there_were_versions_is_read_and_a_newer_one_refused(tmp_path) -> None:
    state = DurableState(tmp_path)
    fill(state, 1)
    state.save()
    path = tmp_path / "index.json"
    index = json.loads(path.read_bytes())
    assert (index.pop("format"), index.pop("version")) == ("state of this hospital", 1)
    path.write_text(json.dumps(index))
    assert content(DurableState(tmp_path).records) == content(state.records)
    before = {file.name for file in tmp_path.iterdir()}
    path.write_text(json.dumps(index | {"version": 2}))
    with pytest.raises(ProvisionError, match="has version 2.*install.*, or move the folder away"):
        DurableState(tmp_path)
    assert before == {file.name for file in tmp_path.iterdir()}


@pytest.mark.parametrize("damage", ["index", "record", "missing"])
def test_damage_is_told_and_never_begun_anew(tmp_path: Path, damage: str) -> None:
    state = DurableState(tmp_path)
    fill(state, 1)
    state.save()
    (record, *_) = tmp_path.glob("*.record")
    if damage == "missing":
        record.unlink()
    else:
        path = record if damage == "record" else tmp_path / "index.json"
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ProvisionError, match="damaged"):
        DurableState(tmp_path)
