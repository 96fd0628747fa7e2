"""Rows of a table as the columns that a graph takes: the reading of training, without torch.

The graph knows categories by their normal form and by the names of ``task.columns.codes``; texts of
binary columns, decimal marks and whatever else a file may have are read here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import NOT_A_NUMBER
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import Input

Columns = dict[str, NDArray[Any]]


def columns_of(table: Table, options: TabularOptions, inputs: Iterable[Input]) -> Columns:
    """The columns of a table, N each, by name: float64 of numbers and of binary columns (0 and 1),
    NaN where a cell is empty; texts of categories, '' where it is.

    A row that isn't to be predicted (``tabular_rows.readable_rows``) has NaN in what the graph
    gives. Raises DataError, by its place, for a cell that can't be read.
    """
    found: Columns = {}
    for one in inputs:
        if one.kind == "category":
            coded = table.coded(one.name)
            found[one.name] = np.array([*coded.texts, ""], dtype=object)[coded.index]
        elif one.kind == "binary":
            found[one.name] = options.binary_values(one.name).read(table, one.name)
        else:
            found[one.name] = table.numbers(one.name, NOT_A_NUMBER)
    return found
