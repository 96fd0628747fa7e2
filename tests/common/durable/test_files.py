"""Whole files and added lines, killed before any step on the disk, or with no room on it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from wardround.common.durable.files import append_lines, write_atomically

STEPS = ("fsync", "replace")


class Killed(BaseException):
    """Stands for kill -9."""


def fail_at(patch: pytest.MonkeyPatch, number: int, error: type[BaseException]) -> list[str]:
    """The ``number``-th durable step of the disk fails, and all after it; which were begun."""
    begun: list[str] = []
    for name in STEPS:
        real = getattr(os, name)

        def step(*args: Any, name: str = name, real: Any = real) -> Any:
            begun.append(name)
            if len(begun) >= number:
                raise error
            return real(*args)

        patch.setattr(os, name, step)
    return begun


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("data", [b"new data", [b"new", b" ", memoryview(b"data")]])
def test_a_crash_at_any_step_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool, data: Any
) -> None:
    path, found = tmp_path / "file", []
    for number in range(1, 5):
        path.write_bytes(b"old")
        with monkeypatch.context() as patch:
            begun = fail_at(patch, number, Killed)
            try:
                write_atomically(path, data, private)
            except Killed:
                pass
        found.append((begun[-1], path.read_bytes()))
    assert found == [
        ("fsync", b"old"),  # of the data: nothing has its name before
        ("replace", b"old"),
        ("fsync", b"new data"),  # of the folder
        ("fsync", b"new data"),
    ]
    write_atomically(path, b"again", private)
    assert os.listdir(tmp_path) == ["file"] and path.read_bytes() == b"again"
    assert not private or stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [1, 2])
def test_without_room_nothing_is_left_of_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with monkeypatch.context() as patch, pytest.raises(OSError):
        fail_at(patch, number, OSError)
        write_atomically(tmp_path / "file", b"new", private=True)
    assert os.listdir(tmp_path) == ["file"] and (tmp_path / "file").read_bytes() == b"old"


def test_a_secret_is_never_written_into_a_file_that_another_left(tmp_path: Path) -> None:
    left = tmp_path / ".file.tmp"
    left.write_bytes(b"")
    left.chmod(0o666)
    with open(left, "rb") as watched:
        write_atomically(tmp_path / "file", b"secret", private=True)
        assert watched.read() == b""
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_what_need_not_be_durable_asks_nothing_of_the_disk(tmp_path: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        begun = fail_at(patch, 9, Killed)
        write_atomically(tmp_path / "file", b"x", durable=False)
    assert begun == ["replace"]


def test_lines_are_durable_with_their_file_and_a_torn_one_takes_no_other_along(
    tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "lines"
    with monkeypatch.context() as patch:
        begun = fail_at(patch, 9, Killed)
        append_lines(path, b"1\n", private=True)
        assert begun == ["fsync", "fsync"]  # the line, and the new name in the folder
        append_lines(path, b"2\n3\n")
        assert begun == ["fsync"] * 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open(path, "ab") as file:
        file.write(b"torn")
    append_lines(path, b"4\n")
    assert path.read_bytes() == b"1\n2\n3\ntorn\n4\n"
