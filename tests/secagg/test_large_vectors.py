"""A vector that is made piece by piece in a file is the one that is made in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wardround.client.secagg.upload import Change, PendingUpload
from wardround.common import mapped
from wardround.common.errors import ProtocolRefused
from wardround.common.flower.arrays import ArraySpec
from wardround.common.flower.stored import StoredBytes, in_memory, kept_bytes
from wardround.common.secagg import messages as wire
from wardround.common.secagg.encoding import COUNT, FAILED, VectorLayout, decode_exact
from wardround.common.secagg.ring import MaskSeeds, RingVector

SIZES = (3, 70_000, 131_073)
SEEDS = [
    (MaskSeeds(bytes([n] * 32), bytes([n + 1] * 32)), sign) for n, sign in ((1, 1), (5, -1), (9, 1))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """Windows of 65536 numbers; what a test makes large lies here."""
    monkeypatch.setattr(mapped, "LARGE_BYTES", 1)
    monkeypatch.setattr(mapped, "WINDOW_BYTES", 1)
    yield tmp_path
    mapped.keep_in(None)


def upload(bits: int, how: int = 0, threads: int = 1) -> PendingUpload:
    update = {f"arrays/{n}": ArraySpec((size,), "float32") for n, size in enumerate(SIZES)}
    layout = VectorLayout.of(update, {"loss": ArraySpec((1,), "float64")}, frozenset(update))
    task = wire.TaskRequest(bytes(32), 0, "train 1", bits, 4.0, 100, how)
    client: Any = SimpleNamespace(name="north", mark_uploaded=lambda task, asked: None)
    limits: Any = None
    encoding = task.encoding(3)
    return PendingUpload(client, task, layout, encoding, limits, limits, lambda: SEEDS, threads)


def numbers(kind: type) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    draws = {f"arrays/{n}": rng.normal(0, 2, size) for n, size in enumerate(SIZES)}
    return {name: (one * 1000 if kind is int else one).astype(kind) for name, one in draws.items()}


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize(("kind", "how"), [(np.float32, 0), (np.int64, 1)])
def test_it_is_the_same_vector(folder, bits, kind, how) -> None:
    values, exact, vectors = numbers(kind), {"loss": np.array([0.25])}, []
    for place, threads in ((None, 1), (folder, 1), (folder, 2)):
        mapped.keep_in(place)
        pending = upload(bits, how, threads)
        header, vector = pending.finish(values, exact, 7, bytes(16))
        assert wire.Upload.from_bytes(header).name == "north"
        data = kept_bytes(vector)
        assert isinstance(data, StoredBytes) is (place is not None)
        vectors.append(in_memory(data))
    assert vectors[0] == vectors[1] == vectors[2]
    assert list(folder.iterdir()) == []


def test_a_change_is_worked_out_where_it_is_looked_at(folder) -> None:
    after = {name: value.astype(np.float32) for name, value in numbers(np.float32).items()}
    before = {name: value[::-1].copy() for name, value in after.items()}
    changes = {name: Change(after[name], before[name]) for name in after}
    whole = {name: after[name] - before[name] for name in after}
    assert _same(whole, changes, folder)
    zero = np.zeros((), np.float32)  # of an update that is a change already
    assert _same(after, {name: Change(value, zero) for name, value in after.items()}, folder)


def _same(whole: dict[str, np.ndarray], changes: dict[str, Change], folder: Path) -> bool:
    vectors = []
    for place, values in ((None, whole), (None, changes), (folder, changes)):
        mapped.keep_in(place)
        vectors.append(bytes(upload(32).finish(values, {}, 1, bytes(16))[1]))
    return vectors[0] == vectors[1] == vectors[2]


@pytest.mark.parametrize("place", [True, False])
def test_after_a_number_that_is_none_noise_leaves_under_the_same_masks(folder, place) -> None:
    mapped.keep_in(folder if place else None)
    values = numbers(np.float32)
    values["arrays/2"][-1] = np.nan
    pending = upload(32)
    with pytest.raises(ProtocolRefused, match="NaN"):
        pending.finish(values, {}, 1, bytes(16))
    vector = RingVector(32, pending.layout.update_size, pending.layout.exact_size)
    vector.add_bytes(kept_bytes(pending.fail()[1]))
    vector.add_masks([(seeds, -sign) for seeds, sign in SEEDS])
    exact = pending.layout.exact_arrays(decode_exact(vector.exact))
    assert exact[COUNT] == exact[FAILED] == 1
    assert len(np.unique(vector.update[:1000])) == 1000  # random, and no zeros
    with pytest.raises(ProtocolRefused, match="once"):
        pending.fail()


def test_sums_of_vectors_in_files_are_those_in_memory(folder) -> None:
    totals = []
    for place in (None, folder):
        mapped.keep_in(place)
        total = RingVector(32, sum(SIZES), 5)
        for n in range(3):
            part = RingVector(32, sum(SIZES), 5)
            part.add_masks([(MaskSeeds(bytes([n] * 32), bytes(32)), 1)], threads=1 + n)
            total.add_bytes(kept_bytes(part.data()))
        with pytest.raises(ProtocolRefused, match="expected"):
            total.add_bytes(kept_bytes(RingVector(32, 5, 5).data()))
        totals.append(bytes(total.data()))
    assert totals[0] == totals[1]
