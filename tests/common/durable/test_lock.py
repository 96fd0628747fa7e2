"""One process holds a lock, and its forks if it says so; others are told who, whatever the disk
does."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from wardround.common.durable.lock import lock_holder, take_lock, try_lock
from wardround.common.errors import TransportError


def test_who_holds_it_is_told_and_it_is_free_when_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(path) is None
    with take_lock(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert lock_holder(path) == os.getpid() and try_lock(path) is None
        with pytest.raises(TransportError, match=f"already running .process {os.getpid()}.; stop"):
            take_lock(path)
    assert lock_holder(path) is None
    take_lock(path).close()


@pytest.mark.parametrize("with_forks", [True, False])
def test_whether_a_fork_holds_it_on_when_its_parent_is_gone(
    tmp_path: Path, with_forks: bool
) -> None:
    """A killed simulation's worker that still computes doesn't keep its run from being resumed."""
    lock = try_lock(tmp_path / "lock", with_forks=with_forks)
    assert lock is not None
    reader, writer = os.pipe()
    begun, begins = os.pipe()
    if (child := os.fork()) == 0:
        os.close(writer)
        os.write(begins, b"x")
        os.read(reader, 1)
        os._exit(0)
    os.read(begun, 1)
    lock.close()
    try:
        again = try_lock(tmp_path / "lock")
        assert (again is None) == with_forks
        if again is not None:
            again.close()
    finally:
        os.close(writer)
        os.waitpid(child, 0)
    assert lock_holder(tmp_path / "lock") is None


def test_a_full_disk_keeps_nobody_from_holding_it(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "lock"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("json.dumps", full)
        lock = take_lock(path)
    assert try_lock(path) is None
    with pytest.raises(TransportError, match="is held, but by whom isn't in it"):
        lock_holder(path)
    with pytest.raises(TransportError, match="already running .another process."):
        take_lock(path)
    lock.close()
    assert lock_holder(path) is None


def test_what_cant_be_locked_says_why_and_isnt_called_running(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TransportError, match="link: can't be locked"):
        take_lock(tmp_path / "link")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(FileNotFoundError):
        try_lock(tmp_path / "lock", make=False)

    def none_here(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none_here)
    with pytest.raises(TransportError, match="can't be locked .No locks available"):
        take_lock(tmp_path / "lock")
