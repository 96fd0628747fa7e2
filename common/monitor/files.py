"""A reference is read or made of rows; what was seen is written, for its owner alone."""

from __future__ import annotations

from pathlib import Path

from wardround.common.drift.field import fields_of
from wardround.common.drift.reference import REFERENCE, Reference
from wardround.common.durable.private import private_folder, write_private
from wardround.common.errors import DataError
from wardround.common.monitor.report import page, to_text
from wardround.common.monitor.rows import read_rows
from wardround.common.monitor.watch import Watched, reference_of, score
from wardround.common.predict.predictor import Predictor

PAGE, VALUES = "monitor.html", "monitor.json"


def read_reference(predictor: Predictor, path: Path | None = None) -> Reference:
    """What a model's rows are held against.

    path : a ``reference.json``, or rows of before; None: the one in the model's folder

    Raises DataError where there is none, or it is of another model.
    """
    folder = predictor.folder
    fields = fields_of(folder.schema)
    if path is None:
        if (kept := folder.file(REFERENCE)) is None:
            raise DataError(
                "holds no reference to hold rows against",
                who=str(folder.path),
                mend="name rows of before, or a reference.json: --reference",
            )
        return Reference.read(kept, fields)
    if path.suffix == ".json" and path.is_file() and folder.schema.task == "tabular":
        return Reference.read(path, fields, folder.digest)
    return reference_of(folder, score(predictor, read_rows(folder.task, path)))


def write_watch(out: Path, watched: Watched) -> Path:
    """Write the page and the values, and return the page's path. Raises ProvisionError."""
    private_folder(out)
    write_private(out / VALUES, to_text(watched).encode())
    write_private(out / PAGE, page(watched).encode())
    return out / PAGE
