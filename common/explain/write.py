"""Rows are explained and the page is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from wardround.common.durable.files import write_atomically, writing
from wardround.common.explain.explain import explain_rows
from wardround.common.explain.page import page
from wardround.common.model_folder.folder import ModelFolder


def write_explained(
    folder: ModelFolder,
    module: nn.Module,
    raw: Any,
    rows: Sequence[int],
    out: Path,
    *,
    train: Any = None,
    background: Any = None,
) -> Path:
    """Write the page of these rows (from 1), for its owner only.

    Raises as ``explain_rows``; RunDirectoryError where it can't be written.
    """
    places = [row - 1 for row in dict.fromkeys(rows)]
    found = explain_rows(folder, module, raw, places, train=train, background=background)
    title = f"Rows of a model of {folder.listed.network or folder.listed.run}"
    text = page(title, found, folder.schema.task == "text")
    with writing(out, "explain them again"):
        write_atomically(out, text.encode(), private=True)
    return out
