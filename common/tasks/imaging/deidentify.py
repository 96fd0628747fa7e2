"""DICOM without what identifies a patient: PS3.15, Basic Application Level Confidentiality Profile.

The library dicom-anonymizer has the profile's table and acts on a data set's own elements; those in
sequences that the profile keeps are walked to here.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wardround.common.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

METHOD = "PS3.15 Basic Application Level Confidentiality Profile"


def read_dicom(path: Path, place: str) -> Dataset:
    """A DICOM file. Raises DataError, which names ``place``, not the file."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        return pydicom.dcmread(path)
    except (InvalidDicomError, OSError, ValueError, EOFError) as error:
        raise DataError(f"{place}: not readable as DICOM ({type(error).__name__})") from None


def deidentify(dataset: Dataset) -> None:
    """Remove or replace, in place, every element that the profile names, and private ones.

    Pixels are as they were: see ``burned_in``.
    """
    from dicomanonymizer import anonymize_dataset

    anonymize_dataset(dataset)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                deidentify(item)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD


def burned_in(dataset: Dataset) -> bool:
    """Whether the file says that its pixels show who the patient is."""
    return str(dataset.get("BurnedInAnnotation", "")).upper() == "YES"


def deidentify_folder(
    source: Path, target: Path, on_burned_in: Literal["refuse", "drop", "keep"] = "refuse"
) -> tuple[int, int]:
    """De-identified copies of the DICOM files below ``source``, under random names.

    Folders keep their names, for they may be classes. Returns how many were written and left out.
    Raises DataError for a target that isn't new or empty, or a file that can't be read or mustn't
    be copied; what was written until then stays.
    """
    if target.exists() and any(target.iterdir()):
        raise DataError(f"{target}: not empty; name a new folder for the de-identified copies")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    if not files:
        raise DataError(f"{source}: there are no files here")
    written = dropped = 0
    for number, path in enumerate(files, 1):
        place = f"{source}: file {number} of {len(files)}, by name"
        dataset = read_dicom(path, place)
        if burned_in(dataset) and on_burned_in != "keep":
            if on_burned_in == "refuse":
                raise DataError(
                    f"{place}: its pixels show who the patient is (BurnedInAnnotation); remove it, "
                    "or leave such files out with --burned-in drop"
                )
            dropped += 1
            continue
        deidentify(dataset)
        folder = target / path.parent.relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        dataset.save_as(folder / f"{secrets.token_hex(8)}.dcm")
        written += 1
    return written, dropped
