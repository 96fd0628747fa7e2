"""Each example's gradients by Opacus: its hooks and grad samplers, for every layer that has one.

Yousefpour et al. 2021 (2109.12298). Of Opacus nothing but the samples of gradients: which units are
drawn, how they are clipped, noised and paid for is ours, whatever forms their gradients. Layers
without a registered sampler are transformed by ``torch.func``, one by one, as Opacus does it.

Invariant: every parameter's samples add up to the gradient that autograd itself gives for the
batch, else nothing comes out. A task may register a sampler of its own, and Opacus's own don't know
all that a layer may be told; if one is wrong, or a parameter is used outside its layer's calls,
that finds it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from opacus.grad_sample.grad_sample_module import GradSampleHooks
from opacus.layers.dp_rnn import DPRNNBase, RNNLinear
from torch import Tensor, nn

from wardround.client.gradients.base import Context, Inputs, Loss, Unsupported, losses_of
from wardround.client.gradients.functional import ByExample
from wardround.client.gradients.per_layer import trainable
from wardround.client.gradients.stand_in import Link, StandIn
from wardround.common.model.torch_state import is_out_of_memory

_AGREES, _NARROW = 1e-4, 2e-2
"""Of a parameter's gradient, over the sum of the norms of its samples; and where these are of 16
bits."""
_CACHED = 1 << 18
"""Floats that a processor's cache holds."""
_TRACES = ("activations", "max_batch_len")
_MEND = (
    "register a grad sampler for it in the task's file (docs/tasks.md, layers of one's own under "
    "privacy)"
)


class _Hooks(GradSampleHooks):  # type: ignore[misc]
    """Opacus's hooks, in evaluation mode too."""

    def capture_activations_hook(self, module: nn.Module, given: Any, output: Any) -> None:
        """Keep what a layer was given. Opacus keeps nothing of a layer that isn't in training mode,
        and a comparison is made without dropout."""
        mode, module.training = module.training, True
        try:
            super().capture_activations_hook(module, given, output)
        finally:
            module.training = mode


class Sampled(ByExample):
    """``UnitGradients`` by Opacus.

    Raises Unsupported, from the constructor or a call, for a model it can't do.
    """

    form = "opacus"
    together = True

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        self._copy = StandIn(model)
        self._unknown = unknown_layers(self._copy.module)
        self._worked = False
        self._size = 0
        try:
            _Hooks(self._copy.module, loss_reduction="sum")
        except NotImplementedError:
            raise Unsupported(self._refusal("it has buffers")) from None
        for module in self._copy.module.modules():
            if trainable(module) and not isinstance(module, RNNLinear | DPRNNBase):
                module.register_forward_pre_hook(self._spread)

    def _refusal(self, reason: str) -> str:
        if not self._unknown:
            return f"Opacus can't take samples of the model's gradients ({reason:.200})"
        return f"{self._unknown[0]} has no grad sampler in Opacus ({reason:.200}); {_MEND}"

    def _spread(self, layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """What all examples share (positions, a prompt) is given to each of them, or there would be
        one sample, of them all."""
        if not args:
            raise Unsupported(
                f"{type(layer).__name__} is given its input by name; Opacus wants it first"
            )
        given = args[0]
        if isinstance(given, Tensor) and given.dim() and given.shape[0] == 1 < self._size:
            return given.expand(self._size, *given.shape[1:]), *args[1:]
        return None

    def _each(self, inputs: Inputs, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        try:
            found = self._run(inputs, targets)
        except (
            ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError,
            ValueError,
        ) as error:  # fmt: skip
            if self._worked or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
                raise
            reason = str(error).partition("\n")[0]
            raise Unsupported(self._refusal(f"{type(error).__name__}: {reason}")) from None
        self._worked = True
        return found

    def _run(self, inputs: Inputs, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        self._copy.refresh()
        self._size = len(targets)
        with torch.enable_grad(), self._clean(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            losses = losses_of(self._copy.module, self.loss, inputs, targets, self.context)
            losses.sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                found = [self._gradients(link) for link in self._copy.links]
                gradients = [one for one, _ in found]
                self._check(gradients, [narrow for _, narrow in found])
                return gradients, losses.detach()

    def _gradients(self, link: Link) -> tuple[Tensor, bool]:
        """Of one parameter, B x its shape, and whether they were made in 16 bits."""
        found, narrow = [], False
        for part in link.parts:
            one = getattr(part, "grad_sample", None)
            if one is None and part.grad is None:
                one = part.new_zeros(self._size, *part.shape)
            if not isinstance(one, Tensor) or hasattr(part, "_current_grad_sample"):
                raise Unsupported(self._outside(link))
            if one.shape != (self._size, *part.shape):
                raise Unsupported(
                    f"Opacus has {len(one)} samples of parameter {link.name} for a batch of "
                    f"{self._size}: its layer isn't given the batch first"
                )
            narrow = narrow or one.dtype in (torch.bfloat16, torch.float16)
            found.append(self._copy.in_order(part, one.float() if narrow else one))
        return link.join(found), narrow

    def _check(self, gradients: list[Tensor], narrow: list[bool]) -> None:
        """Unsupported unless each parameter's samples, B x its shape, add up to its gradient.

        A gradient that is nothing but rounding, since the next layer takes the scale out again, is
        held against all parameters' together.
        """
        doubtful: list[tuple[int, Tensor]] = []
        for place, (link, found) in enumerate(zip(self._copy.links, gradients, strict=True)):
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in link.parts]
            wanted = torch.cat(parts).flatten()
            error = (found.new_ones(len(found)) @ found.flatten(1) - wanted).norm()
            # the sum of the norms is at least the norm of the sum: most need no look at it
            if not error <= (_NARROW if narrow[place] else _AGREES) * wanted.norm():
                doubtful.append((place, error))
        if not doubtful:
            return
        scales = [torch.linalg.vector_norm(g.flatten(1), dim=1).sum() for g in gradients]
        whole = torch.stack(scales).norm()
        for place, error in doubtful:
            share = _NARROW if narrow[place] else _AGREES
            if whole.isfinite() and error > share * (scales[place] + 0.01 * whole):
                raise Unsupported(self._outside(self._copy.links[place]))

    def _squares(self, gradients: list[Tensor]) -> list[Tensor]:
        """Some units at a time: the squares of all of them would be as large as the gradients."""
        rows = max(1, _CACHED // sum(g[0].numel() for g in gradients))
        pieces = zip(*(torch.split(g, rows) for g in gradients), strict=True)
        found = [super(Sampled, self)._squares(list(piece)) for piece in pieces]
        return [torch.cat(of_layer) for of_layer in zip(*found, strict=True)]

    def _outside(self, link: Link) -> str:
        """The samples aren't the gradient."""
        return (
            f"Opacus's samples of parameter {link.name} don't add up to its gradient: its layer's "
            "grad sampler is wrong for the layer as it is set, or the parameter is used outside "
            "the layer's calls"
        )

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """Without anything of the batch left on the copy, however it ends."""
        try:
            yield
        finally:
            for module in self._copy.module.modules():
                for name in _TRACES:
                    module.__dict__.pop(name, None)
            for p in self._copy.module.parameters():
                p.grad = None
                p.__dict__.pop("_current_grad_sample", None)
                if p.requires_grad:
                    p.grad_sample, p._forward_counter = None, 0  # type: ignore[attr-defined]


def unknown_layers(model: nn.Module) -> list[str]:
    """The layers with trained parameters of their own that have no grad sampler, by path and type.
    Opacus transforms them, with all in them, if it can."""
    known = GradSampleHooks.GRAD_SAMPLERS
    return [
        f"{path or 'the model'} ({type(module).__name__})"
        for path, module in model.named_modules()
        if trainable(module) and type(module) not in known and not isinstance(module, DPRNNBase)
    ]
