"""The built-in task: rows of numbers and categories, four kinds of target.

Logistic regression or an MLP for binary, multi-class, regression and Cox survival targets. Columns
are declared in ``[task.columns]``; preparation is agreed between hospitals from sums
(``features.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import DataError, TaskError
from wardround.common.figures import figure as figures
from wardround.common.figures.sums import Sums, regression_figures, regression_sums
from wardround.common.figures.survival import survival_figures, survival_sums
from wardround.common.flower.arrays import Arrays
from wardround.common.tasks import features
from wardround.common.tasks.base import Examples, Fit, Task
from wardround.common.tasks.categories import (
    classes,
    empty_columns,
    frequent,
    lost_lines,
    rare_lines,
    uncounted,
    undeclared,
)
from wardround.common.tasks.classes import (
    checked_outputs,
    class_figures,
    class_loss,
    class_predictions,
    class_sums,
    loss_sum,
    with_mean_loss,
)
from wardround.common.tasks.coefficients import Coefficient, table_coefficients
from wardround.common.tasks.columns import (
    feature_cells_missing,
    fit_columns,
    needed_columns,
    numeric_columns,
    target_columns,
    unscaled_lines,
    unused_columns,
)
from wardround.common.tasks.data.allowance import OF_TABLES, REASON, Unread, allowed
from wardround.common.tasks.data.example import breast_cancer_columns
from wardround.common.tasks.data.given import held_table
from wardround.common.tasks.data.left_out import added
from wardround.common.tasks.data.problems import Problems
from wardround.common.tasks.data.profile.words import says_site
from wardround.common.tasks.data.roles import patient_cells, split_cells, value_cells
from wardround.common.tasks.data.row_keys import identifier_keys
from wardround.common.tasks.data.shards import shard_sites
from wardround.common.tasks.data.table import Table
from wardround.common.tasks.data.tables import READABLE
from wardround.common.tasks.losses import cox_loss
from wardround.common.tasks.options import TabularOptions
from wardround.common.tasks.private_sums import ClassSums, NumberSums, PrivateSums
from wardround.common.tasks.private_table import PrivateTable
from wardround.common.tasks.schema import PREDICTION, RISK, Schema
from wardround.common.tasks.table_schema import table_schema
from wardround.common.tasks.tabular_model import make_model, model_shape
from wardround.common.tasks.tabular_rows import TabularRows, has_targets
from wardround.common.tasks.targets import (
    InUnit,
    absent_texts,
    no_targets,
    read_targets,
    scale,
    shard_labels,
    target_statistics,
    target_totals,
)

_FIGURES = {
    "binary": ("auc", figures.BINARY),
    "multiclass": ("accuracy", figures.MULTICLASS),
    "regression": ("rmse", figures.REGRESSION),
    "survival": ("c_index", figures.SURVIVAL),
    "none": ("loss", ()),
}

_EXAMPLE = Path("breast_cancer")


class TabularTask(TabularRows, Task[Table]):
    """See ``TabularOptions`` for the keyword arguments. Raises pydantic.ValidationError."""

    options_model = TabularOptions
    has_own_model = False
    """Whether ``model`` is a program's own (``own_model.py``)."""

    def __init__(self, **options: Any) -> None:
        self.options = TabularOptions(**options)
        if self.options.model.kind == "own" and not self.has_own_model:
            raise TaskError(
                "task.model.kind: 'own' is a model that a program gave, and no file holds its code",
                mend="give it again: simulate(model=...), load_model(FOLDER, model=...)",
            )
        self.kind = self.options.kind
        self.primary_metric, self.figures = _FIGURES[self.kind]
        self.higher_is_better = self.figure_table().primary.better == "higher"
        self.coupled_examples = self.kind == "survival"
        self.class_scores = self.kind in ("binary", "multiclass")
        self.squared_error = self.kind == "regression"
        federated = self.options.normalise == "federated"
        # else what is missing, or the scale, is of the hospital's own training rows
        self.rowwise = federated or (
            self.options.normalise == "none" and self.options.missing != "median"
        )
        self.phases = (3 if self.options.missing == "median" else 2) if federated else 1
        if self.kind == "regression":
            self.phases = max(2, self.phases)  # its target is put to scale in any case

    # --- data --------------------------------------------------------------------------------
    def load(self, path: Path | None) -> Table:
        """Usable rows of a shard: those with a target, and complete ones if ``missing = 'drop'``.

        None means scikit-learn's breast cancer data (569 rows, 30 features, 'malignant' is 1 or 0).
        """
        return self._usable(breast_cancer() if path is None else self.rows_of(path), path)

    def load_table(self, table: pa.Table, called: str) -> Table:
        return self._usable(held_table(table, self.options.missing_values, called), called)

    def _usable(self, table: Table, path: Path | str | None) -> Table:
        """Raises DataError with all that can't be read; ``path`` names the shard in messages."""
        options = self.options
        if options.columns.split and table.file_splits:
            raise DataError(f"{path}: its files' names say the split; leave out task.columns.split")
        problems = Problems(path)
        for name in needed_columns(options):
            with problems.collected():
                table.column(name)
        problems.check()
        for name in target_columns(options):
            table = table.keep(~table.missing(name), f"column '{name}' is empty")
        table = self._readable(table)
        if options.missing == "drop":
            gaps = feature_cells_missing(table, options)
            table = table.keep(~gaps, "an input is missing (task.missing = 'drop')")
        if len(table) == 0:
            raise DataError(f"{path}: no row has a target (and, with missing = 'drop', all inputs)")
        self._parse(table, path)
        return replace(table, left_out=added([*table.left_out, *uncounted(table, options)]))

    def _readable(self, table: Table) -> Table:
        """Without rows whose numbers can't be read, as far as the hospital lets them be left out.
        A column of which more can't be is refused where it is read as a whole."""
        share, options = allowed(OF_TABLES), self.options
        if share == 0:
            return table
        columns = options.columns
        targets = {"regression": [columns.target], "survival": [columns.time]}
        problems: dict[int, list[str]] = {}
        for name in map(str, [*numeric_columns(table, options), *targets.get(self.kind, [])]):
            bad, why = table.unread(name)
            for row in bad.tolist() if len(bad) <= share * len(table) else ():
                problems.setdefault(row, []).append(f"{table.place(row, name)}: {why}")
        unread = Unread("rows", share)
        for row in sorted(problems):
            unread.add(*problems[row])
        unread.left_out(len(table))
        return table.keep(~np.isin(np.arange(len(table)), list(problems)), REASON)

    def _parse(self, table: Table, path: Path | str | None) -> None:
        """Read every cell once, so that all bad ones are named now and not in the first round."""
        options, problems = self.options, Problems(path)
        if options.kind != "none":
            with problems.collected():
                read_targets(table, {}, options)
        for name in numeric_columns(table, options):
            with problems.collected():
                named = says_site(name)
                table.numbers(name, features.NAMES_SITES if named else features.NOT_A_NUMBER)
        for name in options.columns.binary:
            with problems.collected():
                options.binary_values(name).read(table, name)
        for name in undeclared(options):
            with problems.collected():
                frequent(table, name, options)
        problems.check()

    def sites(self, path: Path) -> dict[str, Path]:
        """Files that ``read_table`` reads in a folder, and folders, by name; other files are not
        hospitals. Raises DataError if two would have one name."""
        return shard_sites(path, READABLE)

    def labels(self, raw: Table) -> NDArray[np.int64]:
        """See ``targets.shard_labels``."""
        return shard_labels(raw, self.options)

    def patients(self, raw: Table) -> NDArray[np.str_] | None:
        name = self.options.columns.patient_id
        if name is None or name not in raw.columns:  # rows to predict may be without
            return None
        return patient_cells(raw, name)

    def row_keys(self, raw: Table) -> NDArray[np.str_]:
        """A patient's, else of all cells of the row, whether this task uses them or not. Whose a
        row is says the hospital, where it does, else the study."""
        if raw.people is not None:
            return identifier_keys(raw.people)
        return super().row_keys(raw) if self.options.columns.patient_id is not None else raw.keys

    def column(self, raw: Table, name: str) -> NDArray[np.str_]:
        return value_cells(raw, name)

    def given_split(self, raw: Table) -> NDArray[np.str_] | None:
        name = self.options.columns.split
        if name is None:
            return np.array(raw.file_splits)[raw.origin[:, 0]] if raw.file_splits else None
        return split_cells(raw, name)

    def warnings(self, raw: Table) -> list[str]:
        """One class only; columns that are mostly or wholly missing, or of another scale."""
        lines = []
        if self.kind in ("binary", "multiclass") and len(set(self.labels(raw).tolist())) < 2:
            lines.append("all training rows have the same target: it learns from the others only")
        if self.kind == "survival" and not self.labels(raw).any():
            lines.append("no event among the training rows: they carry no information on risk")
        columns = self.options.columns
        inputs = [*numeric_columns(raw, self.options), *columns.binary]
        for name in [*inputs, *columns.categorical]:
            share = raw.missing(name).mean()
            if share > 0.5:
                what = "wholly" if share == 1 else f"{share:.0%}"
                lines.append(f"column '{name}' is {what} missing")
        lines += [*raw.told, *_dialect_without_effect(raw, self.options)]
        return [*lines, *unscaled_lines(raw, self.options), *rare_lines(raw, self.options)]

    # --- preparation ---------------------------------------------------------------------------
    def statistics(self, train: Table, phase: int, totals: Sums) -> Sums:
        own = target_statistics(train, self.options, phase, totals)
        return features.statistics(train, self.options, phase, totals) | own

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        return fit_columns(keys, self.options)

    def private_preparation(self) -> PrivateTable:
        return PrivateTable(self.options)

    def agreed(self, totals: Sums) -> list[str]:
        """Columns and declared texts that nobody has rows for.

        Raises TaskError if no hospital has a text of ``task.positive``.
        """
        absent = absent_texts(totals, self.options)
        if absent and len(absent) == len(self.options.positive or ()):
            raise TaskError(
                f"task.positive: no hospital's training rows have a text of it ({absent[0]!r}, ...)"
                if len(absent) > 1
                else f"task.positive: no hospital's training rows have {absent[0]!r}",
                mend="write it as the files do; the case of letters doesn't matter",
            )
        lines = [f"task.positive: no hospital's training rows have {text!r}" for text in absent]
        return [*lines, *empty_columns(totals, self.options)]

    def unused(self, train: Table, totals: Sums) -> list[str]:
        extra = [
            f"column '{name}' is not used: few of the other hospitals have it; list it under "
            "task.columns.ignore"
            for name in unused_columns(train, totals, self.options)
        ]
        return [*extra, *lost_lines(train, totals, self.options)]

    def condense(self, totals: Sums) -> Sums:
        return target_totals(features.condense(totals, self.options))

    def prepare(self, raw: Table, totals: Sums, train: Table) -> Examples:
        matrix = features.features(raw, totals, train, self.options)
        inputs = torch.from_numpy(matrix.astype(np.float32))
        if not has_targets(raw, self.options):
            return Examples(inputs, no_targets(len(raw), self.options))
        return Examples(inputs, read_targets(raw, totals, self.options))

    def predictor(self, model: nn.Module, totals: Sums) -> nn.Module:
        if self.kind == "regression":
            model.register_forward_hook(InUnit(*scale(totals)))
        return model

    def standardised(self, values: Tensor, totals: Sums) -> Tensor:
        mean, std = scale(totals)
        return (values - mean) / std

    def schema(self, totals: Sums) -> Schema:
        return table_schema(self.options, totals)

    def input_names(self, totals: Sums) -> list[str]:
        return features.feature_names(totals, self.options)

    def coefficients(self, arrays: Arrays, totals: Sums) -> list[Coefficient]:
        return table_coefficients(arrays, totals, self.options)

    def predictions(self, outputs: Tensor, totals: Sums) -> dict[str, NDArray[np.float64]]:
        if self.kind in ("binary", "multiclass"):
            names = classes(totals, self.options) if self.kind == "multiclass" else ()
            return class_predictions(self.kind, outputs, names)
        name = RISK if self.kind == "survival" else PREDICTION
        return {name: outputs.detach().cpu().double()[:, 0].numpy()}

    # --- model -------------------------------------------------------------------------------
    def model(self, totals: Sums) -> nn.Module:
        """Linear model or MLP; see ``model_shape``, also for what is raised."""
        inputs, outputs = model_shape(totals, self.options)
        return make_model(inputs, outputs, self.options.model, bias=self.kind != "survival")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Binary: cross entropy of the logit; multiclass: cross entropy; regression: squared
        error of the standardised value; survival: Cox partial likelihood over the batch."""
        if self.kind == "survival":
            return cox_loss(outputs[:, 0], targets[:, 0], targets[:, 1])
        if self.kind == "regression":
            return (outputs[:, 0] - targets[:, 0]) ** 2
        assert self.kind != "none"  # then nothing is trained
        return class_loss(self.kind, outputs, targets)

    def metrics(self, outputs: Tensor, targets: Tensor) -> Sums:
        """Sums of ``common/figures`` for the kind, and ``loss``: the summed loss, shape 1.

        Raises TaskError if an output isn't finite: no figure of such a model would mean anything.
        """
        outputs, targets = checked_outputs(outputs), targets.detach().cpu()
        losses = loss_sum(self.loss(outputs, targets))
        values, truth = outputs.double(), targets.numpy()
        if self.kind == "survival":
            sums = survival_sums(values[:, 0].numpy(), truth[:, 0], truth[:, 1])
        elif self.kind == "regression":
            value, deviation = truth.astype(np.float64).T  # back to the column's own unit
            sums = regression_sums(values[:, 0].numpy() * deviation, value * deviation)
        else:
            assert self.kind != "none"
            sums = class_sums(self.kind, outputs, targets, self.options.bins)
        return sums | losses

    def private_sums(self, totals: Sums, noise: float) -> PrivateSums | None:
        """None of survival: a row is in a pair with each other one, so one may turn all round."""
        if self.kind == "survival":
            return None
        if self.kind == "regression":
            return NumberSums(scale(totals)[1])
        number = 2 if self.kind == "binary" else len(classes(totals, self.options))
        return ClassSums(self.kind, number, noise)

    def summarise(self, sums: Sums) -> dict[str, float]:
        if self.kind == "survival":
            found = survival_figures(sums)
        elif self.kind == "regression":
            found = regression_figures(sums)
        else:
            assert self.kind != "none"
            found = class_figures(self.kind, sums)
        return with_mean_loss(found, sums)


def breast_cancer() -> Table:
    """scikit-learn's Wisconsin breast cancer data (UCI, 1995) as a table; no file is read.

    Raises DataError without scikit-learn.
    """
    return Table.of(breast_cancer_columns(), _EXAMPLE)


def example_table() -> pa.Table:
    """The same rows as Arrow has them. Raises DataError without scikit-learn."""
    return pa.table(breast_cancer_columns())


def _dialect_without_effect(table: Table, options: TabularOptions) -> list[str]:
    """Settings of text files where there is none."""
    endings = {"" if file == _EXAMPLE else file.suffix.lower() for file in table.files}
    if not endings <= {"", ".parquet"}:
        return []
    given = options.dialect.given()
    return [f"task.dialect.{key} has no effect: there is no CSV file" for key in given]
