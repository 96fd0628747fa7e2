"""What a file is by its name, or where that says nothing, by its content."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

Kind = Literal["picture", "dicom", "nifti"]
_PICTURES = frozenset([".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"])
_DICOM = frozenset([".dcm", ".dicom", ".ima"])
_NIFTI = (".nii", ".nii.gz")
_MAGIC_AT, _MAGIC = 128, b"DICM"
"""Of a DICOM file (PS3.10 7.1): archives write such without an ending."""


def kind_of(path: Path) -> Kind | None:
    """None for what is no image. A file that can't be opened is none that an ending names."""
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.endswith(_NIFTI):
        return "nifti"
    if suffix in _PICTURES:
        return "picture"
    return "dicom" if suffix in _DICOM or _has_magic(path) else None


def _has_magic(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(_MAGIC_AT)
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False
