"""Images on the disk: the same as in memory, decoded once, and anew when anything changed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.common.tasks.imaging.shards import dicom, png
from wardround.common.errors import DataError
from wardround.common.tasks.imaging import ImagingTask, gather, kept
from wardround.common.tasks.imaging.images import Images
from wardround.common.tasks.inputs import taken

CLASSES = ["normal", "pneumonia"]


def task(**options: object) -> ImagingTask:
    return ImagingTask(**{"classes": CLASSES, "size": [8, 8], "store": "disk", **options})


def pictures(folder: Path, count: int = 6) -> Path:
    draw = np.random.default_rng(3)
    for number in range(count):
        values = draw.integers(0, 256, (8, 8), dtype=np.uint8)
        png(folder / CLASSES[number % 2] / f"{number}.png", values)
    (folder / "normal" / "notes.txt").write_text("no image")
    return folder


def listed(folder: Path) -> Path:
    """Of several sizes, twice a patient, one file again; DICOM of 16 bits among them."""
    draw, lines = np.random.default_rng(4), ["file,label,who,part"]
    for number in range(6):
        size = 8 + 4 * (number % 2)
        png(folder / f"{number}.png", draw.integers(0, 256, (size, size), dtype=np.uint8))
        lines.append(f"{number}.png,{CLASSES[number % 2]},P{number // 2},train")
    dicom(folder / "ct.dcm", draw.integers(-1000, 3000, (8, 8)).astype(np.int16), HighBit=15)
    (folder / "list.csv").write_text("\n".join([*lines, lines[1], "ct.dcm,normal,P9,test"]) + "\n")
    return folder


def arrays(folder: Path) -> Path:
    draw = np.random.default_rng(5)
    for form, save in (("train", np.uint8), ("test", np.uint16)):
        images = draw.integers(0, 250, (5, 8, 8)).astype(save)
        (folder / form).mkdir(parents=True)
        np.savez_compressed(folder / form / "x.npz", images=images, labels=np.arange(5) % 2)
    both = {
        f"{p}_{k}": v for p in ("train", "test") for k, v in np.load(folder / p / "x.npz").items()
    }
    np.savez(folder / "x.npz", **both)
    return folder / "x.npz"


def same(found: Images, memory: Images) -> None:
    for field in fields(Images):
        one, other = getattr(found, field.name), getattr(memory, field.name)
        if field.name == "pixels":
            pixels = taken(one, np.arange(len(found)))
            assert pixels.dtype == other.dtype and pixels.shape == other.shape
            assert pixels.numpy().tobytes() == other.numpy().tobytes()
        elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            assert one.dtype == other.dtype and one.tolist() == other.tolist(), field.name
        else:
            assert one == other, field.name


@pytest.mark.parametrize(
    ("make", "files"),
    [(pictures, {}), (listed, {"patient_id": "who", "split": "part"}), (arrays, {})],
    ids=["folders", "csv", "npz"],
)
def test_the_same_images_with_all_that_is_known_of_them(
    tmp_path: Path, make, files: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, one = make(tmp_path / "shard"), task(files=files)
    memory, found = one.load(path), one.load_large(path, tmp_path / "kept")
    assert isinstance(memory.pixels, torch.Tensor) and not isinstance(found.pixels, torch.Tensor)
    same(found, memory)
    monkeypatch.setattr(gather.Gathered, "add", None)  # nothing is decoded any more
    again = one.load_large(path, tmp_path / "kept")
    same(again, memory)
    rows = np.array([4, 0, 2])
    same(one.select(again, rows), one.select(memory, rows))
    for a, b in zip(
        one.statistics(found, 0, {}).values(), one.statistics(memory, 0, {}).values(), strict=True
    ):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("change", ["content", "more", "name", "size", "window"])
def test_it_is_made_anew_when_files_or_settings_change(tmp_path: Path, change: str) -> None:
    path, options = pictures(tmp_path / "shard"), {}
    task().load_large(path, tmp_path / "kept")
    (before,) = (tmp_path / "kept").iterdir()
    if change == "content":
        png(path / "normal" / "0.png", np.full((8, 8), 9, dtype=np.uint8))
    elif change == "more":
        png(path / "normal" / "99.png", np.full((8, 8), 9, dtype=np.uint8))
    elif change == "name":
        (path / "normal" / "0.png").rename(path / "normal" / "zz.png")
    else:
        options = {"size": [9, 9]} if change == "size" else {"window": [0.0, 200.0]}
    one = task(**options)
    same(one.load_large(path, tmp_path / "kept"), one.load(path))
    (after,) = (tmp_path / "kept").iterdir()  # the other one is gone
    assert after != before


def test_settings_of_the_model_decode_nothing_anew(tmp_path: Path) -> None:
    path = pictures(tmp_path / "shard")
    for options in ({}, {"augment": {"rotation": 5.0}}, {"model": {"width": 16}}, {"bins": 10}):
        task(**options).load_large(path, tmp_path / "kept")
        task(**{**options, "store": "auto"}).load_large(path, tmp_path / "kept")
    assert len({one.stat().st_ino for one in (tmp_path / "kept").iterdir()}) == 1


@pytest.mark.parametrize(("free", "stored"), [(4 * 6 * 64, False), (4 * 6 * 64 - 4, True)])
def test_auto_goes_by_a_quarter_of_the_free_memory(
    tmp_path: Path, free: int, stored: bool, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """Six pictures of 64 bytes; how many there will be is known before the first is decoded."""
    caplog.set_level("INFO")
    monkeypatch.setattr(kept, "available_bytes", lambda: free)
    found = task(store="auto").load_large(pictures(tmp_path / "shard"), tmp_path / "kept")
    assert isinstance(found.pixels, torch.Tensor) is not stored
    assert (tmp_path / "kept").exists() is stored is ("kept in a file" in caplog.text)


def test_what_was_in_memory_goes_to_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float images take four times as much as the bytes before them led to expect."""
    path = listed(tmp_path / "shard")
    monkeypatch.setattr(kept, "available_bytes", lambda: 4 * 7 * 64 + 100)
    one = task(store="auto", files={"patient_id": "who", "split": "part"})
    found = one.load_large(path, tmp_path / "kept")
    assert not isinstance(found.pixels, torch.Tensor)
    same(found, one.load(path))


def test_a_mistake_in_the_files_leaves_nothing(tmp_path: Path) -> None:
    path = pictures(tmp_path / "shard")
    (path / "pneumonia" / "z.png").write_text("no picture")
    with pytest.raises(DataError, match="not readable as an image"):
        task().load_large(path, tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_memory_means_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "available_bytes", lambda: 1)
    monkeypatch.setattr(gather, "most_bytes", lambda: 100)
    path = pictures(tmp_path / "shard")
    with pytest.raises(DataError, match=r"set task.store = 'disk' or leave it out"):
        task(store="memory").load_large(path, tmp_path / "kept")
    found = task(store="auto").load_large(path, tmp_path / "kept")
    assert not isinstance(found.pixels, torch.Tensor)
