"""Chooses the fastest form of per-unit clipping that is right for a model, and checks that it is.

*bookkeeping*: one backward pass, for models whose trainable parameters are all in layers with a
rule. *opacus*: Opacus' per-sample gradients, added up per unit, for what it knows beyond that.
*loop*: a backward pass for each unit; slow, and right for any model that treats examples apart.

Before a form is trusted with a model, its norms and its sum are held against the loop on a few
units. So a parameter that a hook can't see makes a run slower, never less private.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wardround.client.gradients import bookkeeping
from wardround.client.gradients.units import ClippedSum, Clipping, Grouping, factors
from wardround.common.errors import TaskError

log = logging.getLogger("wardround.client")
Loss = Callable[[Tensor, Tensor], Tensor]
FORMS = ("bookkeeping", "opacus", "loop")
_PROBE_UNITS = 3
_AGREES = 2e-3
_trusted: weakref.WeakKeyDictionary[nn.Module, tuple[str, int]] = weakref.WeakKeyDictionary()


def make_unit_gradients(model: nn.Module, loss: Loss, form: str = "auto") -> UnitGradients:
    """The engine for a model and a loss that gives one value per example (B).

    form : 'auto', or one of ``FORMS`` to insist on it

    Raises TaskError for a layer that mixes the examples of a batch, by name and mend; ValueError
    for an unknown form.
    """
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            raise TaskError(
                f"layer '{path}' ({type(module).__name__}) mixes the rows of a batch, so no single "
                "unit can be protected; use layer or group normalisation"
            )
    if form != "auto" and form not in FORMS:
        raise ValueError(f"unknown form '{form}'; known: auto, {', '.join(FORMS)}")
    return UnitGradients(model, loss, form)


class UnitGradients:
    """Sums of clipped per-unit gradients. Leaves the model as it found it.

    parameters : names and trainable parameters, in the order of ``ClippedSum.gradients``
    form : what is used; 'auto' until the first batch has decided
    """

    def __init__(self, model: nn.Module, loss: Loss, form: str) -> None:
        self.form = form
        self.parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        self._model, self._loss = model, loss
        if not self.parameters:
            raise TaskError("the model has no trainable parameter")

    def clipped_sum(
        self,
        inputs: Any,
        targets: Tensor,
        units: Tensor | None,
        count: int,
        clipping: Clipping,
    ) -> ClippedSum:
        """One batch.

        Parameters
        ----------
        inputs, targets : B examples; inputs may be a tensor, or a tuple or dictionary of them
        units : B, int64 in 0..count-1: which unit each example belongs to; None: each its own
        count : n, the number of units; B where ``units`` is None
        clipping : the bound

        The sum changes by at most the bound (times 1 + 2^-10, for float32) when a unit comes or
        goes. Raises TaskError if the loss isn't one value per example.
        """
        if units is None and count != len(targets):
            raise ValueError(f"{count} units for {len(targets)} examples, each its own")
        if len(targets) == 0 or count == 0:
            zeros = [torch.zeros_like(p) for _, p in self.parameters]
            norms = torch.zeros(count, device=targets.device)
            return ClippedSum(zeros, norms, torch.zeros(0), 0)
        grouping = Grouping(units, count)
        if self.form == "auto":
            self.form = self._choose(inputs, targets, grouping)
        return self._run(self.form, inputs, targets, grouping, clipping)

    def _run(
        self, form: str, inputs: Any, targets: Tensor, grouping: Grouping, clipping: Clipping
    ) -> ClippedSum:
        if form == "bookkeeping":
            return bookkeeping.clipped_sum(
                self._model,
                self._checked_loss,
                self.parameters,
                inputs,
                targets,
                grouping,
                clipping,
            )
        each = self._opacus if form == "opacus" else self._loop
        gradients, losses = each(inputs, targets, grouping)
        return self._clip(gradients, losses, clipping)

    def _checked_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self._loss(outputs, targets)
        if losses.shape != (len(targets),):
            raise TaskError(
                f"the loss has shape {tuple(losses.shape)} for a batch of {len(targets)}; return "
                "one loss per example"
            )
        return losses

    # --- forms that hold every unit's gradient ---------------------------------------------------
    def _loop(
        self, inputs: Any, targets: Tensor, grouping: Grouping
    ) -> tuple[list[Tensor], Tensor]:
        """n x shape for each parameter, and the losses (B)."""
        units = torch.arange(len(targets)) if grouping.units is None else grouping.units.cpu()
        trained = [p for _, p in self.parameters]
        found = [p.new_zeros((grouping.count, *p.shape)) for p in trained]
        losses = torch.zeros(len(targets), device=targets.device)
        for unit in range(grouping.count):
            index = torch.nonzero(units == unit)[:, 0].to(targets.device)
            if len(index) == 0:
                continue
            with torch.enable_grad():
                own = self._checked_loss(self._model(_take(inputs, index)), targets[index])
                gradients = torch.autograd.grad(own.sum(), trained, allow_unused=True)
            losses[index] = own.detach()
            for target, gradient in zip(found, gradients, strict=True):
                if gradient is not None:
                    target[unit] = gradient
        return found, losses

    def _opacus(
        self, inputs: Any, targets: Tensor, grouping: Grouping
    ) -> tuple[list[Tensor], Tensor]:
        from opacus import GradSampleModule  # takes seconds to import

        before = [p.grad for _, p in self.parameters]
        wrapped = GradSampleModule(self._model, loss_reduction="sum")
        try:
            with torch.enable_grad():
                losses = self._checked_loss(wrapped(inputs), targets)
                losses.sum().backward()  # type: ignore[no-untyped-call]
            found = []
            for _, p in self.parameters:
                each = p.grad_sample  # type: ignore[attr-defined]
                each = sum(each) if isinstance(each, list) else each
                if each is None:
                    each = p.new_zeros((len(targets), *p.shape))
                found.append(grouping.added(each.detach()))
            return found, losses.detach()
        finally:
            wrapped.to_standard_module()
            for (_, p), grad in zip(self.parameters, before, strict=True):
                p.grad = grad

    def _clip(self, gradients: list[Tensor], losses: Tensor, clipping: Clipping) -> ClippedSum:
        owner = {
            id(p): path
            for path, module in self._model.named_modules()
            for p in module.parameters(recurse=False)
        }
        squares: dict[str, Tensor] = {}
        for (_, p), each in zip(self.parameters, gradients, strict=True):
            own = each.flatten(1).square().sum(1)
            squares[owner[id(p)]] = squares.get(owner[id(p)], torch.zeros_like(own)) + own
        norms = torch.stack(list(squares.values())).sum(0).sqrt()
        norms = torch.where(torch.isfinite(norms), norms, torch.full_like(norms, torch.inf))
        bound = clipping.norm / (len(squares) ** 0.5 if clipping.per_layer else 1)
        alive = torch.isfinite(norms)
        sums = []
        for (_, p), each in zip(self.parameters, gradients, strict=True):
            measure = squares[owner[id(p)]].sqrt() if clipping.per_layer else norms
            weights = torch.where(alive, factors(measure, bound), torch.zeros_like(norms))
            rows = each.flatten(1)
            rows = torch.where(alive[:, None], rows, torch.zeros_like(rows))
            sums.append((weights.to(rows.dtype) @ rows).view(p.shape))
        return ClippedSum(sums, norms, losses, int((~alive).sum()))

    # --- which form ------------------------------------------------------------------------------
    def _choose(self, inputs: Any, targets: Tensor, grouping: Grouping) -> str:
        key = hash(tuple(id(p) for _, p in self.parameters))
        known = _trusted.get(self._model)
        if known is not None and known[1] == key:
            return known[0]
        inputs, targets, probe = _probe(inputs, targets, grouping)
        for form in FORMS:
            if form == "bookkeeping" and not bookkeeping.supports(self._model):
                continue
            if form == "loop" or self._agrees(form, inputs, targets, probe):
                break
        if form == "loop":
            log.warning(
                "this model's per-unit gradients need a backward pass for each unit, which is slow"
            )
        if probe.count > 1:  # with one unit a swapped dimension would not show
            _trusted[self._model] = (form, key)
        return form

    def _agrees(self, form: str, inputs: Any, targets: Tensor, grouping: Grouping) -> bool:
        """Whether a form gives the loop's norms and clipped sum, without dropout."""
        with _evaluating(self._model):
            truth, losses = self._loop(inputs, targets, grouping)
            free = self._clip(truth, losses, Clipping(1e30))
            finite = free.norms[torch.isfinite(free.norms)]
            bound = Clipping(max(float(finite.median()), 1e-20) if len(finite) else 1.0)
            wanted = self._clip(truth, losses, bound)
            try:
                found = self._run(form, inputs, targets, grouping, bound)
            except Exception as error:
                log.debug("form %s can't be used: %s", form, error)
                return False
        if not torch.allclose(found.norms, wanted.norms, rtol=_AGREES, atol=_AGREES * bound.norm):
            return False
        limit = _AGREES * bound.norm * max(1, grouping.count)
        pairs = zip(found.gradients, wanted.gradients, strict=True)
        return all(float((a - b).norm()) <= limit for a, b in pairs)


def _probe(inputs: Any, targets: Tensor, grouping: Grouping) -> tuple[Any, Tensor, Grouping]:
    """The first few units, of a few examples each."""
    units = (
        torch.arange(len(targets), device=targets.device)
        if grouping.units is None
        else grouping.units
    )
    chosen = torch.unique(units)[:_PROBE_UNITS]
    index = torch.cat([torch.nonzero(units == unit)[:3, 0] for unit in chosen])
    numbers = torch.searchsorted(chosen, units[index])
    return _take(inputs, index), targets[index], Grouping(numbers, len(chosen))


def _take(inputs: Any, index: Tensor) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[index]
    if isinstance(inputs, dict):
        return {key: value[index] for key, value in inputs.items()}
    return type(inputs)(value[index] for value in inputs)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module's own mode after."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
