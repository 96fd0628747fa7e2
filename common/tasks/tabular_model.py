"""The models of the tabular task: a linear layer, or a multi-layer perceptron."""

from __future__ import annotations

from torch import nn

from wardround.common.errors import TaskError
from wardround.common.figures.sums import Sums
from wardround.common.tasks.categories import classes
from wardround.common.tasks.features import feature_names
from wardround.common.tasks.options import ModelOptions, TabularOptions


def model_shape(totals: Sums, options: TabularOptions) -> tuple[int, int]:
    """(inputs, outputs) of a model: D inputs to 1 output, or to one per class.

    Raises TaskError if the columns leave no input, or the hospitals have one class only.
    """
    outputs = len(classes(totals, options)) if options.kind == "multiclass" else 1
    inputs = len(feature_names(totals, options))
    if inputs == 0:
        raise TaskError(
            "the model would have no inputs: name columns in task.columns (a category counts "
            f"only with {options.min_category_count} rows at a hospital, or if declared)"
        )
    if options.kind == "multiclass" and outputs < 2:
        raise TaskError(
            f"fewer than two classes have {options.min_category_count} rows "
            "(task.min_category_count) at a hospital; check task.columns.target, or declare "
            "task.classes"
        )
    return inputs, outputs


def make_model(inputs: int, outputs: int, options: ModelOptions, bias: bool = True) -> nn.Module:
    """A linear layer, or an MLP of blocks linear, norm, ReLU, dropout (each of ``options.hidden``
    wide) and a linear head. Cox regression has no bias: it cancels in the partial likelihood."""
    if options.kind != "mlp":
        layer = nn.Linear(inputs, outputs, bias=bias)
        if options.zero_init:
            nn.init.zeros_(layer.weight)
            if bias:
                nn.init.zeros_(layer.bias)
        return layer
    layers: list[nn.Module] = []
    for width in options.hidden:
        layers.append(nn.Linear(inputs, width))
        if options.norm != "none":
            layers.append((nn.BatchNorm1d if options.norm == "batch" else nn.LayerNorm)(width))
        layers.append(nn.ReLU())
        if options.dropout:
            layers.append(nn.Dropout(options.dropout))
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs, bias=bias))
