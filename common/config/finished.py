"""The digest by which settings name a finished model: SHA-256 of its folder's ``files.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path

FILES, FOLDER, WEIGHTS = "files.json", "model", "model.safetensors"
"""A model's list of files; the model's folder in a run or in results; what only the model has."""


def model_digest(path: Path) -> str:
    """Of a model's folder, or of the run or results that it is in (which have a list of their own);
    hexadecimal.

    Whether the files are those of the list is for who opens it. Raises OSError, whose text is for
    people.
    """
    inside = (path / FOLDER).is_dir() and not (path / WEIGHTS).is_file()
    files = (path / FOLDER if inside else path) / FILES
    try:
        return hashlib.sha256(files.read_bytes()).hexdigest()
    except OSError as error:
        raise OSError(f"{path}: no finished model is there ({error.strerror})") from None
