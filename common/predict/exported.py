"""An exported graph predicts, by onnxruntime: without code of a model's own, and without torch but
where image files are read.

Rows are read as the task reads them. What is prepared within the graph isn't prepared here, so that
a model of one hospital's own preparation needs none of that hospital's rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.export.folder import ExportFolder
from wardround.common.export.rows import columns_of
from wardround.common.export.runtime import GraphRows, rows_of_export
from wardround.common.export.session import GraphSession
from wardround.common.predict.base import Predicts, Values
from wardround.common.predict.given import Piece
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.tabular_rows import TabularRows

ROWS_AT_A_TIME = 8192


def load_export(folder: Path | str, *, threads: int = 1) -> ExportedPredictor:
    """An export of ``wardround export`` that predicts as the model does, within its parity.

    threads : of onnxruntime; of one, equal rows get equal bits

    Raises ModelRefused for a folder that was altered, a graph that can't be loaded, and a task
    whose rows aren't read here.
    """
    return ExportedPredictor(ExportFolder.open(folder), threads=threads)


class TableRows(TabularRows):
    """Rows of a table for one export, with what feeds them to its graph."""

    def __init__(self, folder: ExportFolder) -> None:
        super().__init__(TabularOptions(**folder.options))
        self._inputs = folder.schema.inputs

    def predictions(self, session: GraphSession, raw: Table) -> dict[str, NDArray[Any]]:
        """The outputs by name, N each."""
        columns = columns_of(raw, self.options, self._inputs)
        found = []
        for start in range(0, max(len(raw), 1), ROWS_AT_A_TIME):
            part = {name: c[start : start + ROWS_AT_A_TIME] for name, c in columns.items()}
            found.append(session.run(part))
        return {name: np.concatenate([one[name] for one in found]) for name in session.outputs}


class ExportedPredictor(Predicts):
    """See ``load_export``. folder : the export's"""

    def __init__(self, folder: ExportFolder, *, threads: int = 1) -> None:
        self.folder = folder
        tabular = folder.schema.task == "tabular"
        self._rows: TableRows | GraphRows[Any] = (
            TableRows(folder) if tabular else rows_of_export(folder)
        )
        super().__init__(self._rows, folder.totals, folder.schema)
        self._session = folder.session(threads)

    def check(self, today: date | None) -> None:
        self.folder.check(None, today)

    @property
    def model_digest(self) -> str:
        """Of the model that the export was made of."""
        return self.folder.info.model

    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        for part in parts:
            found = self._rows.predictions(self._session, part.raw)
            yield part, {name: values.astype(np.float64) for name, values in found.items()}
