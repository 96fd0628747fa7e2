"""The digest by which settings name a finished model: SHA-256 of its folder's ``files.json``."""

from __future__ import annotations

import hashlib
from pathlib import Path

FILES, FOLDER = "files.json", "model"
"""A model's list of files; the model's folder in a run or in results."""


def model_digest(path: Path) -> str:
    """Of a model's folder, or of the run or results that it is in; hexadecimal.

    Whether the files are those of the list is for who opens it. Raises OSError, whose text is for
    people.
    """
    for folder in (path, path / FOLDER):
        if (folder / FILES).is_file():
            try:
                return hashlib.sha256((folder / FILES).read_bytes()).hexdigest()
            except OSError as error:
                raise OSError(f"{folder / FILES}: can't be read ({error.strerror})") from None
    raise OSError(f"{path}: no finished model is there")
