"""A table's columns as the rows that trees take, and what a file of trees says of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.tasks.categories import refuse_unknown
from wardround.common.tasks.columns import category_codes
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.features import NOT_A_NUMBER
from wardround.common.tasks.options import TabularOptions
from wardround.common.trees.features import Feature, Floats32, as_rows

OPTIONS, CLASSES = "options", "classes"


def told_of(options: TabularOptions, classes: Sequence[str]) -> dict[str, Any]:
    """What ``xgboost_file.text_of`` is given beside a model, so that ``predict`` reads tables as
    the study did. classes : of a multi-class target, in the order of its outputs"""
    return {OPTIONS: options.model_dump(mode="json"), CLASSES: list(classes)}


def matrix_of(table: Table, features: Sequence[Feature], options: TabularOptions) -> Floats32:
    """N x P float32. Raises DataError by its place for a cell that can't be read, and for one
    outside declared categories, where the options refuse these."""
    return as_rows([_column(table, one, options) for one in features])


def _column(table: Table, feature: Feature, options: TabularOptions) -> NDArray[np.float64]:
    name = feature.name
    if feature.levels is not None:
        refuse_unknown(table, name, {}, options)
        known = {text: place for place, text in enumerate(feature.levels)}
        places = category_codes(table, name, options).numbers_of(known)
        return np.where(places < 0, np.nan, places.astype(np.float64))
    if name in options.columns.binary:
        return options.binary_values(name).read(table, name)
    return table.numbers(name, NOT_A_NUMBER)
