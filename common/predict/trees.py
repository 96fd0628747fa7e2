"""Finished trees predict: the ``model.json`` of a study whose procedure was ``trees``.

The file has all that is needed: trees, features, and under ``wardround`` how the study reads a
table (``task.options``) and what its classes are called. Plain xgboost loads the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from pydantic import ValidationError

from wardround.common.errors import ModelRefused
from wardround.common.figures.sums import Sums
from wardround.common.predict.base import Predicts, Values
from wardround.common.predict.given import Piece
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.schema import PREDICTION, RISK
from wardround.common.tasks.table_schema import table_schema
from wardround.common.tasks.tabular_rows import TabularRows
from wardround.common.trees.model import TreeModel
from wardround.common.trees.table import CLASSES, OPTIONS, matrix_of
from wardround.common.trees.xgboost_read import read_file

FILE = "model.json"
_GAP = "the side of each split that training found the better one"
_OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "survival": "survival:cox",
}


def tree_file(path: Path | str) -> Path | None:
    """The file of trees that a path is or holds; None of any other."""
    given = Path(path)
    if given.suffix == ".json":
        return given
    return given / FILE if (given / FILE).is_file() else None


def load_trees(path: Path | str) -> TreePredictor:
    """Finished trees that predict: of a ``model.json``, or the folder that it lies in.

    Raises ModelRefused for what is no such file.

    >>> from wardround.common.errors import ModelRefused
    >>> try:
    ...     load_trees("nothing.json")
    ... except ModelRefused as error:
    ...     print(error)
    nothing.json: isn't there; name a run's model.json
    """
    return TreePredictor(tree_file(path) or Path(path) / FILE)


class TreePredictor(Predicts):
    """See ``load_trees``.

    Attributes
    ----------
    path : of the file
    model : the trees
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model, more = read_file(path)
        self._options, classes = _settings(more, self.model, str(path))
        totals = _totals(self.model, self._options, classes)
        schema = table_schema(self._options, totals)
        inputs = tuple(one.model_copy(update={"gap": _GAP}) for one in schema.inputs)
        if {one.name for one in inputs} != {one.name for one in self.model.features}:
            raise ModelRefused("has trees over other columns than its study", who=str(path))
        rows = TabularRows(self._options)
        super().__init__(rows, totals, schema.model_copy(update={"inputs": inputs}))

    @property
    def model_digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def check(self, today: date | None) -> None:
        """Such a file has no last day."""

    def _values(self, parts: Iterator[Piece]) -> Iterator[tuple[Piece, Values]]:
        for part in parts:
            margins = self.model.margins(matrix_of(part.raw, self.model.features, self._options))
            yield part, self._named(margins)

    def _named(self, margins: Any) -> Values:
        kind, outputs = self._options.kind, [one.name for one in self.schema.outputs]
        if kind == "survival":
            return {RISK: margins[:, 0].astype(np.float64)}
        found = self.model.objective.predicted(margins).astype(np.float64)
        if kind == "multiclass":
            return {name: found[:, place] for place, name in enumerate(outputs)}
        return {PREDICTION if kind == "regression" else outputs[0]: found}


def _settings(
    more: Mapping[str, Any], model: TreeModel, who: str
) -> tuple[TabularOptions, tuple[str, ...]]:
    options, classes = more.get(OPTIONS), more.get(CLASSES)
    if not isinstance(options, dict) or not isinstance(classes, list):
        raise ModelRefused(
            "doesn't say how its study reads a table", who=who, mend="predict with xgboost itself"
        )
    try:
        found = TabularOptions(**options)
        columns = found.columns  # one of no categories that hospitals share is no feature
        used = [
            name for name in columns.categorical if name in {one.name for one in model.features}
        ]
        found = found.model_copy(
            update={"columns": columns.model_copy(update={"categorical": used})}
        )
    except (ValidationError, TypeError, ValueError):
        raise ModelRefused("holds no settings of a table", who=who) from None
    names = tuple(map(str, classes))
    outputs = len(names) if found.kind == "multiclass" else 1
    if _OBJECTIVES.get(found.kind) != model.objective.name or outputs != model.objective.outputs:
        raise ModelRefused("has trees that minimise something else than its study", who=who)
    return found, names


def _totals(model: TreeModel, options: TabularOptions, classes: tuple[str, ...]) -> Sums:
    """Names of columns, categories and classes, as a preparation has them: values mean nothing."""
    one, found = np.ones(1), Sums()
    for feature in model.features:
        name = quote(feature.name, safe="")
        if feature.levels is None and feature.name not in options.columns.binary:
            found[f"numeric/{name}/count"] = one
        for level in feature.levels or ():
            found[f"category/{name}/{quote(level, safe='')}"] = one
    return found | {f"class/{quote(name, safe='')}": one for name in classes}
