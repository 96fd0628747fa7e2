"""GradCAM: where in an image a network's output comes from (Selvaraju et al., ICCV 2017).

The last convolution that still has positions is looked at: its activations, weighted by the mean
gradient of the output over positions, positive part. What it shows is coarse, and no proof.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from wardround.common.errors import TaskError

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_AXES = {4: "bilinear", 5: "trilinear"}


def heat_maps(model: nn.Module, images: Tensor, output: Tensor) -> NDArray[np.float64]:
    """N x size, each from 0 to 1; 0 everywhere where nothing speaks for the output.

    images : N x C x size, as the task prepares them
    output : N int64, which column of the model's outputs; of one column -1 is what speaks against

    Raises TaskError for a model without a convolution that has positions.
    """
    seen: list[Tensor] = []

    def look(module: nn.Module, inputs: Any, found: Tensor) -> None:
        seen.append(found)

    with torch.enable_grad():
        handles = [
            one.register_forward_hook(look)
            for one in model.modules()
            if isinstance(one, _CONVOLUTIONS)
        ]
        try:
            pixels = images.clone().requires_grad_(images.dtype.is_floating_point)
            outputs = model(pixels)
        finally:
            for handle in handles:
                handle.remove()
        spatial = [one for one in seen if max(one.shape[2:]) > 1]
        if not spatial or not outputs.requires_grad:
            raise TaskError("the model has no convolution with positions to look at")
        sign = torch.where(output < 0, -1.0, 1.0)
        chosen = outputs.gather(1, output.clamp_min(0)[:, None])[:, 0] * sign
        (slope,) = torch.autograd.grad(chosen.sum(), spatial[-1])
    activations = spatial[-1].detach()
    weights = slope.flatten(2).mean(2)
    coarse = torch.einsum("nk...,nk->n...", activations, weights).clamp_min(0)[:, None]
    mode = _AXES[coarse.ndim]
    fine = F.interpolate(coarse, size=images.shape[2:], mode=mode, align_corners=False)[:, 0]
    most = fine.flatten(1).amax(1).clamp_min(torch.finfo(fine.dtype).tiny)
    return (fine / most.view(-1, *[1] * (fine.ndim - 1))).double().numpy()
