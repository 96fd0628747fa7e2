"""A copy of a model that Opacus can take samples of: torch's recurrent layers and attention are
made of layers that it knows.

The copy's parameters are views of the model's: they are never trained, and the model itself gets no
hooks and no attributes. Opacus's own replacements (``ModuleValidator.fix``) compute something else
than the layers they stand for, in 1.6: its recurrent layers drop out within the recurrence, its
attention puts heads into wrong places where batches come first. So these are set up of its parts
here (``replaced.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from opacus.layers.dp_rnn import DPRNNBase
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from wardround.client.gradients.base import Unsupported
from wardround.client.gradients.memory import twin
from wardround.client.gradients.replaced import replacement


@dataclass(frozen=True)
class Link:
    """A parameter of the model and what stands for it in the copy.

    parts : of the copy; stacked along their first axis they are the parameter
    padding : of an embedding, the row that has no gradient; None if there is none
    """

    name: str
    own: nn.Parameter
    parts: list[nn.Parameter]
    padding: int | None = None

    def refresh(self) -> None:
        """Point the parts at the numbers of the model's parameter, wherever these are now."""
        for part, rows in zip(self.parts, self.own.detach().chunk(len(self.parts)), strict=True):
            part.data = rows.reshape(part.shape)

    def join(self, gradients: list[Tensor]) -> Tensor:
        """B x the parameter's shape, of B x each part's shape."""
        whole = torch.cat(gradients, dim=1) if len(gradients) > 1 else gradients[0]
        if self.padding is not None:
            whole[:, self.padding] = 0.0
        return whole.reshape(len(whole), *self.own.shape)


class StandIn:
    """The copy.

    module : it; its layers are the model's at the time it was made
    links : of each trained parameter, in the model's order
    orders : of each recurrent layer, the order of the rows of its last packed input; None if these
        were in the batch's

    Raises Unsupported for a layer that has no equal, naming it; TaskError if it can't be copied.
    """

    def __init__(self, model: nn.Module) -> None:
        self.module = twin(model)
        self._modes = list(zip(model.modules(), self.module.modules(), strict=True))
        self._replaced: set[nn.Module] = set()
        parts = {
            id(p): [nn.Parameter(p.detach(), requires_grad=p.requires_grad)]
            for p in model.parameters()
        }
        self._replace(parts)
        for module in self.module.modules():
            for name, p in module._parameters.items():
                if p is not None and id(p) in parts:
                    module._parameters[name] = parts[id(p)][0]
            if getattr(module, "inplace", None) is True and not list(module.parameters()):
                module.inplace = False  # type: ignore[assignment]  # a hooked output may not change
        padding = {
            id(module.weight): module.padding_idx
            for module in model.modules()
            if isinstance(module, nn.Embedding)
        }
        self._all = [
            Link(name, p, parts[id(p)], padding.get(id(p))) for name, p in model.named_parameters()
        ]
        self.links = [link for link in self._all if link.own.requires_grad]
        self.orders: dict[nn.Module, Tensor | None] = {}
        self._recurrent = {
            p: module
            for module in self.module.modules()
            if isinstance(module, DPRNNBase)
            for p in module.parameters()
        }
        for module in set(self._recurrent.values()):
            module.register_forward_pre_hook(self._note_order)

    def _replace(self, parts: dict[int, list[nn.Parameter]]) -> None:
        """Put replacements into the copy, and what stands for their parameters into ``parts``."""
        owners = Counter(
            id(p) for module in self.module.modules() for p in module._parameters.values()
        )
        for path, parent, name, module in list(_places(self.module)):
            where = f"{path} ({type(module).__name__})"
            other = replacement(where, module)
            if other is None:
                continue
            if any(owners[id(p)] > 1 for p in module.parameters()):
                raise Unsupported(f"{where} shares a parameter with another layer")
            for n, p in module.named_parameters():
                parts[id(p)] = other.parts[n]
                for part in other.parts[n]:
                    part.requires_grad_(p.requires_grad)
            self._replaced.add(other.module)
            if parent is None:
                self.module = other.module
            else:
                parent._modules[name] = other.module
            gone = set(module.modules()) - {module}
            self._modes = [
                (own, other.module if copied is module else copied)
                for own, copied in self._modes
                if copied not in gone
            ]

    def refresh(self) -> None:
        """Take over the model's parameters and each layer's mode as they are now."""
        for link in self._all:
            link.refresh()
        for own, copied in self._modes:
            if copied in self._replaced:
                copied.train(own.training)
            copied.training = own.training
        self.orders.clear()

    def in_order(self, part: nn.Parameter, gradients: Tensor) -> Tensor:
        """A part's gradients, B x its shape, brought into the order of the batch."""
        layer = self._recurrent.get(part)
        order = None if layer is None else self.orders.get(layer)
        return gradients if order is None else gradients[order]

    def _note_order(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        order = args[0].unsorted_indices if isinstance(args[0], PackedSequence) else None
        if layer in self.orders and order is not self.orders[layer]:
            raise Unsupported("a recurrent layer was given sequences twice, in different orders")
        self.orders[layer] = order


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module | None, str, nn.Module]]:
    """Path, parent, name and module of every module; the model has no parent."""
    yield "the model", None, "", model
    for path, parent in model.named_modules():
        for name, module in parent.named_children():
            yield f"{path}.{name}" if path else name, parent, name, module
