"""DICOM without what identifies a patient: PS3.15, Basic Application Level Confidentiality Profile.

The library dicom-anonymizer has the profile's table and acts on a data set's own elements; those in
sequences that the profile keeps are walked to here. Removed besides: names of persons and elements
that no dictionary knows wherever they are, curves and overlays.
"""

from __future__ import annotations

import logging
import pkgutil
import secrets
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wardround.common.errors import DataError, Unreadable
from wardround.common.tasks.data.allowance import OF_IMAGE_FILES, Unread, allowed
from wardround.common.tasks.data.left_out import LeftOut, added
from wardround.common.tasks.imaging.kinds import kind_of

if TYPE_CHECKING:
    from pydicom import Dataset

METHOD = "PS3.15 Basic Application Level Confidentiality Profile"
SHOWS_PATIENT = LeftOut(1, "images", "they show who the patient is")
NO_DICOM = LeftOut(1, "files", "no DICOM by their content")
DIRECTORY = LeftOut(1, "files", "DICOMDIR, which lists a medium and whose images it has")
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
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
    except (InvalidDicomError, OSError, ValueError, EOFError, LookupError) as error:
        raise Unreadable(f"{place}: not readable as DICOM ({type(error).__name__})") from None
    if lacks_pixels(dataset):
        raise Unreadable(f"{place}: ends before its pixels; get the file anew, or remove it")
    return dataset


def lacks_pixels(dataset: Dataset) -> bool:
    """Whether it is an image by its class and has no pixels: cut off in its header, or a shell.
    pydicom reads a file that ends there as one with fewer elements."""
    from pydicom.uid import UID

    if any(name in dataset for name in PIXELS) or is_directory(dataset):
        return False
    kind = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    return "SOPClassUID" not in dataset or "Image Storage" in UID(kind).name


def deidentify(dataset: Dataset) -> None:
    """Remove or replace, in place, every element that the profile names, private ones, and those
    that no dictionary knows. It says of itself that it was done, once, at its top.

    Pixels are as they were: see ``burned_in``.
    """
    with silent_pydicom():
        _apply_profile(dataset)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD


def _apply_profile(dataset: Dataset) -> None:
    """The profile on a data set, and on those in sequences that it keeps. One whose UIDs alone it
    replaces (X/Z/U*) is kept, so that references between copies lead to copies; what it removes or
    replaces as a whole has nothing left to be looked at twice."""
    from dicomanonymizer import anonymize_dataset

    rules = _rules_for(dataset)
    kept = [
        element.tag
        for element in dataset
        if element.VR == "SQ" and _rule_of(element) in ("", "delete_or_empty_or_replace_UID")
    ]
    for tag in kept:
        rules.pop((tag.group, tag.element), None)
    anonymize_dataset(dataset, base_rules_gen=lambda: rules)
    for tag in kept:
        for item in dataset[tag].value if tag in dataset else ():
            _apply_profile(item)
    _remove_unknown(dataset)


def _remove_unknown(dataset: Dataset) -> None:
    """Names of persons, overlays, and what nobody knows the meaning of; at every depth."""
    from pydicom.datadict import dictionary_has_tag

    for element in list(dataset):
        known = dictionary_has_tag(element.tag) and element.VR != "UN"
        if not known or element.tag.group & 0xFF00 in _GROUPS:
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _remove_unknown(item)
        elif element.VR == "PN":
            element.value = ""


def _rule_of(element: Any) -> str:
    """The name of what the profile does to an element; '' where it keeps it."""
    rule = _rules().get((element.tag.group, element.tag.element))
    return "" if rule is None else str(getattr(rule, "__name__", "unknown"))


@cache
def _rules() -> dict[tuple[int, ...], Callable[[Dataset, tuple[int, ...]], None]]:
    """The newest of the profile's tables that the library has: what is done to each element."""
    from dicomanonymizer import dicom_anonymization_databases as tables
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    names = [one.name for one in pkgutil.iter_modules(tables.__path__)]
    return dict(initialize_actions(max(n for n in names if n.startswith("dicomfields_2"))))


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


@dataclass(frozen=True)
class Copies:
    """written : how many copies; left_out : of the files that aren't, by reason"""

    written: int
    left_out: tuple[LeftOut, ...]


def deidentify_folder(
    source: Path,
    target: Path,
    on_burned_in: Literal["refuse", "drop", "keep"] = "refuse",
    keep: Collection[str] = (),
) -> Copies:
    """De-identified copies of the DICOM files below ``source``, under random names.

    A patient's files get one random pseudonym as PatientID, in this call. Folders are numbered, but
    for those whose names are in ``keep`` (classes). What is no DICOM file by its content, and what
    lists a medium (DICOMDIR), is left out; of damaged files as many as the hospital lets be
    (``data/allowance.py``), each listed in the log.

    Raises DataError for a target that isn't new or empty, more damaged files, or one that mustn't
    be copied; then nothing stays in the target.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: there already; name a new folder for the de-identified copies")
    files = [path for path in sorted(source.rglob("*")) if path.is_file()]
    if not files:
        raise DataError(f"{source}: there are no files here")
    try:
        return _copied(source, files, _Folders(source, target, keep), on_burned_in)
    except BaseException:
        for entry in target.iterdir() if target.is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        raise


def _copied(source: Path, files: Sequence[Path], folders: _Folders, on_burned_in: str) -> Copies:
    pseudonyms, left = dict[str, str](), list[LeftOut]()
    unread, written = Unread("files", allowed(OF_IMAGE_FILES)), 0
    for number, path in enumerate(files, 1):
        place = f"{source}: file {number} of {len(files)}, by name"
        if kind_of(path) != "dicom":
            left.append(NO_DICOM)
            continue
        try:
            dataset = read_dicom(path, place)
            if is_directory(dataset):
                left.append(DIRECTORY)
                continue
            if burned_in(dataset) and on_burned_in != "keep":
                if on_burned_in == "refuse":
                    raise DataError(
                        f"{place}: its pixels show who the patient is (BurnedInAnnotation); remove "
                        "it, or leave such files out with --burned-in drop"
                    )
                left.append(SHOWS_PATIENT)
                continue
            patient = str(dataset.get("PatientID", "")).strip() or path.name
            pseudonym = pseudonyms.setdefault(patient, secrets.token_hex(8))
            folder = folders.of(path.parent)
            folder.mkdir(parents=True, exist_ok=True)
            write_copy(dataset, pseudonym, folder / f"{secrets.token_hex(8)}.dcm")
        except Unreadable as error:
            unread.add(str(error))
        except DataError:
            raise
        except OSError as error:
            raise DataError(f"{place}: no copy can be written ({error.strerror})") from None
        except Exception as error:  # the profile's library and pydicom have errors of their own
            unread.add(f"{place}: can't be de-identified ({type(error).__name__}); leave it out")
        else:
            written += 1
    left.append(unread.left_out(written + len(unread)))
    if not written:
        raise DataError(f"{source}: none of {len(files)} files is a DICOM file that can be copied")
    return Copies(written, added(left))


def is_directory(dataset: Dataset) -> bool:
    """Whether it lists the files of a medium, and whose they are (PS3.10, DICOMDIR)."""
    kind = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    return kind == _MEDIA_DIRECTORY or "DirectoryRecordSequence" in dataset


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
