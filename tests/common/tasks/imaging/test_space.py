"""I2, I18: every format lies one way, and in millimetres where a setting says so."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.common.tasks.imaging.shards import dicom, png
from wardround.common.errors import DataError
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded
from wardround.common.tasks.imaging.space import CUT, in_millimetres
from wardround.common.tasks.imaging.task import ImagingTask

SHAPE = (8, 9, 10)
BODY = np.arange(720, dtype=np.int16).reshape(SHAPE)
"""Head x back x left: what is to be read, whichever way it was acquired."""
HEAD_BACK_LEFT = np.eye(3)[[2, 1, 0]]
"""Directions of the axes of such an array."""
ORDERS = st.sampled_from(list(permutations(range(3))))
SIGNS = st.tuples(*[st.sampled_from([1, -1])] * 3)


def read(path: Path, **values: object) -> Decoded:
    settings: dict[str, object] = {"size": list(SHAPE), "window": [0.0, 719.0], **values}
    found = decode(path, ImagingOptions(**settings), "here")  # type: ignore[arg-type]
    assert isinstance(found, Decoded)
    return found


def acquired(
    order: tuple[int, ...], signs: tuple[int, ...], turn: float = 0.0
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The body as an array of these axes, and the directions of these, turned about the head's axis
    by some degrees."""
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    flips = tuple(slice(None, None, sign) for sign in signs)
    directions = (HEAD_BACK_LEFT[list(order)] * np.array(signs)[:, None]) @ rotation.T
    return BODY.transpose(order)[flips], directions


def nifti(path: Path, values: NDArray[Any], directions: NDArray[np.float64]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[:3, :3] = (directions * [-1, -1, 1]).T
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def series(folder: Path, values: NDArray[Any], directions: NDArray[np.float64]) -> Path:
    """Slices along the first axis, in files whose names say nothing of their order."""
    slices, rows, columns = directions
    for number, pixels in enumerate(values):
        dicom(
            folder / f"{(number * 7) % len(values)}.dcm",
            np.ascontiguousarray(pixels),
            ImagePositionPatient=[float(x) for x in number * slices],
            ImageOrientationPatient=[float(x) for x in (*columns, *rows)],
            PixelSpacing=[1.0, 1.0],
            SeriesInstanceUID="1.2.3",
            StudyInstanceUID="1.2",
        )
    return folder


@pytest.mark.parametrize("write", [nifti, series])
@given(order=ORDERS, signs=SIGNS, turn=st.sampled_from([0.0, 20.0, -40.0]))
def test_one_scan_is_one_tensor_however_it_was_acquired_and_saved(
    tmp_path_factory: pytest.TempPathFactory,
    write: Callable[..., Path],
    order: tuple[int, ...],
    signs: tuple[int, ...],
    turn: float,
) -> None:
    values, directions = acquired(order, signs, turn)
    path = write(tmp_path_factory.mktemp("x") / "scan.nii", values, directions)
    assert np.abs(read(path).pixels[0].numpy() * 719 - BODY).max() < 1e-3


@given(across=st.sampled_from([0, 1, 2]), order=ORDERS, signs=SIGNS)
def test_a_slice_lies_as_on_a_screen_in_every_format(
    tmp_path_factory: pytest.TempPathFactory,
    across: int,
    order: tuple[int, ...],
    signs: tuple[int, ...],
) -> None:
    """Across the head's axis as in the volume; else with the head up."""
    folder, axis = tmp_path_factory.mktemp("x"), order.index(across)
    values, directions = acquired(order, signs)
    flat = values.take([0], axis=axis)
    expected = BODY.take(0 if signs[axis] > 0 else -1, axis=across)
    expected = expected if across == 0 else expected[::-1]
    rows, columns = (direction for n, direction in enumerate(directions) if n != axis)
    dicom(
        folder / "a.dcm",
        np.ascontiguousarray(flat.squeeze(axis)),
        ImageOrientationPatient=[float(x) for x in (*columns, *rows)],
    )
    for path in (folder / "a.dcm", nifti(folder / "a.nii", flat, directions)):
        found = read(path, size=list(expected.shape)).pixels[0].numpy()
        assert np.abs(found * 719 - expected).max() < 1e-3


def test_a_picture_that_says_nothing_of_itself_stays(tmp_path: Path) -> None:
    values = np.arange(64, dtype=np.int16).reshape(8, 8)
    dicom(tmp_path / "a.dcm", values)
    found = read(tmp_path / "a.dcm", size=[8, 8], window=[0.0, 63.0])
    assert np.abs(found.pixels[0].numpy() * 63 - values).max() < 1e-4 and found.voxel is None


# --- millimetres ---------------------------------------------------------------------------------
def test_a_body_has_one_size_whatever_the_scanner(tmp_path: Path) -> None:
    """A ball of 40 mm, in slices of 5 mm and of 1 mm, in pixels of .7 mm and 1.1 mm."""
    found = {}
    for number, steps in enumerate([(5.0, 0.7, 0.7), (1.0, 0.7, 0.7), (2.5, 1.1, 1.1)]):
        counts = [round(64 / step) for step in steps]
        places = [
            (np.arange(n) - (n - 1) / 2) * step for n, step in zip(counts, steps, strict=True)
        ]
        radius = np.sqrt(sum(p**2 for p in np.meshgrid(*places, indexing="ij")))
        ball = np.clip(20.5 - radius, 0, 1).astype(np.float32)
        path = nifti(tmp_path / f"{number}.nii", ball, np.diag(steps)[:, ::-1])
        whole = read(path, size=[32, 32, 32], spacing=[2.0, 2.0, 2.0], window=[0.0, 1.0])
        found[steps] = [float((whole.pixels > 0.5).sum()) * 8, whole.voxel, whole.noted]
    for volume, voxel, noted in found.values():
        assert volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.05)
        assert voxel == (2.0, 2.0, 2.0) and noted == ()


@given(
    before=st.floats(0.5, 4),
    after=st.floats(0.5, 4),
    source=st.integers(2, 40),
    count=st.integers(1, 40),
)
def test_a_slope_stays_a_slope_and_outside_is_dark(
    before: float, after: float, source: int, count: int
) -> None:
    """One axis; within the image, half a kernel from its ends: exact where pixels get finer."""
    half = source * before / 2
    places = (torch.arange(source) - (source - 1) / 2) * before
    pixels = (0.1 + 0.8 * (places / half + 1) / 2).reshape(1, 1, source)
    found, cut = in_millimetres(pixels, [1.0, before], [1.0, after], [1, count])
    at = (torch.arange(count, dtype=torch.float64) - (count - 1) / 2) * after
    inner = at.abs() <= half - before / 2 - max(before, after)
    expected = 0.1 + 0.8 * (at / half + 1) / 2
    error = (found[0, 0].double() - expected)[inner].abs()
    assert not len(error) or float(error.max()) < (1e-5 if after <= before else 0.02)
    assert not found[0, 0][at.abs() > half + 1e-3].any()
    assert (found[0, 0][at.abs() < half - 1e-3] >= 0.1 - 1e-6).all()
    assert cut == (source * before > (count + 1) * after)


def test_one_spacing_copies_and_bytes_stay_bytes() -> None:
    pixels = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    found, cut = in_millimetres(pixels, [0.7, 0.7], [0.7, 0.7], [10, 6])
    assert found.dtype == torch.uint8 and cut
    assert torch.equal(found[:, 1:9], pixels[:, :, 1:7]) and not found[:, [0, 9]].any()


def test_coarser_pixels_are_smoothed_before() -> None:
    """A bright pixel, at 3 of 16, is seen by triangles of 4 pixels on either side."""
    bright = torch.zeros(1, 16)
    bright[0, 3] = 1.0
    found, cut = in_millimetres(bright, (1.0,), (4.0,), (4,))
    assert not cut and found[0].tolist() == pytest.approx([0.625 / 3.5, 0.375 / 4, 0, 0])


def test_what_lies_beyond_the_size_is_cut_and_counted(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a" / "x.nii", BODY, HEAD_BACK_LEFT)
    assert read(path, size=[8, 8, 8], spacing=[1.0, 1.0, 1.0]).noted == (CUT,)
    assert read(path, size=[8, 9, 10], spacing=[1.0, 1.0, 1.0]).noted == ()


def test_an_image_without_a_spacing_is_refused(tmp_path: Path) -> None:
    png(tmp_path / "a.png", np.zeros((8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match="how many mm apart its pixels are, which task.spacing"):
        read(tmp_path / "a.png", size=[8, 8], spacing=[1.0, 1.0])


def test_a_hospital_is_told_of_unlike_scales(tmp_path: Path) -> None:
    """Told in memory and from the disk; not where they are alike, or a spacing is set."""
    for number, step in enumerate([1.0, 1.0, 2.0]):
        label = "ab"[number % 2]
        nifti(tmp_path / label / f"{number}.nii", BODY, HEAD_BACK_LEFT * [[step], [1], [1]])
    for store in ("memory", "disk", "disk"):
        task = ImagingTask(classes=["a", "b"], size=[8, 8, 8], store=store)
        told = task.warnings(task.load_large(tmp_path, tmp_path / ".kept"))
        assert len(told) == 1 and "is 1 to 2 x 1.1 x 1.2 mm of them; task.spacing" in told[0]
    whole = ImagingTask(classes=["a", "b"], size=[8, 8, 8], spacing=[2.0, 2.0, 2.0])
    assert whole.warnings(whole.load(tmp_path)) == []
    (tmp_path / "a" / "2.nii").unlink()
    alike = ImagingTask(classes=["a", "b"], size=[8, 8, 8])
    assert alike.warnings(alike.load(tmp_path)) == []
