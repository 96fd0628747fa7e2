"""A table's model as a torch module with gaps and scale inside, for ``torch.export``.

    numbers     float64 N x n   columns of numbers, NaN where the cell is empty
    binaries    float64 N x b   binary columns, 0 and 1, NaN where the cell is empty
    categories  int64 N x c     the number of each category, as the schema orders them; -1 an empty
                                cell, -2 any other text

Columns of each kind stand in the order of ``schema.inputs``. What comes out is a dict by the names
of the outputs, float64 N each, NaN in a row that ``wardround predict`` refuses. The arithmetic is
that of the ONNX graph (``tabular.py``).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wardround.common.export.category_numbers import GAP, UNSEEN, category_numbers
from wardround.common.export.exporter import Arrays
from wardround.common.export.source import Source
from wardround.common.export.tabular import known_constants, task_of
from wardround.common.tasks.categories import vocabulary
from wardround.common.tasks.data.numbers import MAX_ABS_NUMBER
from wardround.common.tasks.data.reading.texts import missing_codes, missing_numbers
from wardround.common.tasks.features import Matrix


class TabularProgram(nn.Module):
    """See the module's docstring."""

    number_fills: Tensor | None
    binary_fills: Tensor | None
    mean: Tensor | None
    std: Tensor | None

    def __init__(self, source: Source) -> None:
        super().__init__()
        task, totals = task_of(source), source.totals
        options, inputs = task.options, source.schema.inputs
        known = known_constants(source)
        self._kind = task.kind
        self._outputs = [one.name for one in source.schema.outputs]
        self._first = 1 if options.encoding == "dummy" else 0
        categories = [one.name for one in inputs if one.kind == "category"]
        self._sizes = [len(vocabulary(totals, name, options)) for name in categories]
        self._refuses_gaps = options.missing != "median"
        declared = options.columns.categories if options.unknown == "refuse" else {}
        self._refuses_unseen = [name in declared for name in categories]
        for kind in ("number", "binary"):
            fills = [known.fills.get(x.name, np.nan) for x in inputs if x.kind == kind]
            self._keep(f"{kind}_fills", np.array(fills))
        self._codes = missing_numbers(missing_codes(options.missing_values))
        self._keep("mean", known.mean)
        self._keep("std", known.std)
        # its hook, if it has one, puts outputs into their unit
        self.model = copy.deepcopy(source.module).requires_grad_(False)

    def _keep(self, name: str, values: Matrix | None) -> None:
        empty = values is None or not values.size  # torch.export.save fails on an empty tensor
        self.register_buffer(name, None if empty else torch.from_numpy(np.array(values)))

    def forward(self, numbers: Tensor, binaries: Tensor, categories: Tensor) -> dict[str, Tensor]:
        """See the module's docstring."""
        gaps = numbers.isnan()
        for code in self._codes:
            gaps = gaps | (numbers == code)
        zero_or_one = (binaries == 0) | (binaries == 1)
        refused = (numbers.abs() > MAX_ABS_NUMBER).any(1)
        refused = refused | ~(binaries.isnan() | zero_or_one).all(1)
        blocks = []
        for fills, values, empty in (
            (self.number_fills, numbers, gaps),
            (self.binary_fills, binaries, binaries.isnan()),
        ):
            if fills is not None:
                refused = refused | (empty & fills.isnan()).any(1)
                blocks.append(torch.where(empty, fills, values))
        for at, size in enumerate(self._sizes):
            number = categories[:, at : at + 1]
            blocks.append((number == torch.arange(self._first, size)).double())
            if self._refuses_gaps:
                refused = refused | (number[:, 0] == GAP)
            if self._refuses_unseen[at]:
                refused = refused | (number[:, 0] == UNSEEN)
        values = torch.cat(blocks, 1)
        if self.mean is not None and self.std is not None:
            values = (values - self.mean) / self.std
        found = self._predictions(self.model(values.float()))
        return {name: column.masked_fill(refused, torch.nan) for name, column in found.items()}

    def _predictions(self, outputs: Tensor) -> dict[str, Tensor]:
        values = outputs.double()
        if self._kind == "multiclass":
            values = values.softmax(1)
            return {name: values[:, at] for at, name in enumerate(self._outputs)}
        values = values[:, 0]
        return {self._outputs[0]: values.sigmoid() if self._kind == "binary" else values}


def program_inputs(source: Source, columns: Arrays) -> tuple[Tensor, Tensor, Tensor]:
    """What the program takes, of the columns that the ONNX graph takes."""
    options, rows = task_of(source).options, len(next(iter(columns.values())))
    of_kind: dict[str, list[Any]] = {"number": [], "binary": [], "category": []}
    for one in source.schema.inputs:
        values = columns[one.name]
        if one.kind == "category":
            words = vocabulary(source.totals, one.name, options)
            known = category_numbers(one.name, words, options)
            values = np.array([known.get(text, UNSEEN) for text in values], dtype=np.int64)
        of_kind[one.kind].append(values)
    types = {"number": torch.float64, "binary": torch.float64, "category": torch.int64}
    numbers, binaries, categories = (
        torch.tensor(np.array(found), dtype=types[kind]).reshape(len(found), rows).T.contiguous()
        for kind, found in of_kind.items()
    )
    return numbers, binaries, categories
