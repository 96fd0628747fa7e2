"""The models of the tabular task: a linear layer, or a multi-layer perceptron."""

from __future__ import annotations

from torch import nn

from wardround.common.tasks.options import ModelOptions


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
