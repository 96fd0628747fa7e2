"""Dropout for many clients at once, with the very masks that each would draw alone.

A client's training seeds torch's generator from (run seed, round, client), and ``nn.Dropout`` draws
one mask per forward pass. Here a copy of the model gets modules in their place that multiply by a
mask which is given to them, and the masks are drawn from a generator per client, in the order in
which the model asks for them. So neither the cohort's size nor who else is in it changes a result.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

_RANDOM = (
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
    nn.RReLU,
)


class GivenDropout(nn.Module):
    """Multiplies by ``mask``, B x ..., which holds 0 and 1 / (1 - p)."""

    mask: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.register_buffer("mask", torch.ones(()), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """The inputs, masked."""
        return inputs * self.mask


def random_module(model: nn.Module) -> str | None:
    """The class of a module that draws random numbers which can't be given to it; None if none."""
    for module in model.modules():
        if isinstance(module, _RANDOM) or getattr(module, "draws_random", False):
            return type(module).__name__
        if isinstance(module, nn.RNNBase | nn.MultiheadAttention) and module.dropout > 0:
            return type(module).__name__
    return None


def with_given_masks(model: nn.Module) -> nn.Module:
    """A copy of the model in training mode, each active ``nn.Dropout`` replaced."""
    model = copy.deepcopy(model).train()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Dropout) and 0 < module.p < 1:
            given = GivenDropout(module.p)
            if not name:
                return given
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, given)
    return model


class Masks:
    """Draws the masks of a cohort's steps.

    Parameters
    ----------
    model : from ``with_given_masks``
    inputs : an example or more of any client, to see which shapes are asked for, in which order

    Raises ValueError if a module is used twice in a forward pass.
    """

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        self._asked: list[tuple[str, float, tuple[int, ...]]] = []
        modules = {n: x for n, x in model.named_modules() if isinstance(x, GivenDropout)}
        if modules:
            self._look(model, modules, inputs)

    def _look(self, model: nn.Module, modules: dict[str, GivenDropout], inputs: Tensor) -> None:
        def seen(name: str, p: float, given: Tensor) -> None:
            self._asked.append((name, p, tuple(given.shape[1:])))

        hooks = [
            module.register_forward_pre_hook(
                lambda module, arguments, name=name: seen(name, module.p, arguments[0])
            )
            for name, module in modules.items()
        ]
        try:
            with torch.no_grad():
                model(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        if len({name for name, _, _ in self._asked}) < len(self._asked):
            raise ValueError("one Dropout module is used twice in a forward pass")

    def __bool__(self) -> bool:
        """Whether there is anything to draw."""
        return bool(self._asked)

    def draw(
        self, generators: Sequence[torch.Generator], sizes: Sequence[int], slots: int
    ) -> dict[str, Tensor]:
        """The masks of one step, by the buffer's name, A x B x ...; ``sizes``: A batch sizes.

        A client draws for its own batch, never for the empty slots behind it, which stay 0: so its
        generator goes on as it would alone.
        """
        if not self._asked:
            return {}
        masks = {
            f"{name}.mask": torch.zeros(len(generators), slots, *shape)
            for name, _, shape in self._asked
        }
        for index, (generator, size) in enumerate(zip(generators, sizes, strict=True)):
            for name, p, _ in self._asked:
                part = masks[f"{name}.mask"][index, :size]
                # drawn into memory of its own: what the numbers are depends on the layout
                drawn = torch.empty(part.shape).bernoulli_(1 - p, generator=generator)
                part.copy_(drawn.div_(1 - p))
        return masks
