"""One series on its way in: every object is held against what was asked for and de-identified in
memory, then written; whole series are put in an order that doesn't depend on who was fast."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wardround.client.sources.pacs.archive import NotGiven, Series, text_of
from wardround.client.sources.pacs.choice import HELD_BACK, may_have
from wardround.client.sources.pacs.settings import Limits
from wardround.client.sources.pacs.syntaxes import FORMS
from wardround.common.errors import DataError
from wardround.common.tasks.data.row_keys import digest_text, identifier_digest
from wardround.common.tasks.imaging.deidentify import (
    burned_in,
    lacks_pixels,
    silent_pydicom,
    write_copy,
)
from wardround.common.tasks.imaging.dicom import has_pixels
from wardround.common.tasks.imaging.options import ImagingOptions

if TYPE_CHECKING:
    from pydicom import Dataset

_DIGITS = 5


class Incoming:
    """A series that is written into an empty folder.

    allowed : patterns of modalities that the study may have
    patient : the digest to be known by; '' for the one of the objects
    named : the PatientID that was asked for, '' where it was something else
    """

    def __init__(
        self,
        folder: Path,
        series: Series,
        options: ImagingOptions,
        limits: Limits,
        allowed: Sequence[str],
        patient: str = "",
        named: str = "",
    ) -> None:
        self._folder, self._series = folder, series
        self._options, self._limits, self._allowed = options, limits, allowed
        self.patient, self._given, self._named = patient, patient, named
        self._written: list[tuple[int, str, Path]] = []
        self._seen: set[str] = set()
        self._localisers = 0
        self.bytes = 0

    def take(self, dataset: Dataset) -> None:
        """An object as the archive sends it. Raises NotGiven; nothing is written then."""
        uid = text_of(dataset, "SOPInstanceUID")
        if text_of(dataset, "SeriesInstanceUID") != self._series.uid:
            raise NotGiven("the archive sent an object of another series")
        if uid in self._seen:
            return
        self._seen.add(uid)
        if len(self._seen) > self._limits.max_objects:
            raise NotGiven(f"more objects than limits.max_objects ({self._limits.max_objects})")
        if str(dataset.file_meta.get("TransferSyntaxUID", "")) not in FORMS:
            raise NotGiven("its pixels are in a form (transfer syntax) that isn't taken")
        if lacks_pixels(dataset):
            raise NotGiven("an image without pixels")
        if not has_pixels(dataset):  # a report, or a presentation state, beside images
            return
        self._check(dataset)
        number = text_of(dataset, "InstanceNumber")
        kind = dataset.get("ImageType") or []
        self._localisers += "LOCALIZER" in ([kind] if isinstance(kind, str) else list(kind))
        path = self._folder / f"arrived-{len(self._written)}.dcm"
        self._copy(dataset, path)
        self.bytes += path.stat().st_size
        if self.bytes > self._limits.max_series_mb << 20:
            raise NotGiven("more bytes than limits.max_series_mb allows")
        order = int(number) if number.lstrip("-").isdecimal() else 0
        self._written.append((order, uid, path))

    @property
    def is_image(self) -> bool:
        """Whether anything of it is to be looked at: not of a series of surveys, or without
        pixels."""
        return len(self._written) > self._localisers

    def end(self) -> list[Path]:
        """The files, named in the order of the objects' numbers and UIDs.

        Raises NotGiven where fewer came than there are.
        """
        if self._series.objects is not None and len(self._seen) < self._series.objects:
            raise NotGiven(f"{len(self._seen)} of {self._series.objects} objects came")
        named = []
        for position, (_, _, path) in enumerate(sorted(self._written), 1):
            named.append(path.rename(self._folder / f"{position:0{_DIGITS}}.dcm"))
        return named

    def _check(self, dataset: Dataset) -> None:
        """Raise NotGiven for an object that the task wouldn't take, or of another patient."""
        if not may_have(text_of(dataset, "Modality"), self._allowed):
            raise NotGiven(HELD_BACK, fault=False)
        if burned_in(dataset) and self._options.burned_in != "keep":
            fault = self._options.burned_in == "refuse"
            raise NotGiven("its pixels show who the patient is (BurnedInAnnotation)", fault)
        frames = text_of(dataset, "NumberOfFrames") or "1"
        if len(self._options.size) == 2 and frames != "1":
            raise NotGiven("an object of many frames, where task.size has two numbers")
        # a study is a patient of its own where nothing says whose it is
        name = text_of(dataset, "PatientID") or f"study {self._series.study}"
        if self._named and name != self._named:
            raise NotGiven("the archive sent an object of another patient")
        patient = self._given or identifier_digest(name)
        if self.patient and patient != self.patient:
            raise NotGiven("its objects are of several patients")
        self.patient = patient

    def _copy(self, dataset: Dataset, path: Path) -> None:
        """De-identified, onto the disk; readable by its owner only."""
        try:
            with silent_pydicom():
                dataset.decode()
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                write_copy(dataset, digest_text(self.patient), path)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise DataError(f"{path.parent}: can't be written ({why}); make room") from None
        except Exception as error:  # of pydicom, of the profile's library: they quote values
            path.unlink(missing_ok=True)
            raise NotGiven(f"an object can't be de-identified ({type(error).__name__})") from None
