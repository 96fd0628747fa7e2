"""Files become arrays of the size and units asked for, and no name of a patient or file leaks."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom.data
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.common.tasks.imaging.shards import NAME, dicom, png
from wardround.common.errors import DataError
from wardround.common.tasks.data.left_out import LeftOut
from wardround.common.tasks.imaging.decode import decode
from wardround.common.tasks.imaging.deidentify import (
    SHOWS_PATIENT,
    Copies,
    deidentify_folder,
    read_dicom,
)
from wardround.common.tasks.imaging.options import ImagingOptions
from wardround.common.tasks.imaging.pixels import Decoded, fit, scaled

RAMP = np.arange(64, dtype=np.uint8).reshape(8, 8)


def options(**values: object) -> ImagingOptions:
    return ImagingOptions(**{"size": [8, 8], **values})  # type: ignore[arg-type]


def image(path: Path, settings: ImagingOptions, place: str) -> Decoded:
    """An image that isn't left out."""
    found = decode(path, settings, place)
    assert isinstance(found, Decoded), found
    return found


def test_a_picture_keeps_its_bytes(tmp_path: Path) -> None:
    png(tmp_path / "a.png", RAMP)
    found = image(tmp_path / "a.png", options(), "here")
    assert found.patient is None
    assert found.pixels.dtype == torch.uint8
    assert torch.equal(found.pixels[0], torch.from_numpy(RAMP))


def test_colours_are_channels_and_grey_is_their_luminance(tmp_path: Path) -> None:
    colours = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)
    png(tmp_path / "a.png", colours)
    three = image(tmp_path / "a.png", options(channels=3), "here")
    assert torch.equal(three.pixels, torch.from_numpy(np.moveaxis(colours, -1, 0).copy()))
    grey = image(tmp_path / "a.png", options(), "here")
    expected = colours @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2, as Pillow has it
    assert np.abs(grey.pixels[0].numpy() - expected).max() <= 1


def test_ct_is_windowed_in_hounsfield_units(tmp_path: Path) -> None:
    stored = np.linspace(0, 2047, 64).astype(np.int16).reshape(8, 8)
    dicom(tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024)
    found = image(tmp_path / "a.dcm", options(window=[-200.0, 300.0]), "here")
    expected = np.clip((stored - 1024.0 + 200) / 500, 0, 1)
    assert np.allclose(found.pixels[0].numpy(), expected, atol=1e-6)


def test_monochrome1_is_turned_bright(tmp_path: Path) -> None:
    values = RAMP.astype(np.int16)
    dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="MONOCHROME1")
    found = image(tmp_path / "a.dcm", options(), "here")
    assert np.allclose(found.pixels[0].numpy(), 1 - values / 63, atol=1e-6)


def test_monochrome1_is_turned_within_the_window(tmp_path: Path) -> None:
    values = RAMP.astype(np.int16) + 1000
    dicom(tmp_path / "a.dcm", values, PhotometricInterpretation="MONOCHROME1")
    found = image(tmp_path / "a.dcm", options(window=[1000.0, 1063.0]), "here")
    assert np.allclose(found.pixels[0].numpy(), 1 - RAMP / 63, atol=1e-6)


def test_monochrome1_of_bytes_stays_bytes(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    found = image(tmp_path / "a.dcm", options(), "here")
    assert found.pixels.dtype == torch.uint8
    assert torch.equal(found.pixels[0], 255 - torch.from_numpy(RAMP))


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    """64 entries of 16 bits: red falls from 63 to 0 (times 257), green and blue are none."""
    falling = np.arange(63, -1, -1, dtype=np.uint16) * 257
    elements: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name in ("Red", "Green", "Blue"):
        table = falling if name == "Red" else np.zeros(64, dtype=np.uint16)
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [64, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    dicom(tmp_path / "a.dcm", RAMP, **elements)
    found = image(tmp_path / "a.dcm", options(channels=3), "here")
    assert torch.equal(found.pixels[0], 63 - torch.from_numpy(RAMP))
    assert not found.pixels[1:].any()


def test_enhanced_files_have_their_units_in_a_functional_group(tmp_path: Path) -> None:
    units, group = Dataset(), Dataset()
    units.RescaleSlope, units.RescaleIntercept, units.RescaleType = 1, -1024, "HU"
    group.PixelValueTransformationSequence = Sequence([units])
    stored = np.linspace(900, 1600, 64).astype(np.int16).reshape(8, 8)
    dicom(tmp_path / "a.dcm", stored, SharedFunctionalGroupsSequence=Sequence([group]))
    found = image(tmp_path / "a.dcm", options(window=[-200.0, 700.0]), "here")
    assert np.allclose(found.pixels[0].numpy(), (stored - 824.0) / 900, atol=1e-5)


def test_slices_lie_along_their_normal_whatever_the_files_are_called(tmp_path: Path) -> None:
    """A sagittal stack, whose slices differ in x alone: from right to left, as columns run."""
    for number, name in enumerate("dhacgebf"):
        values = np.full((8, 8), number, dtype=np.int16)
        dicom(
            tmp_path / "scan" / f"{name}.dcm",
            values,
            ImagePositionPatient=[2.5 * number, 7.0, 7.0],
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
        )
    found = image(tmp_path / "scan", options(size=[8, 8, 8], window=[0.0, 7.0]), "here")
    assert (found.pixels[0, 0, 0] * 7).round().tolist() == list(range(8))


def test_slices_that_nothing_orders_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        dicom(tmp_path / "scan" / f"{name}.dcm", RAMP.astype(np.int16))
    with pytest.raises(DataError, match="in which order"):
        decode(tmp_path / "scan", options(size=[8, 8, 8]), "here")


def test_slices_are_a_volume_from_foot_to_head(tmp_path: Path) -> None:
    for name, height in (("a", 30.0), ("b", 10.0), ("c", 20.0), ("d", 40.0)):
        values = np.full((8, 8), int(height), dtype=np.int16)
        dicom(tmp_path / "scan" / f"{name}.dcm", values, ImagePositionPatient=[0, 0, height])
    found = image(tmp_path / "scan", options(size=[8, 8, 8], window=[0.0, 40.0]), "here")
    assert found.pixels.shape == (1, 8, 8, 8)
    heights = found.pixels[0, :, 4, 4]
    assert (heights.diff() >= 0).all() and heights[-1] == 1.0


def test_nifti_is_read_in_canonical_orientation(tmp_path: Path) -> None:
    values = np.zeros((8, 10, 12), dtype=np.float32)
    values[0, 0, -1] = 1.0  # rightmost, at the back and the top, in a file from right to left
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(values, flipped), tmp_path / "a.nii.gz")
    found = image(tmp_path / "a.nii.gz", options(size=[12, 10, 8]), "here")
    assert found.pixels[0, -1, -1, 0] == 1.0 and found.pixels.sum() == 1.0


def test_wrong_axes_are_told(tmp_path: Path) -> None:
    png(tmp_path / "a.png", RAMP)
    with pytest.raises(DataError, match=r"here: an image of 2 axes, where task.size has 3"):
        decode(tmp_path / "a.png", options(size=[8, 8, 8]), "here")


@pytest.mark.parametrize("suffix", [".png", ".dcm", ".nii.gz", ".nii"])
@given(content=st.binary(max_size=300))
def test_garbage_is_refused_without_a_name(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("x") / f"Doe_Jane{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        decode(path, options(), "the place")
    assert "the place" in str(caught.value) and "Doe" not in str(caught.value)


@given(
    low=st.floats(-1000, 0), width=st.floats(1, 1000), value=st.floats(-3000, 3000, allow_nan=False)
)
def test_a_window_maps_its_ends_to_zero_and_one(low: float, width: float, value: float) -> None:
    found = scaled(np.array([[low, low + width, value]]), (low, low + width))
    expected = min(1.0, max(0.0, (value - low) / width))
    assert found[0, 0] == 0.0 and abs(found[0, 1] - 1.0) < 1e-4
    assert abs(found[0, 2] - expected) < 1e-3


def test_resampling_keeps_the_mean() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    small = fit(noise, options(), "here").pixels
    assert small.shape == (1, 8, 8) and small.dtype == torch.uint8
    assert abs(float(small.float().mean()) - noise.mean()) < 2.0


# --- de-identification ---------------------------------------------------------------------------
def test_copies_name_no_patient(tmp_path: Path) -> None:
    values = RAMP.astype(np.int16)
    dicom(tmp_path / "in" / "normal" / "Doe_Jane.dcm", values)
    dicom(tmp_path / "in" / "normal" / "b.dcm", values, BurnedInAnnotation="YES")
    kept = deidentify_folder(tmp_path / "in", tmp_path / "out", "drop", keep=["normal"])
    assert kept == Copies(1, (SHOWS_PATIENT,))
    (copy,) = (tmp_path / "out").rglob("*.dcm")
    assert copy.parent.name == "normal" and "Doe" not in copy.name
    content = copy.read_bytes()
    for secret in (NAME, "P-4711", "19700101", "St. Elsewhere"):
        assert secret.encode() not in content, secret
    data = read_dicom(copy, "here")
    assert data.PatientIdentityRemoved == "YES"
    assert np.array_equal(data.pixel_array, values)
    source = read_dicom(tmp_path / "in" / "normal" / "Doe_Jane.dcm", "here")
    assert source.PatientName == NAME and source.SOPInstanceUID != data.SOPInstanceUID


def test_pixels_that_show_the_patient_are_refused(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP.astype(np.int16), BurnedInAnnotation="YES")
    with pytest.raises(DataError, match="task.burned_in = 'drop'"):
        decode(tmp_path / "a.dcm", options(), "here")
    left = decode(tmp_path / "a.dcm", options(burned_in="drop"), "here")
    assert isinstance(left, LeftOut) and "who the patient is" in left.reason
    with pytest.raises(DataError, match="file 1 of 1"):
        deidentify_folder(tmp_path, tmp_path / "out")


def test_headers_names_of_folders_and_odd_elements_are_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "in" / "Doe_Jane" / "a.dcm"
    dicom(path, RAMP.astype(np.int16))
    data = pydicom.dcmread(path)
    data.file_meta.SourceApplicationEntityTitle = "DOE_CT"
    data.preamble = b"Doe".ljust(128, b"\0")
    data.add_new((0x0040, 0xA123), "PN", "Doe^Jane")
    data.add_new((0x6000, 0x0022), "LO", "Doe overlay")
    data.add_new((0x0010, 0xAAAA), "UN", b"Doe")
    data.save_as(path)
    assert deidentify_folder(tmp_path / "in", tmp_path / "out") == Copies(1, ())
    (copy,) = (tmp_path / "out").rglob("*.dcm")
    assert b"Doe" not in copy.read_bytes() and b"DOE" not in copy.read_bytes()
    assert copy.parent.name == "folder-1"


def test_a_patients_copies_share_a_pseudonym(tmp_path: Path) -> None:
    for name, patient in (("a", "P-1"), ("b", "P-1"), ("c", "P-2")):
        dicom(tmp_path / "in" / patient / f"{name}.dcm", RAMP.astype(np.int16), patient)
    deidentify_folder(tmp_path / "in", tmp_path / "out")
    names = [str(read_dicom(p, "here").PatientID) for p in (tmp_path / "out").rglob("*.dcm")]
    assert sorted(names.count(name) for name in set(names)) == [1, 2]
    assert not {"P-1", "P-2", ""} & set(names)


def test_malformed_values_are_not_quoted(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "in" / "a.dcm"
    dicom(path, RAMP.astype(np.int16))
    path.write_bytes(path.read_bytes().replace(b"19700101", b"Mueller!"))
    deidentify_folder(tmp_path / "in", tmp_path / "out")
    assert not recwarn.list and "Mueller" not in caplog.text
    (copy,) = (tmp_path / "out").rglob("*.dcm")
    assert b"Mueller" not in copy.read_bytes()


def test_a_full_target_is_left_alone(tmp_path: Path) -> None:
    dicom(tmp_path / "in" / "a.dcm", RAMP.astype(np.int16))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("x")
    with pytest.raises(DataError, match="there already"):
        deidentify_folder(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kept"]


def test_a_patient_is_a_digest(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP.astype(np.int16), "P-1")
    dicom(tmp_path / "b.dcm", RAMP.astype(np.int16), "P-1")
    dicom(tmp_path / "c.dcm", RAMP.astype(np.int16), "P-2")
    found = [image(tmp_path / f"{name}.dcm", options(), "here") for name in "abc"]
    one, same, other = (one.patient for one in found)
    assert one == same != other and one is not None and "P-1" not in one


# --- compressed pixels ---------------------------------------------------------------------------
COMPRESSED = Path(pydicom.data.__file__).with_name("test_files")
"""What pydicom is shipped with."""


@pytest.mark.parametrize(
    ("compressed", "plain"),
    [
        ("MR_small_jpeg_ls_lossless", "MR_small"),
        ("MR_small_jp2klossless", "MR_small"),
        ("SC_rgb_jpeg_gdcm", "SC_rgb_rle"),  # JPEG Lossless, process 14
    ],
)
def test_lossless_compressions_have_the_values_of_plain_ones(compressed: str, plain: str) -> None:
    wanted = options(size=[64, 64], channels=3)
    first, second = (image(COMPRESSED / f"{n}.dcm", wanted, "here") for n in (compressed, plain))
    assert torch.equal(first.pixels, second.pixels)


@pytest.mark.parametrize("name", ["JPEGLSNearLossless_08", "JPEGLSNearLossless_16", "JPEG2000"])
def test_lossy_compressions_are_read(name: str) -> None:
    assert float(image(COMPRESSED / f"{name}.dcm", options(), "here").pixels.float().std()) > 0


def test_a_compression_that_nothing_reads_is_named_with_its_mend(tmp_path: Path) -> None:
    path = tmp_path / "Doe_Jane.dcm"
    path.write_bytes((COMPRESSED / "JPGExtended.dcm").read_bytes())
    with pytest.raises(
        DataError, match=r"here: .*JPEG Extended .*, 12 bits, can't be read; decompress it \(gdcm"
    ) as caught:
        decode(path, options(), "here")
    assert "Doe" not in str(caught.value)
