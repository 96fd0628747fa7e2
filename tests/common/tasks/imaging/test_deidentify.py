"""I1, I3, I5: the newest profile on every element it names, references that lead to copies, and
folders as archives and media write them."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicomanonymizer import dicom_anonymization_databases as tables
from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.common.tasks.imaging.shards import dicom
from wardround.common.errors import DataError
from wardround.common.tasks.data.allowance import allowing
from wardround.common.tasks.imaging.deidentify import (
    DIRECTORY,
    NO_DICOM,
    deidentify,
    deidentify_folder,
)

PIXELS = np.zeros((8, 8), dtype=np.int16)
SENTINEL = "SENTINEL"
ADDED_2025 = (
    *((0x0010, 0x0011), (0x0010, 0x0012), (0x0010, 0x0013), (0x0012, 0x0022), (0x0012, 0x0032)),
    *((0x0012, 0x0041), (0x0012, 0x0043), (0x0012, 0x0055), (0x0012, 0x0073), (0x3006, 0x002D)),
    (0x3006, 0x002E),
)
"""X in PS3.15's table of January 2025, and in no earlier one."""
NESTED = "PurposeOfReferenceCodeSequence"
"""A sequence that the profile keeps."""
_VALUES: dict[str, Any] = {
    **dict.fromkeys(["DA"], "19770707"),
    **dict.fromkeys(["TM"], "070707"),
    **dict.fromkeys(["DT"], "19770707070707"),
    **dict.fromkeys(["AS"], "077Y"),
    **dict.fromkeys(["UI"], "1.2.70707"),
    **dict.fromkeys(["DS", "IS"], "70707"),
    **dict.fromkeys(["US", "SS"], 7707),
    **dict.fromkeys(["UL", "SL", "FL", "FD", "UV", "SV"], 70707),
    **dict.fromkeys(["OB", "OW", "OF", "OD", "OL", "OV", "UN"], SENTINEL.encode()),
    **dict.fromkeys(["AT"], 0x00100010),
}


def named() -> list[tuple[int, int]]:
    """Every single element of the library's newest table, but for the header's."""
    found = [one.name for one in pkgutil.iter_modules(tables.__path__)]
    table = importlib.import_module(f"{tables.__name__}.{max(found)}")
    every = {tag for name, tags in vars(table).items() if name.endswith("_TAGS") for tag in tags}
    return sorted(tag for tag in every if len(tag) == 2 and tag[0] != 2 and not tag[0] % 2)


def filled(tags: list[tuple[int, int]]) -> Dataset:
    data = Dataset()
    for tag in tags:
        vr = dictionary_VR(tag) if dictionary_has_tag(tag) else "LT"
        if vr == "SQ":
            inner = Dataset()
            inner.PatientComments, inner.PatientName = SENTINEL, SENTINEL
            data.add_new(tag, "SQ", Sequence([inner]))
        else:
            vr = vr.split(" or ")[0]
            data.add_new(tag, vr, _VALUES.get(vr, SENTINEL))
    return data


def test_every_element_of_the_newest_table_loses_its_value_at_every_depth() -> None:
    tags = named()
    assert len(tags) > 600 and set(ADDED_2025) <= set(tags) | {(0x0010, 0x0012)}
    data, before = filled(tags), filled(tags)
    setattr(data, NESTED, Sequence([filled(tags)]))
    deidentify(data)
    (inner,) = data[NESTED].value
    for found in (data, inner):
        assert SENTINEL not in str(found)
        for tag in tags:
            if tag not in found or before[tag].VR == "SQ":
                continue
            assert found[tag].value != before[tag].value, tag


def test_what_no_table_names_is_removed_at_every_depth() -> None:
    """Elements that the profile leaves: names of persons, and what is written of an overlay."""
    data, inner = Dataset(), Dataset()
    for one in (data, inner):
        one.add_new((0x0014, 0x2006), "PN", SENTINEL)  # EvaluatorName
        for element in (0x0022, 0x1500):  # OverlayDescription, OverlayLabel
            one.add_new((0x6002, element), "LO", SENTINEL)
    setattr(data, NESTED, Sequence([inner]))
    deidentify(data)
    assert SENTINEL not in str(data) and len(data[NESTED].value) == 1


def test_what_no_dictionary_knows_is_removed_at_every_depth() -> None:
    data, inner = Dataset(), Dataset()
    for one in (data, inner):
        one.add_new((0x0010, 0xABCC), "LT", SENTINEL)
        one.Modality = "CT"
    setattr(data, NESTED, Sequence([inner]))
    deidentify(data)
    assert SENTINEL not in str(data) and data[NESTED].value[0].Modality == "CT"


def test_references_between_copies_lead_to_copies(tmp_path: Path) -> None:
    for name in "ab":
        dicom(tmp_path / "in" / f"{name}.dcm", PIXELS)
    first, second = (dcmread(tmp_path / "in" / f"{name}.dcm") for name in "ab")
    named = Dataset()
    named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID = (
        first.SOPClassUID,
        first.SOPInstanceUID,
    )
    second.ReferencedImageSequence = Sequence([named])
    second.save_as(tmp_path / "in" / "b.dcm")
    deidentify_folder(tmp_path / "in", tmp_path / "out")
    copies = [dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    (referring,) = (one for one in copies if "ReferencedImageSequence" in one)
    (item,) = referring.ReferencedImageSequence
    (other,) = (one for one in copies if one is not referring)
    assert item.ReferencedSOPInstanceUID == other.SOPInstanceUID != first.SOPInstanceUID
    assert item.ReferencedSOPClassUID == first.SOPClassUID
    assert "PatientIdentityRemoved" not in item and "DeidentificationMethod" not in item
    assert referring.PatientIdentityRemoved == "YES"


def medium(folder: Path, broken: int) -> None:
    """Forty files without endings, notes, a list of the medium, and some that are cut."""
    for number in range(40):
        dicom(folder / "ab"[number % 2] / f"IM{number}", PIXELS, patient=f"P{number // 4}")
    (folder / "a" / "notes.txt").write_text("Doe")
    listing = Dataset()
    listing.PatientName = "Doe^Jane"
    dicom(folder / "DICOMDIR", PIXELS, DirectoryRecordSequence=Sequence([listing]))
    for number in range(broken):
        (folder / f"cut{number}").write_bytes(b"\0" * 128 + b"DICM" + b"zz")


def test_a_medium_is_copied_without_what_is_no_image_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    medium(tmp_path / "in", 1)
    with allowing(0.05), caplog.at_level(logging.WARNING):
        copies = deidentify_folder(tmp_path / "in", tmp_path / "out")
    assert copies.written == 40 == len(list((tmp_path / "out").rglob("*.dcm")))
    assert {NO_DICOM, DIRECTORY} <= set(copies.left_out) and len(copies.left_out) == 3
    assert "file 43 of 43, by name" in caplog.text and "cut0" not in caplog.text


def test_more_damaged_files_than_may_be_leave_no_copy(tmp_path: Path) -> None:
    medium(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    with allowing(0.05), pytest.raises(DataError, match="3 of 43 files can't be read"):
        deidentify_folder(tmp_path / "in", tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())
