"""One forward and one backward that keep each layer's inputs and output gradients.

Gradients are asked for at the layers' outputs, so autograd computes no parameter gradient. An
output's gradient is bound to the graph's edge at the time the layer returns, so a later in-place
operation on the output doesn't change it.

The tape refuses (``Unsupported``) what it would get wrong: a layer whose input isn't batch-first,
and a parameter that the model also uses outside its layer's own call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from wardround.client.gradients.base import Context, Inputs, Loss, Unsupported, losses_of

_NOTHING: Any = object()


@dataclass
class Use:
    """One call of a layer.

    inputs : B x ..., what it was given, detached
    gradient : B x ..., of the sum of losses at its output; there after ``Tape.backward``. As no
        example's loss depends on another one, row i is the gradient of example i's loss
    edge : where the output's gradient passes; shape : the output's
    before : the graph's node that made the input, where a walk goes on
    version : the input's count of in-place changes when it was recorded
    """

    inputs: Tensor
    edge: GradientEdge
    shape: torch.Size
    before: Any
    version: int
    gradient: Tensor = None  # type: ignore[assignment]


class Tape:
    """Records the calls of ``layers`` (module: its path) in one forward of ``size`` examples."""

    def __init__(self, layers: dict[nn.Module, str], size: int) -> None:
        self.layers, self.size = layers, size
        self.uses: dict[nn.Module, list[Use]] = {module: [] for module in layers}

    def run(
        self,
        model: nn.Module,
        loss: Loss,
        inputs: Inputs,
        targets: Tensor,
        context: Context = nullcontext,
    ) -> Tensor:
        """The forward, in ``context``; gives the losses, B, with their graph."""
        with torch.enable_grad(), self._recording():
            return losses_of(model, loss, inputs, targets, context)

    def backward(self, losses: Tensor) -> None:
        """The backward: every use gets its gradient; uses that don't matter are forgotten."""
        uses = [use for of_module in self.uses.values() for use in of_module]
        gradients = torch.autograd.grad(
            losses, [use.edge for use in uses], torch.ones_like(losses), allow_unused=True
        )
        for use, gradient in zip(uses, gradients, strict=True):
            if use.inputs._version != use.version:
                raise RuntimeError("a layer's input was changed in place before the backward")
            if gradient is not None:
                use.gradient = _wide(gradient.reshape(use.shape))
                use.inputs = _wide(use.inputs)
        for module, of_module in self.uses.items():
            self.uses[module] = [use for use in of_module if use.gradient is not None]

    @contextmanager
    def _recording(self) -> Iterator[None]:
        handles = [
            module.register_forward_hook(self._hook(path), prepend=True, with_kwargs=True)
            for module, path in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, path: str) -> Callable[..., Tensor | None]:
        def record(
            module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
        ) -> Tensor | None:
            given = args[0] if args else kwargs["input"]
            original = output
            lead = given.shape[0] if given.dim() else 0
            if lead == 1 and self.size > 1:
                # Shared by all examples (positions, a prompt): give each its own copy to derive by,
                # or there would be one gradient, of them all.
                output = output.expand(self.size, *output.shape[1:])
                given = given.expand(self.size, *given.shape[1:])
            elif lead != self.size:
                raise Unsupported(
                    f"{path} ({type(module).__name__}) was given a tensor of shape "
                    f"{tuple(given.shape)} for a batch of {self.size}: not batch-first"
                )
            output, edge = _edge(output)
            self.uses[module].append(
                Use(given.detach(), edge, output.shape, given.grad_fn, given._version)
            )
            return None if output is original else output

        return record

    def check_parameters(self, losses: Tensor, parameters: dict[nn.Parameter, str]) -> None:
        """Unsupported if the losses depend on a parameter other than by its layer's calls.

        Walks the graph from the losses; at a layer's output it goes on at the layer's input.
        """
        skip: dict[Any, list[Any]] = {}
        for of_module in self.uses.values():
            for use in of_module:
                skip.setdefault(use.edge.node, []).append(use.before)
        seen, stack = set(), [losses.grad_fn]
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in skip:
                stack += skip[node]
                continue
            name = parameters.get(getattr(node, "variable", _NOTHING))
            if name is not None:
                raise Unsupported(f"parameter {name} is used outside the call of its own layer")
            stack += [following for following, _ in node.next_functions]


def _wide(values: Tensor) -> Tensor:
    """In float32, if autocast made them 16 bits: norms and sums are of the same numbers."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def _edge(output: Tensor) -> tuple[Tensor, GradientEdge]:
    """Where the output's gradient passes, whatever is done to the output in place later.

    In-place operations on a view re-route the graph past the view to its base.
    """
    if output._is_view():
        base = output._base
        same = base is not None and base.grad_fn is not None and base.numel() == output.numel()
        if base is not None and same and base.is_contiguous() and output.is_contiguous():
            return output, get_gradient_edge(base)
        output = output.clone()
    return output, get_gradient_edge(output)
