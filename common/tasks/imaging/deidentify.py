"""DICOM without what identifies a patient: PS3.15, Basic Application Level Confidentiality Profile.

The library dicom-anonymizer has the profile's table and acts on a data set's own elements; those in
sequences that the profile keeps are walked to here. Removed besides: names of persons and elements
of unknown kind wherever they are, curves and overlays.
"""

from __future__ import annotations

import logging
import secrets
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wardround.common.errors import DataError, Unreadable

if TYPE_CHECKING:
    from pydicom import Dataset

METHOD = "PS3.15 Basic Application Level Confidentiality Profile"
_GROUPS = (0x5000, 0x6000)
"""Curves and overlays: what is drawn over an image, often its labels."""


@contextmanager
def silent_pydicom() -> Iterator[None]:
    """Without pydicom's warnings and log lines, which quote values."""
    log = logging.getLogger("pydicom")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            log.setLevel(level)


def read_dicom(path: Path, place: str) -> Dataset:
    """A DICOM file. Raises DataError, which names ``place``, not the file."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with silent_pydicom():
            dataset = pydicom.dcmread(path)
            dataset.decode()
            return dataset
    except (InvalidDicomError, OSError, ValueError, EOFError, LookupError) as error:
        raise Unreadable(f"{place}: not readable as DICOM ({type(error).__name__})") from None


def deidentify(dataset: Dataset) -> None:
    """Remove or replace, in place, every element that the profile names, and private ones.

    Pixels are as they were: see ``burned_in``.
    """
    from dicomanonymizer import anonymize_dataset

    with silent_pydicom():
        anonymize_dataset(dataset, base_rules_gen=lambda: _rules_for(dataset))
        for element in list(dataset):
            if element.VR == "SQ":
                for item in element.value:
                    deidentify(item)
            elif element.VR == "UN" or element.tag.group & 0xFF00 in _GROUPS:
                del dataset[element.tag]
            elif element.VR == "PN":
                element.value = ""
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD


@cache
def _rules() -> dict[tuple[int, ...], Callable[[Dataset, tuple[int, ...]], None]]:
    """The profile's newest table that the library has: what is done to each element."""
    from dicomanonymizer.simpledicomanonymizer import initialize_actions_2024b

    return dict(initialize_actions_2024b())


def _rules_for(dataset: Dataset) -> dict[tuple[int, ...], Any]:
    """The rules that this data set needs: of elements that it has, of repeating groups and of its
    header. The library looks for every element of its table, which takes five times as long."""
    present = {(tag.group, tag.element) for tag in dataset.keys()}
    return {
        tag: do for tag, do in _rules().items() if tag in present or len(tag) > 2 or tag[0] == 2
    }


def burned_in(dataset: Dataset) -> bool:
    """Whether the file says that its pixels show who the patient is."""
    return str(dataset.get("BurnedInAnnotation", "")).upper() == "YES"


def deidentify_folder(
    source: Path,
    target: Path,
    on_burned_in: Literal["refuse", "drop", "keep"] = "refuse",
    keep: Collection[str] = (),
) -> tuple[int, int]:
    """De-identified copies of the DICOM files below ``source``, under random names.

    A patient's files get one random pseudonym as PatientID, in this call. Folders are numbered, but
    for those whose names are in ``keep`` (classes). Returns how many were written and left out.
    Raises DataError for a target that isn't new or empty, or a file that can't be read or mustn't
    be copied; what was written until then stays.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: there already; name a new folder for the de-identified copies")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    if not files:
        raise DataError(f"{source}: there are no files here")
    pseudonyms, folders = dict[str, str](), _Folders(source, target, keep)
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
        patient = str(dataset.get("PatientID", "")).strip() or path.name
        pseudonym = pseudonyms.setdefault(patient, secrets.token_hex(8))
        try:
            folder = folders.of(path.parent)
            folder.mkdir(parents=True, exist_ok=True)
            write_copy(dataset, pseudonym, folder / f"{secrets.token_hex(8)}.dcm")
        except Exception as error:  # the profile's library and pydicom have errors of their own
            raise DataError(
                f"{place}: can't be de-identified ({type(error).__name__}); leave it out"
            ) from None
        written += 1
    return written, dropped


class _Folders:
    """Where copies go: a folder of the source is numbered, unless its name may be kept."""

    def __init__(self, source: Path, target: Path, keep: Collection[str]) -> None:
        self._keep = frozenset(keep)
        self._known: dict[Path, Path] = {source: target}

    def of(self, folder: Path) -> Path:
        if folder not in self._known:
            name = folder.name if folder.name in self._keep else f"folder-{len(self._known)}"
            self._known[folder] = self.of(folder.parent) / name
        return self._known[folder]


def write_copy(dataset: Dataset, patient: str, path: Path) -> None:
    """De-identify a data set in place and write it with a new header: the old one names the devices
    that sent it.

    patient : what stands as PatientID from then on

    Raises the errors of pydicom and of the profile's library, which may quote values.
    """
    from pydicom.dataset import FileMetaDataset

    syntax = dataset.file_meta.TransferSyntaxUID
    deidentify(dataset)
    dataset.PatientID = patient
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    with silent_pydicom():
        dataset.save_as(path, enforce_file_format=True)


def forget_uids() -> None:
    """Forget which new UID stands for which: the profile's library remembers all that it has seen.
    Copies that are made later refer to none that were made before."""
    from dicomanonymizer import simpledicomanonymizer

    simpledicomanonymizer.dictionary.clear()
