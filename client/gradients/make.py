"""The choice of a form for a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from wardround.client.gradients.base import (
    Batch,
    ClippedSum,
    Clipping,
    Context,
    Inputs,
    Loss,
    UnitGradients,
    Unsupported,
    refuse_mixing,
    select,
)
from wardround.client.gradients.functional import Functional, Loop
from wardround.client.gradients.ghost import BookKeeping
from wardround.client.gradients.probes import mixes_examples
from wardround.common.errors import TaskError

log = logging.getLogger("wardround.client")
_PROBES, _AGREES = 3, 2e-3
_Signature = tuple[tuple[str, ...], tuple[bool, ...]]
_trusted: WeakKeyDictionary[nn.Module, _Signature] = WeakKeyDictionary()
"""Models whose book-keeping was proven right, with the names of their trained parameters and the
mode of every module."""
FORMS = ("auto", "bookkeeping", "functional", "loop")


def make_unit_gradients(
    model: nn.Module, loss: Loss, form: str = "auto", context: Context = nullcontext
) -> UnitGradients:
    """The engine for a model and a loss, which gives one loss per example.

    Parameters
    ----------
    form : 'auto' takes book-keeping if every trainable parameter belongs to a layer that has such a
        form, else ``vmap``, else a loop over units. 'bookkeeping', 'functional' (``vmap``) and
        'loop' ask for one form.
    context : makes what forward and loss are computed in; what 'auto' finds out of the model, it
        finds out without

    'auto' holds book-keeping against autograd on three examples before it trusts it, looks whether
    the model mixes them while it trains, and logs a warning that names the module when it takes a
    slower form.

    Raises TaskError for a model that can't be bounded per unit, naming the module and the mend;
    with a form asked for, also for a module that this form can't do.
    """
    refuse_mixing(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise TaskError("the model has no trainable parameter; set requires_grad on some")
    if form == "auto":
        return _Automatic(model, loss, context)
    if form == "bookkeeping":
        return _Strict(model, loss, context)
    if form == "functional":
        return Functional(model, loss, context)
    if form == "loop":
        return Loop(model, loss, context)
    raise ValueError(f"form {form!r}: one of {', '.join(FORMS)}")


class _Strict(UnitGradients):
    """Book-keeping or a TaskError."""

    form = "bookkeeping"

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        try:
            self._engine = BookKeeping(model, loss, context)
        except Unsupported as error:
            raise _refusal(error) from None

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        try:
            return self._engine._clipped_sum(batch)
        except Unsupported as error:
            raise _refusal(error) from None


def _refusal(error: Unsupported) -> TaskError:
    return TaskError(f"{error}; use form 'auto', which has slower forms for such models")


class _Automatic(UnitGradients):
    """The fastest form that fits; goes to the next one when a form finds that it doesn't."""

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        self._engine: UnitGradients
        self._proof = _trusted.get(model)
        """For which parameters and modes the model was looked at."""
        self._transformable = False
        """Whether ``vmap`` has once worked: then its errors are the caller's."""
        try:
            self._engine = BookKeeping(model, loss, context)
        except Unsupported as error:
            self._fall_back(Functional(model, loss, context), str(error))
        self.form = self._engine.form

    def _fall_back(self, engine: UnitGradients, reason: str) -> None:
        log.warning("%s; its clipped gradients take a slower form (%s)", reason, engine.form)
        self._engine, self.form = engine, engine.form
        _trusted.pop(self.model, None)

    def _signature(self) -> _Signature:
        names = tuple(name for name, _ in self.parameters)
        return names, tuple(module.training for module in self.model.modules())

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        try:
            if self._proof != self._signature():
                self._examine(batch.inputs, batch.targets)
            if isinstance(self._engine, BookKeeping):
                return self._engine._clipped_sum(batch)
        except Unsupported as error:
            self._fall_back(Functional(self.model, self.loss, self.context), str(error))
        if isinstance(self._engine, Functional) and not self._transformable:
            state = torch.get_rng_state()
            try:
                result = self._engine._clipped_sum(batch)
                self._transformable = True
                return result
            except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
                torch.set_rng_state(state)
                log.debug("vmap: %s", error)
                loop = Loop(self.model, self.loss, self.context)
                self._fall_back(loop, "vmap can't transform the model")
        return self._engine._clipped_sum(batch)

    def _examine(self, inputs: Inputs, targets: Tensor) -> None:
        """Unsupported if book-keeping, where that is the form, is wrong for this model.

        It finds what no rule can see: code that mixes the examples of a batch, or puts them
        elsewhere than first. One example alone, or equal ones, prove nothing.
        """
        rows, signature = slice(0, _PROBES), self._signature()
        inputs, targets = select(inputs, rows), targets[rows]
        mixed = mixes_examples(self.model, self.loss, inputs, targets)
        seen = mixed is not None
        if isinstance(self._engine, BookKeeping):
            if mixed:
                raise Unsupported("the model mixes the examples of a batch")
            exact = BookKeeping(self.model, self.loss)  # 16 bits would hide small differences
            seen = self._compare(exact, inputs, targets) and seen
            if seen:
                _trusted[self.model] = signature
        if seen:
            self._proof = signature

    def _compare(self, engine: BookKeeping, inputs: Inputs, targets: Tensor) -> bool:
        """Whether several gradients were found equal to autograd's, example by example.

        Raises Unsupported for one that isn't.
        """
        with evaluating(self.model):
            loop = Loop(self.model, self.loss)
            norms = loop.clipped_sum(inputs, targets, None, len(targets), Clipping(1.0)).norms
            known = norms[torch.isfinite(norms) & (norms > 0)]
            bound = float(known.median()) if len(known) else 1.0
            batch = Batch(inputs, targets, None, len(targets), Clipping(bound))
            wanted, found = loop._clipped_sum(batch), engine._clipped_sum(batch)
        error = sum(
            float((one - other).square().sum())
            for one, other in zip(wanted.gradients, found.gradients, strict=True)
        )
        same = torch.allclose(wanted.norms, found.norms, rtol=_AGREES, atol=_AGREES * bound)
        if not same or not error**0.5 <= _AGREES * bound * len(targets):
            raise Unsupported("the model mixes the examples of a batch")
        return len(known) > 1


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without dropout; after it every module is in its own mode again."""
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
