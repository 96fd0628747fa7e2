"""Exports of tabular models: the graph, and what the model itself predicts for the rows it is tried
on (``table_cases.py``).

A row that float32 doesn't settle, as the same model in float64 predicts something else, isn't
compared: on it no two programs need agree.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays, Cases, Exporter, Fed
from wardround.common.export.parity import differences
from wardround.common.export.rows import columns_of
from wardround.common.export.source import Source
from wardround.common.export.table_cases import TableCases, column_of
from wardround.common.export.tabular import tabular_graph, task_of
from wardround.common.export.tabular_program import TabularProgram, program_inputs
from wardround.common.model.precision import autocast, whole
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.targets import scale

_ROWS_AT_A_TIME = 1024
_STEADY, _LEAST_STEADY = 0.2, 0.5
"""Of the tolerance; of the rows."""
_TYPES = {"number": pa.float64(), "binary": pa.string(), "category": pa.string()}
Predictions = Mapping[str, NDArray[Any]]


class TabularExporter(Exporter):
    """See ``tabular.py`` for what the graph takes."""

    def graph(self, source: Source) -> bytes:
        return tabular_graph(source)

    def program(self, source: Source) -> nn.Module:
        return TabularProgram(source)

    def program_inputs(self, source: Source, columns: Arrays) -> tuple[Tensor, ...]:
        return program_inputs(source, columns)

    def rows(self, source: Fed, raw: Any) -> Iterator[Arrays]:
        columns = columns_of(raw, task_of(source).options, source.schema.inputs)
        for at in range(0, len(raw), _ROWS_AT_A_TIME):
            yield {name: values[at : at + _ROWS_AT_A_TIME] for name, values in columns.items()}

    def outputs(self, source: Fed, predictions: Arrays) -> Tensor:
        """Of a regression standardised again, of survival the logarithms of hazards."""
        task = task_of(source)
        if task.kind in ("binary", "multiclass"):
            return super().outputs(source, predictions)
        mean, std = scale(source.totals) if task.kind == "regression" else (0.0, 1.0)
        mean, std = float(np.float32(mean)), float(np.float32(std))  # as the graph has them
        (values,) = predictions.values()
        return torch.from_numpy((values - mean) / std)[:, None]

    def cases(self, source: Source) -> Cases:
        task, inputs = task_of(source), source.schema.inputs
        rows = TableCases(inputs, task.options)
        valid = rows.valid()
        cells = {one.name: pa.array(column_of(valid, one), _TYPES[one.kind]) for one in inputs}
        table = task.readable(task.rows_of_table(pa.table(cells)), source.totals)
        columns = columns_of(table, task.options, inputs)
        found, exact, rounded = self._predictions(source, table)
        steady = self._steady(source, found, exact)
        return Cases(
            {name: values[steady] for name, values in columns.items()},
            {name: values[steady] for name, values in found.items()},
            rows.refused(columns),
            _scales(source),
            {name: values[steady] for name, values in rounded.items()},
        )

    def _predictions(
        self, source: Source, table: Table
    ) -> tuple[Predictions, Predictions, Predictions]:
        """The model's own by the steps of ``predict``: in float32, in float64, and in the 16 bits
        that it was measured in, where it was."""
        task, totals, training = task_of(source), source.totals, source.folder.config.training
        own = table.select(np.zeros(0, dtype=np.int64)) if source.train is None else source.train
        inputs = task.prepare(table, totals, own).inputs
        assert isinstance(inputs, Tensor)  # a table's
        finer = copy.deepcopy(source.module).double()
        with torch.no_grad():
            found = task.predictions(source.module(inputs), totals)
            exact = task.predictions(finer(inputs.double()), totals)
            if training.precision == "float32":
                return found, exact, {}
            with autocast(training.model_copy(update={"device": "cpu"})):
                outputs = whole(source.module(inputs))
            return found, exact, task.predictions(outputs, totals)

    def _steady(self, source: Source, found: Predictions, exact: Predictions) -> NDArray[np.bool_]:
        """Of which rows float32 settles what is predicted. Raises ModelRefused if of few only."""
        scales = _scales(source)
        gaps = [differences(found[x], exact[x], scales.get(x)) for x in found]
        steady: NDArray[np.bool_] = np.max(np.stack(gaps), axis=0) <= _STEADY * self.tolerance
        if steady.mean() < _LEAST_STEADY:
            raise ModelRefused(
                f"{int((~steady).sum())} of {len(steady)} rows are predicted otherwise in float64: "
                "its weights leave the range of float32",
                who=str(source.path),
                mend="train it with a lower learning rate, or with task.normalise = 'federated'",
            )
        return steady


def _scales(source: Source) -> dict[str, float]:
    """Of outputs that are no probabilities: the target's deviation, or 1 of a log hazard."""
    deviation = scale(source.totals)[1] if task_of(source).kind == "regression" else 1.0
    return {x.name: deviation for x in source.schema.outputs if x.kind != "probability"}
