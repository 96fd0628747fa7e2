"""The model-contrastive loss of MOON (Li et al. 2021, arXiv 2103.16257, equation 3).

Of each row, with z its representation by the local model, z_g by the received one, z_l by the
hospital's last local one, and s the cosine similarity:

    mu * -log(exp(s(z, z_g) / tau) / (exp(s(z, z_g) / tau) + exp(s(z, z_l) / tau)))

A representation is the input of the model's last layer, flattened; the paper has a projection in
between. Of tokens (B x T x H) it is as long as the shortest of the three: what some models leave
out at the end is padding. The other two models are in evaluation mode and don't move.
"""

from __future__ import annotations

import copy
from types import TracebackType
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from wardround.common.errors import TaskError
from wardround.common.flower.arrays import Arrays
from wardround.common.model.named import load_arrays
from wardround.common.model.output_layer import output_layer


class Contrast:
    """The term of one round, of a model that holds what was received; a context, in which the
    model's representations are seen.

    last : shared entries of the last local model
    weight, temperature : mu and tau
    """

    def __init__(self, model: nn.Module, last: Arrays, weight: float, temperature: float) -> None:
        self._model, self._weight, self._temperature = model, weight, temperature
        self._received, self._last = _still(model), _still(model)
        load_arrays(self._last, last)
        self._seen: dict[int, Tensor] = {}

    def __enter__(self) -> Contrast:
        models = (self._model, self._received, self._last)
        path, _ = output_layer(self._model)
        self._hooks = [
            one.get_submodule(path).register_forward_pre_hook(self._keep(number))
            for number, one in enumerate(models)
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, number: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._seen[number] = inputs[0]

        return hook

    def losses(self, inputs: Tensor) -> Tensor:
        """What comes to the loss of each example, B; the model has just been given these. Raises
        TaskError where its last layer doesn't get one input for each."""
        # not under no_grad, where a model may go through a batch in pieces of its own order: these
        # two have nothing that takes a gradient
        self._received(inputs)
        self._last(inputs)
        found = [self._seen.pop(number).float() for number in range(3)]
        if any(len(z) != len(inputs) for z in found):
            raise TaskError(
                "strategy 'moon' compares a row's representations, and the model's last layer "
                "doesn't get one input for each row; take another strategy"
            )
        if found[0].dim() == 3:
            shortest = min(z.shape[1] for z in found)
            found = [z[:, :shortest] for z in found]
        local, received, last = (z.flatten(1) for z in found)
        near = F.cosine_similarity(local, received, dim=1) / self._temperature
        far = F.cosine_similarity(local, last, dim=1) / self._temperature
        return self._weight * F.softplus(far - near)


def _still(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode that takes no gradient; frozen parameters are not copied."""
    frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
    return copy.deepcopy(model, dict(frozen)).eval().requires_grad_(False)
