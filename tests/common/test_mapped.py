"""Arrays in files: the same numbers, nothing left behind, and memory that is given back."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wardround.common import mapped
from wardround.common.flower.arrays import ArraySpec, Making, encode_array, same_numbers
from wardround.common.flower.stored import StoredArray


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """Where everything is large."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 1)
    mapped.keep_in(tmp_path)
    yield tmp_path
    mapped.keep_in(None)


def resident_bytes(kind: str) -> int:
    """Of this process."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{kind}:\s+(\d+) kB", status)[0]) << 10


def test_without_a_folder_and_below_the_limit_all_is_memory(folder, monkeypatch) -> None:
    assert mapped.is_mapped(mapped.zeros(1)) and not mapped.is_mapped(np.zeros(1))
    monkeypatch.setattr(mapped, "LARGE_BYTES", 100)
    assert not mapped.is_mapped(mapped.zeros(99)) and mapped.is_mapped(mapped.zeros(100))
    mapped.keep_in(None)
    assert not mapped.is_mapped(mapped.zeros(100))


def test_the_file_has_no_name(folder) -> None:
    array = mapped.zeros(1 << 16)
    array[:] = 7
    assert list(folder.iterdir()) == [] and array.sum() == 7 << 16


def test_memory_is_given_back_and_the_numbers_stay(folder) -> None:
    array = mapped.zeros(1 << 26).view(np.float32)
    before = resident_bytes("RssFile")
    for window in mapped.windows(array.size, 4):
        array[window] = window.start
    assert resident_bytes("RssFile") > before + (60 << 20)
    mapped.let_go(array)
    assert resident_bytes("RssFile") < before + (4 << 20)
    for window in mapped.windows(array.size, 4):
        assert (array[window] == window.start).all()


def test_a_part_that_is_let_go_is_the_only_one(folder) -> None:
    array = mapped.zeros(1 << 24)
    before = resident_bytes("RssFile")
    array[:] = 1
    mapped.let_go(array[1 << 23 :])
    left = resident_bytes("RssFile") - before
    assert (7 << 20) < left < (9 << 20)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EOPNOTSUPP])
def test_with_a_full_disk_it_is_memory_and_the_log_says_so(
    folder, monkeypatch, caplog, number
) -> None:
    def fails(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", fails)
    array = mapped.zeros(1 << 10)
    assert not mapped.is_mapped(array) and array.sum() == 0
    assert os.strerror(number) in caplog.text and "1024 bytes" in caplog.text


@pytest.mark.parametrize("count", [0, 1, (1 << 16) - 1, 1 << 16, 3 * (1 << 20) + 5])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_windows_cover_all_once_and_begin_at_multiples(count, size) -> None:
    found = list(mapped.windows(count, size))
    assert [one.start for one in found] == [0, *(one.stop for one in found)][: len(found)]
    assert (found[-1].stop if found else 0) == count
    assert all(one.start % (1 << 16) == 0 for one in found)
    assert all(
        (one.stop - one.start) * size <= max(mapped.WINDOW_BYTES, size << 16) for one in found
    )


def test_arrays_that_are_being_made_lie_together_and_are_sent_from_there(folder) -> None:
    layout = {
        "w": ArraySpec((300, 300), "float32"),
        "n": ArraySpec((), "int64"),
        "e": ArraySpec((0, 4), "float16"),
        "b": ArraySpec((100_000,), "bool"),
    }
    rng = np.random.default_rng(0)
    wanted = {
        name: rng.integers(0, 2, shape).astype(dtype) for name, (shape, dtype) in layout.items()
    }
    made, found = Making(layout), {}
    for name, value in wanted.items():
        if name == "w":
            goal = made.begun(name)
            goal[...] = value
            found[name] = made.finished(goal)
        else:
            found[name] = made.copied(name, value)
    assert all(mapped.is_mapped(one) for name, one in found.items() if name != "e")
    sized = [one for one in found.values() if one.nbytes]
    begins = sorted((one.__array_interface__["data"][0], one.nbytes) for one in sized)
    assert all(
        0 <= b - a - size < 64 for (a, size), (b, _) in zip(begins, begins[1:], strict=False)
    )
    for name, value in wanted.items():
        assert same_numbers(found[name], value) and found[name].dtype == value.dtype
        assert not found[name].flags.writeable
        assert encode_array(found[name]).data == encode_array(value).data
    assert isinstance(encode_array(found["w"]), StoredArray)
    assert not same_numbers(found["w"], 1 - wanted["w"])
    assert not same_numbers(found["w"], wanted["w"][:-1])
