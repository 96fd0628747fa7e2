"""The steps of a hospital's own model beside those of the shared one, by the same batches (APFL,
Deng et al. 2020, arXiv 2003.13461, algorithm 1).

With w the shared model as it is before a step and m = a v + (1 - a) w:

    v <- v - eta a grad f(m);    a <- a - eta <v - w, grad f(m)>, within 0..1

The paper's experiments move a once a round; here that is its first step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from wardround.client.training.steps import make_optimizer
from wardround.common.settings import TrainingTable

GradientsOf = Callable[[nn.Module], Iterable[Tensor]]
"""Sets the gradients of a model's parameters, batch by batch, as ``BatchGradients``."""


class Mixture:
    """What ``train_model`` calls before each step of w: the step of v. As ``Adjusting``.

    Parameters
    ----------
    model : holds w, and is trained meanwhile
    lr : eta
    own : v by the names of trained parameters; w where there is none yet
    share : a
    adaptive : whether it moves
    """

    def __init__(
        self,
        model: nn.Module,
        gradients_of: GradientsOf,
        training: TrainingTable,
        lr: float,
        *,
        own: Mapping[str, Tensor] | None,
        share: float,
        adaptive: bool,
    ) -> None:
        frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.mixed = copy.deepcopy(model, dict(frozen)).train()
        self.share, self._moves = share, adaptive
        self._shared, self._of_mixed = _trained(model), _trained(self.mixed)
        first = self._shared if own is None else own
        self.own = {
            name: nn.Parameter(first[name].detach().clone().to(w.device))
            for name, w in self._shared.items()
        }
        self._training, self._lr = training, lr
        self._optimizer = make_optimizer(list(self.own.values()), training, lr)
        self._gradients = iter(gradients_of(self.mixed))

    def adjust_gradients(self) -> None:
        """v's step; those of w stay as they are."""
        self.mix()
        next(self._gradients)
        share = self.share
        if self._moves:
            self._moves, self.share = False, self._moved()
        for name, v in self.own.items():
            gradient = self._of_mixed[name].grad
            v.grad = None if gradient is None else share * gradient
        if self._training.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(list(self.own.values()), self._training.max_grad_norm)
        self._optimizer.step()

    def _moved(self) -> float:
        """a after a step."""
        slope = torch.zeros((), dtype=torch.float64)
        for name, v in self.own.items():
            gradient = self._of_mixed[name].grad
            if gradient is not None:
                slope += ((v.detach() - self._shared[name].detach()) * gradient).sum().cpu()
        return min(1.0, max(0.0, self.share - self._lr * float(slope)))

    @torch.no_grad()
    def mix(self) -> None:
        """Have m = a v + (1 - a) w in ``mixed``."""
        for name, m in self._of_mixed.items():
            m.copy_(self.share * self.own[name] + (1 - self.share) * self._shared[name])


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
