"""What a request's columns become: tables are fed to the graph as they are, texts are cut into
tokens first, by the tokenizer beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.client.serving.asked import Columns
from wardround.common.errors import DataError, ModelRefused
from wardround.common.export.folder import ExportFolder
from wardround.common.export.session import GraphSession
from wardround.common.tasks.data.row_names import ROW
from wardround.common.tasks.schema import TAGS

_SPAN = ["start", "end", "entity"]
Outputs = Mapping[str, NDArray[Any]]
Run = Callable[[Columns], Outputs]


def runner_of(export: ExportFolder, threads: int) -> Run:
    """Outputs by name, N each, of a request's columns. Raises ModelRefused for a model whose rows
    no request can bring."""
    if export.schema.task == "tabular":
        return export.session(threads).run
    if export.schema.task == "text":
        return _Texts(export, export.session(threads)).run
    raise ModelRefused(
        f"a model of task '{export.schema.task}' isn't served: its rows are files",
        who=str(export.path),
        mend="wardround predict reads them",
    )


class _Texts:
    """Of one input, a text; '' is a gap, for which there is no prediction."""

    def __init__(self, export: ExportFolder, session: GraphSession) -> None:
        from wardround.common.export.runtime import rows_of_export

        self._rows, self._session = rows_of_export(export), session
        self._outputs = [one.name for one in export.schema.outputs]
        (one,) = export.schema.inputs
        self._input = one.name

    def run(self, columns: Columns) -> Outputs:
        """Classes: N float64; tags: N lists of spans, each with start, end and entity; a span's own
        text isn't repeated. Raises DataError."""
        texts = columns[self._input]
        there = np.flatnonzero(texts != "")
        if not len(there):
            raise DataError("there is no text in it")
        raw = self._rows.rows_of_values([texts[place] for place in there])
        values = self._rows.predictions(self._session, raw)
        found = self._rows.predicted(raw, values)
        places = there[np.asarray(found[ROW], dtype=np.int64) - 1]
        if self._outputs == [TAGS]:
            spans = np.empty(len(texts), dtype=object)
            spans[:] = [[] for _ in texts]
            for place, one in zip(places, found.select(_SPAN).to_pylist(), strict=True):
                spans[place].append(one)
            return {TAGS: spans}
        outputs = {name: np.full(len(texts), np.nan) for name in self._outputs}
        for name, column in outputs.items():
            column[places] = np.asarray(found[name])
        return outputs
