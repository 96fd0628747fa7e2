"""Images made up for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

NAME = "Doe^Jane"


def png(path: Path, values: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def dicom(
    path: Path,
    values: NDArray[np.int16] | NDArray[np.uint8],
    patient: str = "P-4711",
    **elements: object,
) -> None:
    """A CT slice, with its patient's name at the top, in sequences and in a private element."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    data.PatientName, data.PatientID, data.PatientBirthDate = NAME, patient, "19700101"
    data.StudyDate, data.InstitutionName, data.Modality = "20240102", "St. Elsewhere", "CT"
    inner = Dataset()
    inner.PatientName, inner.CodeMeaning = NAME, "chest"
    data.ProcedureCodeSequence = Sequence([inner])
    data.SharedFunctionalGroupsSequence = Sequence([inner])
    data.private_block(0x0011, "ACME", create=True).add_new(0x01, "LO", NAME)
    data.Rows, data.Columns = values.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    whole = values.dtype == np.uint8
    data.BitsAllocated = data.BitsStored = 8 if whole else 16
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0 if whole else 1
    for key, value in elements.items():
        setattr(data, key, value)
    data.PixelData = values.astype("u1" if whole else "<i2").tobytes()
    data.save_as(path, enforce_file_format=True)
