"""The choice of a form for a model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
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
from wardround.client.gradients.per_layer import trainable
from wardround.common.errors import TaskError
from wardround.common.model.torch_state import is_out_of_memory
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


def _opacus(model: nn.Module, loss: Loss, context: Context) -> UnitGradients:
    """Opacus's samples. It takes seconds to import, and would set up the root logger."""
    root, guard = logging.getLogger(), logging.NullHandler()
    root.addHandler(guard)
    try:
        from wardround.client.gradients.sampled import Sampled
    finally:
        root.removeHandler(guard)
    return Sampled(model, loss, context)


_Make = Callable[[nn.Module, Loss, Context], UnitGradients]
_FORMS: dict[str, tuple[_Make, ...]] = {
    "auto": (BookKeeping, Functional, _opacus, Loop),
    "own": (BookKeeping, Functional),
    "opacus": (_opacus,),
    "bookkeeping": (BookKeeping,),
    "functional": (Functional,),
    "loop": (Loop,),
}
FORMS = tuple(_FORMS)
_RECURRENT_FIRST = (BookKeeping, _opacus, Functional, Loop)
"""Where torch's own recurrent layers are trained: ``vmap`` takes longer for an LSTM, and can't do
the others."""
_OTHERWISE = {
    "own": "set privacy.engine = 'opacus', or 'auto'",
    "opacus": "set privacy.engine = 'auto', which has slower forms for such models",
    "bookkeeping": "use form 'auto', which has slower forms for such models",
}


def make_unit_gradients(
    model: nn.Module, loss: Loss, form: str = "auto", context: Context = nullcontext
) -> UnitGradients:
    """The engine for a model and a loss, which gives one loss per example.

    Parameters
    ----------
    form : 'auto' takes book-keeping if every trainable parameter belongs to a layer that has such a
        form, else ``vmap``, else Opacus's samples, else a loop over units. 'own' takes one of the
        first two, 'opacus' the third. 'bookkeeping', 'functional' (``vmap``) and 'loop' ask for one
        form, which is taken as it is
    context : makes what forward and loss are computed in; what is found out of the model, is found
        out without

    The first three hold a form against autograd on three examples before they trust it, look
    whether the model mixes units at the sizes that training has (``company.py``), and log a warning
    once, which names the module, when a slower form is taken. Whatever the form, a model that keeps
    something of a batch is refused (``memory.py``). One batch of ``EVERY`` is looked at again.

    Raises TaskError for a model that can't be bounded per unit, naming the module and the mend;
    with a form asked for, also for a module that this form can't do.
    """
    refuse_mixing(model)
    if not any(p.requires_grad for p in model.parameters()):
        raise TaskError("the model has no trainable parameter; set requires_grad on some")
    if form not in _FORMS:
        raise ValueError(f"form {form!r}: one of {', '.join(FORMS)}")
    if form in ("functional", "loop"):
        return (Functional if form == "functional" else Loop)(model, loss, context)
    if form == "bookkeeping":
        return _Strict(model, loss, context)
    return _Chosen(model, loss, context, form)


class _Strict(UnitGradients):
    """Book-keeping or a TaskError."""

    form = "bookkeeping"

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        super().__init__(model, loss, context)
        try:
            self._engine = BookKeeping(model, loss, context)
        except Unsupported as error:
            raise _refusal(error, self.form) from None

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        try:
            return self._engine._clipped_sum(batch)
        except Unsupported as error:
            raise _refusal(error, self.form) from None


def _refusal(reason: Unsupported | str, form: str) -> TaskError:
    return TaskError(f"{reason}; {_OTHERWISE[form]}")


@dataclass
class _Proof:
    """What was seen of a model.

    signature : the names of its trained parameters and the mode of every module, as it was seen
    form : of its gradients
    rows : the largest batch that was compared
    calls : batches since the last comparison
    """

    signature: _Signature
    form: str
    rows: int
    calls: int = 0


@dataclass(frozen=True)
class _Choice:
    """Which form was taken, by its place among the choice's, for trained parameters of these names,
    and why none before it."""

    names: tuple[str, ...]
    place: int
    why: str


_proofs: WeakKeyDictionary[nn.Module, _Proof] = WeakKeyDictionary()
_choices: WeakKeyDictionary[nn.Module, dict[str, _Choice]] = WeakKeyDictionary()
"""By the name of the choice. What a model's first batch has shown is told once."""


class _Chosen(UnitGradients):
    """The first of some forms that fits; goes to the next one when a form finds that it doesn't."""

    def __init__(self, model: nn.Module, loss: Loss, context: Context, choice: str) -> None:
        super().__init__(model, loss, context)
        self._engine: UnitGradients
        self._choice, self._place = choice, 0
        self._transformable = False
        """Whether ``vmap`` has once worked: then its errors are the caller's."""
        known = _choices.get(model, {}).get(choice)
        if known is not None and known.names == self._signature()[0]:
            self._why = known.why
            self._take(known.place)
        else:
            self._why = ""
            self._take(0)

    def _take(self, place: int, reason: str = "") -> None:
        """The first form that fits from this one on, and why. Raises TaskError if there is none."""
        forms, new = _FORMS[self._choice], [reason] if reason else []
        recurrent = (one for one in self.model.modules() if isinstance(one, nn.RNNBase))
        if self._choice == "auto" and any(trainable(one) for one in recurrent):
            forms = _RECURRENT_FIRST
        for number in range(place, len(forms)):
            try:
                self._engine = forms[number](self.model, self.loss, self.context)
            except Unsupported as error:
                new.append(str(error))
                continue
            self._place, self.form = number, self._engine.form
            break
        else:
            raise _refusal("; ".join([self._why, *new] if self._why else new), self._choice)
        if new:
            told = "; ".join(new)
            log.warning("%s; its clipped gradients take a slower form (%s)", told, self.form)
            self._why = f"{self._why}; {told}" if self._why else told
            found = _choices.setdefault(self.model, {})
            found[self._choice] = _Choice(self._signature()[0], self._place, self._why)
            _proofs.pop(self.model, None)

    def _signature(self) -> _Signature:
        names = tuple(name for name, _ in self.parameters)
        return names, tuple(module.training for module in self.model.modules())

    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        while True:
            try:
                proof = self._proof(batch)
                if proof is None:
                    self._examine(batch)
                    return self._sum(batch)
                proof.calls += 1
                if proof.calls < EVERY:
                    return self._sum(batch)
                proof.calls = 0
                return self._watched(batch)
            except Unsupported as error:
                self._take(self._place + 1, str(error))

    def _proof(self, batch: Batch) -> _Proof | None:
        """What was seen of the model, if it is enough for this batch."""
        proof = _proofs.get(self.model)
        if proof is None or proof.signature != self._signature() or proof.form != self.form:
            return None
        return proof if proof.rows >= len(batch.targets) else None

    def _sum(self, batch: Batch) -> ClippedSum:
        """Raises Unsupported where ``vmap`` can't transform the model; no number is drawn then."""
        trying = isinstance(self._engine, Functional) and not self._transformable
        state = torch.get_rng_state() if trying else None
        try:
            result = self._engine._clipped_sum(batch)
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            if not trying or (isinstance(error, RuntimeError) and is_out_of_memory(error)):
                raise
            if state is not None:
                torch.set_rng_state(state)
            log.debug("vmap: %s", error)
            raise Unsupported("vmap can't transform the model") from None
        self._transformable = self._transformable or trying
        return result

    def _examine(self, batch: Batch) -> None:
        """Before a batch that is larger than any before it: whether the model keeps something of a
        batch, and, for a form that takes all units together, whether it mixes the units of one.

        It finds what no rule can see: code that mixes the examples of a batch, or puts them
        elsewhere than first. One example alone, or equal ones, prove nothing.

        Raises TaskError for a model that keeps something, Unsupported if such a form is wrong for
        it.
        """
        losses = refuse_memory(self.model, self.loss, batch.inputs, batch.targets)
        seen, rows = bool((losses != losses[:1]).any()), len(batch.targets)
        if self._engine.together:
            # in float32: 16 bits would hide small differences
            exact = type(self._engine)(twin(self.model), self.loss)
            bound = self._compare(exact, batch)
            seen = seen and bound is not None
            usual = replace(batch, clipping=Clipping(bound or 1.0))
            rows = self._largest(rows)
            larger = repeated_rows(usual, rows)
            if mixes_in_smaller(exact, usual) or mixes_in_company(exact, larger):
                raise Unsupported("the model mixes the examples of a batch")
        if seen:
            _proofs[self.model] = _Proof(self._signature(), self.form, rows)

    def _largest(self, rows: int) -> int:
        """As large as a draw of Poisson will hardly be, once this one came: a batch above it would
        be examined anew. One is odd if the other is even."""
        larger = rows + 3 * math.isqrt(rows) + 9
        if self.largest is not None:
            larger = max(rows, min(larger, self.largest))
        return larger if larger == rows or (larger - rows) % 2 else larger - 1

    def _compare(self, engine: UnitGradients, batch: Batch) -> float | None:
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
            sampler = ", or a grad sampler is wrong" if self.form == "opacus" else ""
            raise Unsupported(f"the model mixes the examples of a batch{sampler}")
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
