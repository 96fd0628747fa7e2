"""The choice of a form for a model."""

from __future__ import annotations

import logging
import math
from contextlib import nullcontext
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import nn

from wardround.client.gradients.base import (
    Batch,
    ClippedSum,
    Clipping,
    Context,
    Loss,
    UnitGradients,
    Unsupported,
    refuse_mixing,
    select,
)
from wardround.client.gradients.company import (
    AGREES,
    differ,
    differs_in_company,
    evaluating,
    forked,
    half,
    mixes_in_company,
    mixes_in_smaller,
    other_company,
    repeated,
    repeated_rows,
)
from wardround.client.gradients.functional import Functional, Loop
from wardround.client.gradients.ghost import BookKeeping
from wardround.client.gradients.memory import refuse_memory, twin
from wardround.common.errors import TaskError
from wardround.common.rng import random_state, restore_random_state

log = logging.getLogger("wardround.client")
_PROBES = 3
EVERY = 200
"""Batches of a model, of which one is compared in other company: two more passes, 1 % of the
time."""
_CHOICE = torch.Generator()
_CHOICE.seed()
_MEND = (
    "no unit's part can be bounded; compute each example by itself while the model trains, or use "
    "privacy.unit = 'hospital'"
)
_Signature = tuple[tuple[str, ...], tuple[bool, ...]]
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
    the model mixes units at the sizes that training has (``company.py``), and logs a warning that
    names the module when it takes a slower form. Whatever the form, a model that keeps something of
    a batch is refused (``memory.py``). One batch of ``EVERY`` is looked at again.

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


@dataclass
class _Proof:
    """What was seen of a model.

    signature : the names of its trained parameters and the mode of every module, as it was seen
    rows : the largest batch that was compared
    calls : batches since the last comparison
    """

    signature: _Signature
    rows: int
    calls: int = 0


_proofs: WeakKeyDictionary[nn.Module, _Proof] = WeakKeyDictionary()


class _Automatic(UnitGradients):
    """The fastest form that fits; goes to the next one when a form finds that it doesn't."""

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        self._engine: UnitGradients
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
        _proofs.pop(self.model, None)

    def _signature(self) -> _Signature:
        names = tuple(name for name, _ in self.parameters)
        return names, tuple(module.training for module in self.model.modules())

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        proof = _proofs.get(self.model)
        if proof is None or proof.signature != self._signature() or proof.rows < len(batch.targets):
            try:
                self._examine(batch)
            except Unsupported as error:
                self._fall_back(Functional(self.model, self.loss, self.context), str(error))
            return self._sum(batch)
        proof.calls += 1
        if proof.calls < EVERY:
            return self._sum(batch)
        proof.calls = 0
        return self._watched(batch)

    def _sum(self, batch: Batch) -> ClippedSum:
        if isinstance(self._engine, BookKeeping):
            try:
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

    def _examine(self, batch: Batch) -> None:
        """Before a batch that is larger than any before it: whether the model keeps something of a
        batch, and, for book-keeping, whether it mixes the units of one.

        It finds what no rule can see: code that mixes the examples of a batch, or puts them
        elsewhere than first. One example alone, or equal ones, prove nothing.

        Raises TaskError for a model that keeps something, Unsupported if book-keeping, where that
        is the form, is wrong for it.
        """
        losses = refuse_memory(self.model, self.loss, batch.inputs, batch.targets)
        seen, rows = bool((losses != losses[:1]).any()), len(batch.targets)
        if isinstance(self._engine, BookKeeping):
            model = twin(self.model)
            exact = BookKeeping(model, self.loss)  # 16 bits would hide small differences
            bound = self._compare(exact, batch)
            seen = seen and bound is not None
            usual = replace(batch, clipping=Clipping(bound or 1.0))
            rows = self._largest(rows)
            larger = repeated_rows(usual, rows)
            if mixes_in_smaller(exact, usual) or mixes_in_company(exact, larger):
                raise Unsupported("the model mixes the examples of a batch")
        if seen:
            _proofs[self.model] = _Proof(self._signature(), rows)

    def _largest(self, rows: int) -> int:
        """As large as a draw of Poisson will hardly be, once this one came: a batch above it would
        be examined anew. One is odd if the other is even."""
        larger = rows + 3 * math.isqrt(rows) + 9
        if self.largest is not None:
            larger = max(rows, min(larger, self.largest))
        return larger if larger == rows or (larger - rows) % 2 else larger - 1

    def _compare(self, engine: BookKeeping, batch: Batch) -> float | None:
        """The median norm, if several gradients were found equal to autograd's, example by example.

        Raises Unsupported for one that isn't.
        """
        rows = slice(0, _PROBES)
        inputs, targets = select(batch.inputs, rows), batch.targets[rows]
        with evaluating(engine.model):
            loop = Loop(engine.model, self.loss)
            norms = loop.clipped_sum(inputs, targets, None, len(targets), Clipping(1.0)).norms
            known = norms[torch.isfinite(norms) & (norms > 0)]
            bound = float(known.median()) if len(known) else 1.0
            few = Batch(inputs, targets, None, len(targets), Clipping(bound))
            wanted, found = loop._clipped_sum(few), engine._clipped_sum(few)
        error = sum(
            float((one - other).square().sum())
            for one, other in zip(wanted.gradients, found.gradients, strict=True)
        )
        same = torch.allclose(wanted.norms, found.norms, rtol=AGREES, atol=AGREES * bound)
        if not same or not error**0.5 <= AGREES * bound * len(targets):
            raise Unsupported("the model mixes the examples of a batch")
        return bound if len(known) > 1 else None

    def _watched(self, batch: Batch) -> ClippedSum:
        """The sum, and whether a copy of the model still gives a half of the units the same in
        other company, and all of them the same again after that.

        Raises TaskError if not: what was proven doesn't hold, and nothing of this round leaves.
        """
        device, state = batch.targets.device, random_state(batch.targets.device)
        model = twin(self.model)
        result = self._sum(batch)
        engine = type(self._engine)(model, self.loss, self.context)
        only = half(batch.count, int(torch.randint(1 << 31, (), generator=_CHOICE)), device)
        with forked(device):
            restore_random_state(device, state)
            other = engine.sum_of(other_company(batch, only))
            restore_random_state(device, state)
            again = engine.sum_of(replace(batch, only=only))
        if not repeated(result, again):
            raise TaskError(
                f"the model or its loss keeps something of a batch, by which later ones change; "
                f"{_MEND}"
            )
        if differ(again, other, batch, only) and differs_in_company(engine, batch, only):
            raise TaskError(f"the model mixes the examples of some batches and not of all; {_MEND}")
        return result
