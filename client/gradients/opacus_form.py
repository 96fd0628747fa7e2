"""Per-example gradients by Opacus' GradSampleModule: slower, kept as an independent second form."""

from __future__ import annotations

import warnings

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
        for path, module in model.named_modules():
            if getattr(module, "padding_mode", "zeros") != "zeros":
                raise TaskError(
                    f"{path} ({type(module).__name__}): Opacus takes its padding for zeros; use "
                    "form 'auto'"
                )

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
            raise _refusal(error) from None
        try:
            with torch.enable_grad():
                losses = check_losses(self.loss(call_model(wrapped, inputs), targets), len(targets))
                self._backward(losses)
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

    @staticmethod
    def _backward(losses: Tensor) -> None:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Full backward hook is firing")
                losses.sum().backward()  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:  # in its hooks
            raise _refusal(error) from None


def _refusal(error: Exception) -> TaskError:
    reason = str(error).partition("\n")[0]
    return TaskError(f"Opacus can't do this model: {reason}; use form 'auto'")
