"""The optimisers of many clients at once: torch's rules, on stacked parameters.

Each is the arithmetic of its ``torch.optim`` namesake with that class's defaults, of which the
tests hold them to the last rounding. Clients that have finished are the last ones and left alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from wardround.common.settings import TrainingTable

_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


class StackedOptimizer(ABC):
    """Moves stacked parameters, each C x ..., by their gradients."""

    def __init__(self, training: TrainingTable, lr: float, parameters: list[Tensor]) -> None:
        self.lr, self.decay, self.momentum = lr, training.weight_decay, training.momentum

    @abstractmethod
    def step(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """One step of the first A clients, in place.

        Parameters
        ----------
        parameters, gradients : A x ... each; the gradients may be overwritten
        """


class StackedSGD(StackedOptimizer):
    """``torch.optim.SGD`` with momentum and weight decay (dampening 0, not Nesterov)."""

    def __init__(self, training: TrainingTable, lr: float, parameters: list[Tensor]) -> None:
        super().__init__(training, lr, parameters)
        self._velocity = [torch.zeros_like(p) for p in parameters] if self.momentum else []

    def step(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        if self.decay:
            torch._foreach_add_(gradients, parameters, alpha=self.decay)
        if self.momentum:
            velocity = [v[: len(p)] for v, p in zip(self._velocity, parameters, strict=True)]
            torch._foreach_mul_(velocity, self.momentum)
            torch._foreach_add_(velocity, gradients)
            gradients = velocity
        torch._foreach_add_(parameters, gradients, alpha=-self.lr)


class StackedAdam(StackedOptimizer):
    """``torch.optim.Adam`` (Kingma and Ba 2015) and, decoupled, ``AdamW``."""

    def __init__(
        self, training: TrainingTable, lr: float, parameters: list[Tensor], decoupled: bool
    ) -> None:
        super().__init__(training, lr, parameters)
        # one count for all: they begin together, and who has finished isn't moved any more
        self._decoupled, self._steps = decoupled, 0
        self._mean = [torch.zeros_like(p) for p in parameters]
        self._square = [torch.zeros_like(p) for p in parameters]

    def step(self, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        self._steps += 1
        correction1, correction2 = 1 - _BETA1**self._steps, 1 - _BETA2**self._steps
        rows = zip(parameters, gradients, self._mean, self._square, strict=True)
        for p, g, all_means, all_squares in rows:
            mean, square = all_means[: len(p)], all_squares[: len(p)]
            if self.decay and self._decoupled:
                p.mul_(1 - self.lr * self.decay)
            elif self.decay:
                g.add_(p, alpha=self.decay)
            mean.lerp_(g, 1 - _BETA1)
            square.mul_(_BETA2).addcmul_(g, g, value=1 - _BETA2)
            root = (square.sqrt() / math.sqrt(correction2)).add_(_EPS)
            p.addcdiv_(mean, root, value=-self.lr / correction1)


def make_stacked(training: TrainingTable, lr: float, parameters: list[Tensor]) -> StackedOptimizer:
    """The configured optimiser, with fresh state, for parameters of C clients."""
    if training.optimizer == "sgd":
        return StackedSGD(training, lr, parameters)
    return StackedAdam(training, lr, parameters, decoupled=training.optimizer == "adamw")


def clip_each(gradients: list[Tensor], max_norm: float) -> None:
    """``torch.nn.utils.clip_grad_norm_`` for each client by itself, in place: times
    min(1, max_norm / (norm + 1e-6)), the norm being over all of a client's gradients."""
    norms = [torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]
    total = torch.linalg.vector_norm(torch.stack(norms), dim=0)
    factor = (max_norm / (total + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(factor.reshape(-1, *[1] * (g.dim() - 1)))
