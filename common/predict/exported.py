"""An exported graph predicts, by onnxruntime: no torch is imported, and no code of a model's own.

Rows are read as the task reads them. What is prepared within the graph isn't prepared here, so that
a model of one hospital's own preparation needs none of that hospital's rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wardround.common.errors import ModelRefused
from wardround.common.export.folder import ExportFolder
from wardround.common.export.rows import columns_of
from wardround.common.predict.base import Predicts, Values
from wardround.common.predict.given import Piece
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


class ExportedPredictor(Predicts):
    """See ``load_export``. folder : the export's"""

    def __init__(self, folder: ExportFolder, *, threads: int = 1) -> None:
        if folder.schema.task != "tabular":
            raise ModelRefused(
                f"exports of the task '{folder.schema.task}' aren't read here",
                who=str(folder.path),
                mend="predict with the model's own folder",
            )
        self.folder, self._options = folder, TabularOptions(**folder.options)
        super().__init__(TabularRows(self._options), folder.totals, folder.schema)
        self._session = folder.session(threads)

    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        for part in parts:
            columns = columns_of(part.raw, self._options, self.schema.inputs)
            size = len(part.raw)
            found: list[dict[str, Any]] = []
            for start in range(0, max(size, 1), ROWS_AT_A_TIME):
                stop = start + ROWS_AT_A_TIME
                found.append(self._session.run({k: v[start:stop] for k, v in columns.items()}))
            yield (
                part,
                {
                    name: np.concatenate([one[name] for one in found]).astype(np.float64)
                    for name in self._session.outputs
                },
            )
