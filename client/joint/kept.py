"""A party's own part of a model that several parties have together: it never leaves.

KIT/model/split.safetensors     weights by name; of columns, mean and deviation by which they
                                were standardised
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from wardround.common.durable.private import private_folder
from wardround.common.durable.tensors import write_tensors


def keep_part(
    folder: Path, procedure: str, run: str, study: str, arrays: Mapping[str, NDArray[Any]]
) -> Path:
    """Write it, over an earlier run's. Gives its file."""
    private_folder(folder)
    path = folder / f"{procedure}.safetensors"
    write_tensors(path, dict(arrays), {"procedure": procedure, "run": run, "study": study})
    return path
