"""What is read of a store has the bits of the same rows in memory; a file that isn't whole is never
read as if it were."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wardround.common.errors import DataError
from wardround.common.tasks.data.stored.cache import StoreCache
from wardround.common.tasks.data.stored.form import PAGE, Header, encoded
from wardround.common.tasks.data.stored.store import Store
from wardround.common.tasks.imaging.gather import stacked
from wardround.common.tasks.inputs import joined, taken

SOURCE = "ab" * 32


def write(folder: Path, rows: Sequence[Tensor]) -> Path:
    writer = StoreCache(folder, Path("shard")).writer(SOURCE)
    for number, row in enumerate(rows):
        writer.add(row, len(rows) - number - 1)
    return writer.finish({"labels": list(range(len(rows)))})


def bits(values: Tensor) -> bytes:
    return values.contiguous().numpy().tobytes()


def image(kind: str, number: int) -> Tensor:
    draw = np.random.default_rng(number)
    if kind == "bytes":
        return torch.from_numpy(draw.integers(0, 256, (1, 3, 5), dtype=np.uint8))
    if kind == "levels":  # a 16-bit image between its own extremes
        whole = draw.integers(-1000, 3000, (1, 3, 5)).astype(np.float64)
        whole.flat[:3] = -1000, 3071, -999
        return torch.from_numpy(((whole + 1000) / 4071).astype(np.float32))
    if kind == "odd":  # what a careless reader would round
        values = [0.0, -0.0, 1.0, np.nan, np.inf, 1e-45, 0.1]
        return torch.from_numpy(np.resize(np.array(values, np.float32), (1, 3, 5)))
    return torch.from_numpy(draw.random((1, 3, 5), dtype=np.float32))


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["bytes", "levels", "numbers", "odd"]), min_size=1, max_size=8),
    order=st.lists(st.integers(0, 7), max_size=12),
)
def test_any_rows_come_back_as_they_would_be_in_memory(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], order: list[int]
) -> None:
    rows = [image(kind, number) for number, kind in enumerate(kinds)]
    memory, stored = stacked(rows), Store(write(tmp_path_factory.mktemp("x"), rows)).rows()
    assert stored.dtype == memory.dtype and stored.shape == tuple(memory.shape)
    asked = np.array([row % len(rows) for row in order], dtype=np.int64)
    assert bits(stored.take(asked)) == bits(memory[asked])
    part = np.arange(len(rows), dtype=np.int64)[::-2]
    assert bits(taken(stored.select(part), np.arange(len(part)))) == bits(memory[part.copy()])


@pytest.mark.parametrize(
    ("kinds", "kind", "row_bytes"),
    [
        (["bytes"], "uint8", 15),
        (["levels"], "uint16", 30),
        (["bytes", "levels"], "uint16", 30),
        (["levels", "numbers"], "float32", 60),
        (["bytes", "numbers"], "float32", 60),
    ],
)
def test_rows_are_as_narrow_as_their_bits_allow(
    tmp_path: Path, kinds: list[str], kind: str, row_bytes: int
) -> None:
    rows = [image(kind, number) for number, kind in enumerate(kinds * 3)]
    path = write(tmp_path, rows)
    header = Store(path).header
    assert (header.kind, header.row_bytes) == (kind, row_bytes)
    assert path.stat().st_size == header.size > PAGE + len(rows) * row_bytes
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]  # nothing on the way is left


@given(st.integers(1, 2**16 - 1), st.data())
@settings(max_examples=60, deadline=None)
def test_a_quotient_is_one_whether_worked_out_in_32_or_64_bits(
    span: int, data: st.DataObject
) -> None:
    whole = np.array(data.draw(st.lists(st.integers(0, span), min_size=1, max_size=50)))
    wide = (whole.astype(np.float64) / span).astype(np.float32)
    narrow = whole.astype(np.float32) / np.float32(span)
    assert wide.tobytes() == narrow.tobytes()
    row = encoded(torch.from_numpy(np.append(wide, np.float32(1 / span))))
    assert row.kind == "uint16"


def test_a_large_batch_is_read_by_several_threads_and_in_a_fork_too(tmp_path: Path) -> None:
    rows = torch.arange(40 * 100 * 100).to(torch.uint8).reshape(40, 100, 100)
    stored = Store(write(tmp_path, list(rows)))
    order = np.random.default_rng(0).permutation(40)
    expected = rows[order].numpy().tobytes()
    assert stored.take(order).numpy().tobytes() == expected
    child = os.fork()
    if not child:  # torch's own threads aren't there any more, so nothing of it is asked
        os._exit(0 if stored.take(order).numpy().tobytes() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_stored_and_other_inputs_are_joined_row_by_row(tmp_path: Path) -> None:
    rows = [image("bytes", number) for number in range(4)]
    memory, stored = stacked(rows), Store(write(tmp_path, rows)).rows()
    both = joined([stored, memory, stored.select(np.array([2]))], torch.uint8)
    whole = torch.cat([memory, memory, memory[2:3]])
    order = np.array([8, 0, 5, 3, 4, 8])
    assert both.shape == tuple(whole.shape) and bits(taken(both, order)) == bits(whole[order])
    assert not isinstance(both, Tensor)
    assert bits(both.select(order).take(np.array([1, 0]))) == bits(whole[[0, 8]])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def hole(path: Path) -> None:
    """As a copy that stopped, to a file of the right size."""
    data = path.read_bytes()
    with open(path, "wb") as file:
        file.write(data[:PAGE])
        file.truncate(len(data) - len(data[-2000:]))
        file.seek(len(data) - 2000)
        file.write(data[-2000:])


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        cut,
        hole,
        lambda path: flip(path, 70),
        lambda path: flip(path, path.stat().st_size - 5),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(bytes(PAGE)),
    ],
    ids=["cut", "hole", "header", "facts", "empty", "zeros"],
)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage, caplog) -> None:
    rows = [torch.full((1, 64, 64), 7 + number, dtype=torch.uint8) for number in range(32)]
    path, cache = write(tmp_path, rows), StoreCache(tmp_path, Path("shard"))
    assert cache.find(SOURCE) is not None
    damage(path)
    assert cache.find(SOURCE) is None and not path.exists()
    assert "made again" in caplog.text and "damaged" in caplog.text


def test_a_row_that_changed_on_the_disk_is_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path, [image("bytes", number) for number in range(4)])
    flip(path, PAGE + 20)
    stored = Store(path)
    assert len(stored.take(np.array([0, 2, 3]))) == 3
    with pytest.raises(DataError, match="stored images are damaged; look after the disk"):
        stored.take(np.array([3, 1]))
    assert not path.exists()


def test_a_newer_form_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = write(tmp_path, [image("bytes", 0)])
    page = path.read_bytes()[:PAGE]
    newer = json.dumps(json.loads(page[64:]) | {"version": 2}).encode().ljust(PAGE - 64)
    with pytest.raises(DataError, match="has version 2, and this wardround reads up to 1"):
        Header.of(hashlib.sha256(newer).hexdigest().encode() + newer, "x")


def test_what_a_killed_writer_left_goes_and_a_living_one_stays(tmp_path: Path) -> None:
    left = tmp_path / ".a.images.x.building"
    left.write_bytes(b"half")
    cache = StoreCache(tmp_path, Path("shard"))
    first = cache.writer(SOURCE)
    assert not left.exists()
    first.add(image("bytes", 0))
    second = cache.writer(SOURCE)
    first.add(image("bytes", 1))
    second.add(image("bytes", 0))
    second.discard()
    assert first.finish({}) == next(tmp_path.iterdir()) and len(list(tmp_path.iterdir())) == 1
    assert cache.find(SOURCE).header.rows == 2


def test_a_disk_without_room_is_told_before_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=(256 << 20) + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    writer = StoreCache(tmp_path, Path("shard")).writer(SOURCE)
    with pytest.raises(DataError, match="take .* GiB of the disk, and there are .*; make room"):
        writer.add(torch.zeros(1, 10, 10, dtype=torch.uint8), more=10)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreCache(tmp_path, Path("shard")).writer(SOURCE)
    writer.add(image("bytes", 0))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        DataError, match=r"can't be kept there \(No space.*; make room on that disk"
    ):
        writer.finish({})
    writer.discard()
    assert list(tmp_path.iterdir()) == []
