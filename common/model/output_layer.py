"""The last layer of a model: its head, and whose input is the model's representation of a row."""

from __future__ import annotations

from torch import nn


def output_layer(model: nn.Module) -> tuple[str, nn.Module]:
    """The last module, in the model's order, that has a trained parameter of its own, and its path
    ('' for the model itself). Raises ValueError if nothing is trained."""
    found = [
        (path, module)
        for path, module in model.named_modules()
        if any(p.requires_grad for p in module.parameters(recurse=False))
    ]
    if not found:
        raise ValueError("nothing of the model is trained")
    return found[-1]


def output_layer_keys(model: nn.Module) -> list[str]:
    """Names of its entries in the model's state dict."""
    path, module = output_layer(model)
    return [f"{path}.{name}" if path else name for name in module.state_dict()]
