"""What an export needs beside its graph to predict: its task's rows, read and fed without torch."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from typing import Any, TypeVar

from numpy.typing import NDArray

from wardround.common.errors import ModelRefused
from wardround.common.export.folder import ExportFolder
from wardround.common.export.session import GraphSession
from wardround.common.tasks.to_predict import RowsToPredict

Raw = TypeVar("Raw")
_ROWS = {
    "text": "wardround.common.export.text_rows:TextRows",
    "imaging": "wardround.common.export.image_rows:ImageRows",
}
"""Task of a schema to the class that reads its rows."""


class GraphRows(RowsToPredict[Raw]):
    """Rows of one export's task. ``row_pieces`` and its like read them, ``predictions`` feeds them
    to the graph, ``predicted`` says what the outputs mean."""

    @abstractmethod
    def predictions(self, session: GraphSession, raw: Raw) -> dict[str, NDArray[Any]]:
        """The outputs for rows, by their names in the schema."""


def rows_of_export(folder: ExportFolder) -> GraphRows[Any]:
    """What reads and feeds rows for an export. Raises ModelRefused where nothing does."""
    if (name := folder.schema.task) not in _ROWS:
        raise ModelRefused(
            f"rows of task '{name}' aren't fed to graphs here",
            who=str(folder.path),
            mend="feed its session (ExportFolder.session) yourself",
        )
    module, _, kind = _ROWS[name].partition(":")
    made: GraphRows[Any] = getattr(importlib.import_module(module), kind)(folder)
    return made
