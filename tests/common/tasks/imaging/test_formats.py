"""Every sample format and photometric interpretation is read right, or refused by name."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.pixels import convert_color_space

from tests.common.tasks.imaging.shards import dicom
from wardround.common.errors import DataError
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import NO_NUMBER, Decoded
from wardround.common.tasks.imaging.read import read_images

COUNT = np.arange(64).reshape(8, 8)
RAMP = COUNT / 63
"""What any format of these values must become, between 0 and 1."""
BYTES = (COUNT * 4).astype(np.uint8)
COLOURS = np.stack([BYTES, 255 - BYTES, BYTES // 2], -1)


def options(**values: object) -> ImagingOptions:
    return ImagingOptions(**{"size": [8, 8], **values})  # type: ignore[arg-type]


def read(path: Path, **values: object) -> Decoded:
    found = decode(path, options(**values), "here")
    assert isinstance(found, Decoded)
    return found


def unit(found: Decoded) -> NDArray[np.float64]:
    """The first channel in [0, 1]."""
    pixels = found.pixels[0].double().numpy()
    return pixels / 255 if found.pixels.element_size() == 1 else pixels


def tiff(path: Path, values: NDArray[Any], sample_format: int, photometric: int = 1) -> None:
    """An uncompressed little-endian TIFF of one channel."""
    data = values.tobytes()
    rows, columns = values.shape
    bits = values.dtype.itemsize * 8
    short, long = 3, 4
    tags = [
        (256, short, columns), (257, short, rows), (258, short, bits), (259, short, 1),
        (262, short, photometric), (273, long, 8), (277, short, 1), (278, short, rows),
        (279, long, len(data)), (339, short, sample_format),
    ]  # fmt: skip
    out = b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        out += struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value)
    path.write_bytes(out + struct.pack("<I", 0))


@pytest.mark.parametrize(
    ("kind", "sample_format", "scale", "shift"),
    [
        ("u1", 1, 4, 0),
        ("i1", 2, 4, -128),
        ("<u2", 1, 1000, 0),
        ("<i2", 2, 1000, -32000),
        ("<u4", 1, 60_000_000, 0),
        ("<i4", 2, 1, 2**30),
        ("<f4", 3, 0.5, -900),
    ],
)
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_tiff(
    tmp_path: Path, kind: str, sample_format: int, scale: float, shift: float, white_is_zero: bool
) -> None:
    values = (COUNT * scale + shift).astype(kind)
    tiff(tmp_path / "a.tif", values, sample_format, 0 if white_is_zero else 1)
    expected = BYTES / 255 if kind == "u1" else RAMP
    if white_is_zero and kind in ("i1", "<i2", "<u4", "<i4"):  # Pillow doesn't read these
        with pytest.raises(DataError, match="here: not readable as an image .*; save it anew"):
            read(tmp_path / "a.tif")
        return
    found = read(tmp_path / "a.tif")
    assert np.abs(unit(found) - (1 - expected if white_is_zero else expected)).max() < 1e-6


@pytest.mark.parametrize(("kind", "sample_format"), [("<f8", 3), ("<f2", 3)])
def test_a_tiff_that_pillow_does_not_read_is_refused(tmp_path, kind, sample_format) -> None:
    tiff(tmp_path / "a.tif", COUNT.astype(kind), sample_format)
    with pytest.raises(DataError, match="here: not readable as an image .*; save it anew"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("1", COUNT % 2), ("L", BYTES / 255), ("I;16", RAMP), ("LAB", None), ("RGBA", BYTES / 255)],
)
def test_modes_of_pillow(tmp_path: Path, mode: str, expected: NDArray[Any] | None) -> None:
    picture = Image.new(mode, (8, 8))
    if mode == "1":
        picture = Image.fromarray((COUNT % 2 * 255).astype(np.uint8)).convert("1")
    elif mode == "I;16":
        picture = Image.fromarray((COUNT * 1000).astype(np.uint16))
    elif mode in ("L", "RGBA"):
        picture = Image.fromarray(BYTES).convert(mode)
    picture.save(tmp_path / "a.tif")
    if expected is None:
        with pytest.raises(DataError, match="Pillow's mode LAB"):
            read(tmp_path / "a.tif")
    else:
        assert np.abs(unit(read(tmp_path / "a.tif")) - expected).max() < 1e-6


def test_a_picture_lies_as_its_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rows run from the right to the left: turned by a quarter
    Image.fromarray(BYTES).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png").pixels[0].numpy(), np.rot90(BYTES, -1))


def test_a_preview_behind_a_picture_is_left_out(tmp_path: Path) -> None:
    picture, preview = (Image.fromarray(np.full((8, 8), level, np.uint8)) for level in (90, 200))
    path = tmp_path / "a.jpg"
    picture.save(path, format="MPO", save_all=True, append_images=[preview], quality=100)
    found = read(path)
    assert np.abs(found.pixels.numpy().astype(int) - 90).max() <= 1
    assert [str(one) for one in found.left_out] == [
        "1 picture was left out: behind another in a JPEG file (MPO)"
    ]


def test_pages_are_refused(tmp_path: Path) -> None:
    page = Image.fromarray(BYTES)
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page, page])
    with pytest.raises(DataError, match="here: 3 pages, where an image is one"):
        read(tmp_path / "a.tif")


# --- DICOM ----------------------------------------------------------------------------------------
def written(path: Path, data: bytes, bits: int, stored: int, signed: bool, **more: object) -> Path:
    """A file whose pixel data are these bytes."""
    dicom(path, np.zeros((8, 8), dtype=np.uint8))
    found = pydicom.dcmread(path)
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, stored, stored - 1
    found.PixelRepresentation = int(signed)
    for key, value in more.items():
        setattr(found, key, value)
        if found[key].VR == "US or SS":
            found[key].VR = "SS" if signed else "US"
    found.PixelData = data + b"\0" * (len(data) % 2)
    found["PixelData"].VR = "OW" if bits > 8 else "OB"
    found.save_as(path)
    return path


@pytest.mark.parametrize(
    ("values", "bits", "stored", "signed", "expected"),
    [
        (BYTES.astype("u1"), 8, 8, False, BYTES / 255),
        (COUNT.astype("u1"), 8, 6, False, np.rint(RAMP * 255) / 255),
        ((COUNT * 4 - 128).astype("i1"), 8, 8, True, RAMP),
        ((COUNT * 1000).astype("<u2"), 16, 16, False, RAMP),
        ((COUNT | 0xF000).astype("<u2"), 16, 12, False, RAMP),  # overlays in unused bits
        (((COUNT - 32) & 0xFFF).astype("<u2"), 16, 12, True, RAMP),
        ((COUNT * 60_000_000).astype("<u4"), 32, 32, False, RAMP),
        ((COUNT + 2**30).astype("<i4"), 32, 32, True, RAMP),
    ],
)
def test_dicom(
    tmp_path: Path,
    values: NDArray[Any],
    bits: int,
    stored: int,
    signed: bool,
    expected: NDArray[Any],
) -> None:
    path = written(tmp_path / "a.dcm", values.tobytes(), bits, stored, signed)
    assert np.abs(unit(read(path)) - expected).max() < 1e-6


def test_one_bit_of_dicom_is_black_and_white(tmp_path: Path) -> None:
    bits = np.packbits((COUNT % 2).astype(np.uint8).reshape(-1), bitorder="little")
    path = written(tmp_path / "a.dcm", bits.tobytes(), 1, 1, False)
    assert np.array_equal(unit(read(path)), COUNT % 2)
    assert np.array_equal(unit(read(path, window=[0.0, 2.0])), COUNT % 2 / 2)


def test_bytes_stay_bytes_where_their_units_are_those_stored(tmp_path: Path) -> None:
    more = {"RescaleSlope": 1, "RescaleIntercept": 0}
    path = written(tmp_path / "a.dcm", BYTES.tobytes(), 8, 8, False, **more)
    assert np.array_equal(read(path).pixels[0].numpy(), BYTES)


def test_samples_that_begin_above_the_lowest_bit_are_refused(tmp_path: Path) -> None:
    data = (COUNT << 4).astype("<u2").tobytes()
    path = written(tmp_path / "a.dcm", data, 16, 12, False, HighBit=15)
    with pytest.raises(DataError, match="HighBit"):
        read(path)


def test_padding_is_the_darkest_and_no_extreme(tmp_path: Path) -> None:
    values = (COUNT + 1000).astype("<i2")
    values[0, :4] = -2000
    more = {"PixelPaddingValue": -2000, "RescaleSlope": 1, "RescaleIntercept": -1024}
    expected = np.clip((COUNT - 4) / 59, 0, 1)
    for name in ("MONOCHROME2", "MONOCHROME1"):
        path = written(
            tmp_path / f"{name}.dcm", values.tobytes(), 16, 16, True,
            PhotometricInterpretation=name, **more,
        )  # fmt: skip
        found = read(path)
        inverted = np.where(COUNT < 4, 0, 1 - expected)
        right = inverted if name == "MONOCHROME1" else expected
        assert np.abs(unit(found) - right).max() < 1e-6 and found.noted == ()


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("RGB", COLOURS),
        ("YBR_FULL", convert_color_space(COLOURS, "RGB", "YBR_FULL")),
        ("HSV", COLOURS),
        ("XYZ", COLOURS),
    ],
)
def test_colours_of_dicom(tmp_path: Path, name: str, stored: NDArray[np.uint8]) -> None:
    more = {"SamplesPerPixel": 3, "PhotometricInterpretation": name, "PlanarConfiguration": 0}
    path = written(tmp_path / "a.dcm", stored.tobytes(), 8, 8, False, **more)
    if name in ("RGB", "YBR_FULL"):
        three = read(path, channels=3).pixels.numpy()
        assert np.abs(np.moveaxis(three, 0, -1).astype(int) - COLOURS).max() <= 2
    else:
        told = name if name == "HSV" else "that it names"
        with pytest.raises(DataError, match=f"photometric interpretation {told} isn't read"):
            read(path)


# --- arrays and NIfTI -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (BYTES, BYTES / 255),
        ((COUNT * 4 - 128).astype(np.int8), RAMP),
        ((COUNT * 1000).astype(np.uint16), RAMP),
        (COUNT + 2**30, RAMP),
        (COUNT.astype(np.float16), RAMP),
        (COUNT.astype(np.float64) * 1e300, RAMP),
        ((COUNT - 31.5) * (np.finfo(float).max / 32), RAMP),
        (COUNT % 2 == 1, COUNT % 2),
    ],
)
def test_arrays(tmp_path: Path, values: NDArray[Any], expected: NDArray[Any]) -> None:
    np.savez(tmp_path / "a.npz", images=values[None], labels=np.array([1]))
    (found,) = read_images(tmp_path / "a.npz", options()).pixels
    assert np.abs(unit(Decoded(found)) - expected).max() < 1e-6


def test_grey_is_the_same_of_every_format(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    more = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    written(tmp_path / "a.dcm", COLOURS.tobytes(), 8, 8, False, **more)
    np.savez(tmp_path / "a.npz", images=COLOURS[None], labels=np.array([1]))
    np.savez(tmp_path / "b.npz", images=COLOURS[None] / 255, labels=np.array([1]))
    grey = unit(read(tmp_path / "a.png"))
    assert np.array_equal(unit(read(tmp_path / "a.dcm")), grey)
    assert np.array_equal(unit(Decoded(read_images(tmp_path / "a.npz", options()).pixels[0])), grey)
    (numbers,) = read_images(tmp_path / "b.npz", options(window=[0.0, 1.0])).pixels
    assert np.abs(unit(Decoded(numbers)) - grey).max() <= 0.5 / 255 + 1e-6
    assert len(np.unique(unit(Decoded(numbers)))) > 20  # not two levels


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((3, 8, 8), [8, 8], "channels stand first.*move them last"),
        ((1, 9, 9), [8, 8], "channels stand first.*move them last"),
        ((3, 8, 8, 8), [8, 8, 8], "channels stand first.*move them last"),
        ((9, 9, 9), [8, 8], "of 3 axes, where task.size has 2; give it three numbers"),
        ((8, 8), [8, 8, 8], "of 2 axes, where task.size has 3; give it two numbers"),
        ((8, 8, 3), [8, 8, 8], "a picture of colours.*give it two"),
        ((8, 8, 8, 5), [8, 8, 8], "of 4 axes.*each volume, or point in time"),
    ],
)
def test_axes_that_do_not_fit(tmp_path, shape: tuple[int, ...], size, message: str) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, *shape)), labels=np.array([0, 1]))
    with pytest.raises(DataError, match=message):
        read_images(tmp_path / "a.npz", options(size=size))


def nifti(path: Path, values: NDArray[Any], affine: NDArray[Any] | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


def test_nifti_of_two_axes_is_turned_too(tmp_path: Path) -> None:
    values = COUNT.astype(np.float32)
    flipped = nifti(tmp_path / "a.nii", values, np.diag([-1.0, -1.0, 1.0, 1.0]))
    assert np.abs(unit(read(flipped)) - RAMP.T).max() < 1e-6
    plain = nifti(tmp_path / "b.nii", values)
    assert np.abs(unit(read(plain)) - RAMP[::-1, ::-1].T).max() < 1e-6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_in_any_direction_is_an_image(tmp_path: Path, axis: int) -> None:
    values = np.expand_dims(COUNT.astype(np.int32), axis)
    path = nifti(tmp_path / "a.nii.gz", values)
    assert np.abs(unit(read(path)) - RAMP[::-1, ::-1].T).max() < 1e-6  # the head, or front, is up
    with pytest.raises(DataError, match="of 2 axes, where task.size has 3; give it two numbers"):
        read(path, size=[8, 8, 8])


def test_nifti_of_four_axes(tmp_path: Path) -> None:
    many = nifti(tmp_path / "a.nii", np.zeros((8, 8, 8, 5), dtype=np.int16))
    with pytest.raises(DataError, match="5 volumes in one file; save the one that is meant"):
        read(many, size=[8, 8, 8])
    volume = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    single = read(nifti(tmp_path / "b.nii", volume[..., None]), size=[8, 8, 8])
    assert np.abs(single.pixels[0].numpy() - volume.T[:, ::-1, ::-1] / 511).max() < 1e-6
    with pytest.raises(DataError, match="of 3 axes, where task.size has 2; give it three"):
        read(nifti(tmp_path / "c.nii", volume))


def test_nifti_of_colours_is_refused_by_name(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match=r"a NIfTI file of colours \(RGB\)"):
        read(nifti(tmp_path / "a.nii", values))


def test_what_is_no_number_is_the_darkest_and_noted(tmp_path: Path) -> None:
    """Values around -900: a NaN that became 0 would be the brightest by far."""
    values = (COUNT * 0.5 - 900).astype(np.float32)
    values[0, :2], values[0, 2] = np.nan, np.inf
    found = read(nifti(tmp_path / "a.nii", values))
    expected = np.where(COUNT < 3, 0, (COUNT - 3) / 60)
    assert np.abs(unit(found) - expected[::-1, ::-1].T).max() < 1e-6 and found.noted == (NO_NUMBER,)
    with pytest.raises(DataError, match="none of its pixels is a finite number"):
        read(nifti(tmp_path / "b.nii", np.full((8, 8), np.nan, dtype=np.float32)))
