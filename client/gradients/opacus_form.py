"""Per-example gradients by Opacus' GradSampleModule: slower, kept as an independent second form."""

from __future__ import annotations

import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from wardround.client.gradients.base import (
    ClippedSum,
    Clipping,
    Inputs,
    Loss,
    call_model,
    check_losses,
)
from wardround.client.gradients.functional import _InParts
from wardround.client.gradients.groups import Groups
from wardround.common.errors import TaskError


class OpacusGradients(_InParts):
    """``UnitGradients`` by Opacus, which keeps B x parameters numbers.

    Raises TaskError for a model that Opacus refuses, or that it gives no gradients for.
    """

    form = "opacus"

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__(model, loss)

    def _clipped_sum(
        self,
        inputs: Inputs,
        targets: Tensor,
        units: Tensor | None,
        count: int,
        clipping: Clipping,
    ) -> ClippedSum:
        parameters = [p for _, p in self.parameters]
        before = [p.grad for p in parameters]
        try:
            wrapped = GradSampleModule(self.model, loss_reduction="sum", strict=False)
        except NotImplementedError as error:
            raise TaskError(f"Opacus can't do this model: {error}; use form 'auto'") from None
        try:
            with torch.enable_grad():
                losses = check_losses(self.loss(call_model(wrapped, inputs), targets), len(targets))
                losses.sum().backward()  # type: ignore[no-untyped-call]
            groups = Groups(units, len(targets), count)
            gradients = []
            for name, p in self.parameters:
                found = getattr(p, "grad_sample", None)
                if not isinstance(found, Tensor) or len(found) != len(targets):
                    raise TaskError(f"Opacus gives no gradients for {name}; use form 'auto'")
                gradients.append(groups.sums(found.detach()))
            part = self._clip(gradients, count, clipping)
            return ClippedSum(part.gradients, part.norms, losses.detach(), part.dropped)
        finally:
            wrapped._close()
            for p, grad in zip(parameters, before, strict=True):
                p.grad = grad
