"""The choice of a form for a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wardround.client.gradients.base import (
    ClippedSum,
    Clipping,
    Inputs,
    Loss,
    UnitGradients,
    Unsupported,
    refuse_mixing,
)
from wardround.client.gradients.ghost import BookKeeping
from wardround.client.gradients.functional import Functional, Loop
from wardround.common.errors import TaskError

FORMS = ("auto", "bookkeeping", "functional", "loop", "opacus")


def make_unit_gradients(model: nn.Module, loss: Loss, form: str = "auto") -> UnitGradients:
    """The engine for a model and a loss, which gives one loss per example.

    Parameters
    ----------
    form : 'auto' takes book-keeping if every trainable parameter belongs to a layer that has such a
        form, else ``vmap``, else a loop over units. 'bookkeeping', 'functional' (``vmap``), 'loop'
        and 'opacus' (its GradSampleModule) ask for one form.

    Raises TaskError for a model that can't be bounded per unit, naming the module and the mend; with
    a form asked for, also for a module that this form can't do.
    """
    refuse_mixing(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise TaskError("the model has no trainable parameter; set requires_grad on some")
    if form == "auto":
        return _Automatic(model, loss)
    if form == "bookkeeping":
        return _Strict(model, loss)
    if form == "functional":
        return Functional(model, loss)
    if form == "loop":
        return Loop(model, loss)
    if form == "opacus":
        from wardround.client.gradients.opacus_form import OpacusGradients

        return OpacusGradients(model, loss)
    raise ValueError(f"form {form!r}: one of {', '.join(FORMS)}")


class _Strict(UnitGradients):
    """Book-keeping or a TaskError."""

    form = "bookkeeping"

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__(model, loss)
        try:
            self._engine = BookKeeping(model, loss)
        except Unsupported as error:
            raise _refusal(error) from None

    def _clipped_sum(
        self,
        inputs: Inputs,
        targets: Tensor,
        units: Tensor | None,
        count: int,
        clipping: Clipping,
    ) -> ClippedSum:
        try:
            return self._engine._clipped_sum(inputs, targets, units, count, clipping)
        except Unsupported as error:
            raise _refusal(error) from None


def _refusal(error: Unsupported) -> TaskError:
    return TaskError(f"{error}; use form 'auto', which has slower forms for such models")


class _Automatic(UnitGradients):
    """The fastest form that fits; goes to the next one when a form finds that it doesn't."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__(model, loss)
        self._engine: UnitGradients
        try:
            self._engine = BookKeeping(model, loss)
        except Unsupported:
            self._engine = Functional(model, loss)
        self.form = self._engine.form
        self._proven = False
        """Whether ``vmap`` has once worked: then its errors are the caller's."""

    def _clipped_sum(
        self,
        inputs: Inputs,
        targets: Tensor,
        units: Tensor | None,
        count: int,
        clipping: Clipping,
    ) -> ClippedSum:
        arguments = (inputs, targets, units, count, clipping)
        if isinstance(self._engine, BookKeeping):
            try:
                return self._engine._clipped_sum(*arguments)
            except Unsupported:
                self._engine = Functional(self.model, self.loss)
                self.form = self._engine.form
        if isinstance(self._engine, Functional) and not self._proven:
            state = torch.get_rng_state()
            try:
                result = self._engine._clipped_sum(*arguments)
                self._proven = True
                return result
            except (RuntimeError, ValueError, TypeError, NotImplementedError):
                torch.set_rng_state(state)
                self._engine = Loop(self.model, self.loss)
                self.form = self._engine.form
        return self._engine._clipped_sum(*arguments)
