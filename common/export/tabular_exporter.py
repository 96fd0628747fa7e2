"""Exports of tabular models: the graph, and what the model itself predicts for the rows it is tried
on (``table_cases.py``).

A row that float32 doesn't settle, as the same model in float64 predicts something else, isn't
compared: on it no two programs need agree.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays, Cases, Exporter
from wardround.common.export.rows import columns_of
from wardround.common.export.source import Source
from wardround.common.export.table_cases import TableCases, column_of
from wardround.common.export.tabular import known_constants, tabular_graph, task_of
from wardround.common.export.tabular_program import TabularProgram, program_inputs
from wardround.common.tasks.data.reading.texts import missing_codes
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import features
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.targets import scale

_STEADY, _LEAST_STEADY = 0.2, 0.5
"""Of the tolerance; of the rows."""
Predictions = Mapping[str, NDArray[Any]]


class TabularExporter(Exporter):
    """See ``tabular.py`` for what the graph takes."""

    def graph(self, source: Source) -> bytes:
        return tabular_graph(source)

    def program(self, source: Source) -> nn.Module:
        return TabularProgram(source)

    def program_inputs(self, source: Source, columns: Arrays) -> tuple[Tensor, ...]:
        return program_inputs(source, columns)

    def cases(self, source: Source) -> Cases:
        options, inputs = task_of(source).options, source.schema.inputs
        known = known_constants(source)
        rows = TableCases(inputs, options, known.without_fill(options))
        valid = rows.valid()
        kinds = {"number": pa.float64(), "binary": pa.string(), "category": pa.string()}
        cells = {one.name: pa.array(column_of(valid, one), kinds[one.kind]) for one in inputs}
        table = _table(pa.table(cells), options)
        predictions, steady = self._predictions(source, table)
        columns = columns_of(table, options, inputs)
        return Cases(
            {name: values[steady] for name, values in columns.items()},
            {name: values[steady] for name, values in predictions.items()},
            rows.refused(columns),
            _scales(source),
        )

    def _predictions(self, source: Source, table: Table) -> tuple[Predictions, NDArray[np.bool_]]:
        """The model's own, by the product's path, and of which rows they are steady."""
        task, totals = task_of(source), source.totals
        train = table if source.train is None else source.train
        matrix = features(table, totals, train, task.options)
        inputs = torch.from_numpy(matrix.astype(np.float32))
        finer = copy.deepcopy(source.module).double()
        with torch.no_grad():
            found = task.predictions(source.module(inputs), totals)
            exact = task.predictions(finer(inputs.double()), totals)
        steady, scales = np.ones(len(table), dtype=np.bool_), _scales(source)
        for name, values in found.items():
            with np.errstate(invalid="ignore"):
                gap = np.abs(values - exact[name])
                if name in scales:
                    gap = gap / np.maximum(np.abs(exact[name]), scales[name])
            steady &= gap <= _STEADY * self.tolerance
        if steady.mean() < _LEAST_STEADY:
            raise ModelRefused(
                f"{int((~steady).sum())} of {len(steady)} rows are predicted otherwise in float64: "
                "its weights leave the range of float32",
                who=str(source.path),
                mend="train it with a lower learning rate, or with task.normalise = 'federated'",
            )
        return found, steady


def _table(data: pa.Table, options: TabularOptions) -> Table:
    origin = np.column_stack([np.zeros(len(data), dtype=np.int64), np.arange(len(data))])
    codes = missing_codes(options.missing_values)
    return Table(data, (Path("rows"),), origin, (lambda row: row + 1,), codes)


def _scales(source: Source) -> dict[str, float]:
    """Of outputs that are no probabilities: the target's deviation, or 1 of a log hazard."""
    deviation = scale(source.totals)[1] if task_of(source).kind == "regression" else 1.0
    return {x.name: deviation for x in source.schema.outputs if x.kind != "probability"}
