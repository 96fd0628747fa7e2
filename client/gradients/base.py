"""What every form of per-unit clipped gradients promises, and the arithmetic they share.

The gradient of a unit (an example, or a patient with all records of the batch) is the sum over its
records of the gradient of the record's loss. It is multiplied by min(1, C / norm), and these are
summed: DP-SGD of Abadi et al. 2016 (1607.00133) without the noise.

Invariants, for every form:

- Adding or removing one unit moves the sum by at most C (1 + 1e-6) in Euclidean norm, plus the
  rounding of the float32 addition itself. Norms that are not taken from the very numbers that are
  summed are rounded up by a bound on their error (``per_layer.py``).
- A unit whose gradient isn't finite adds exactly zero and spoils nothing else.
- Norms and sums are of the same float32 numbers, whatever precision the forward pass has: what it
  leaves in 16 bits is widened before anything is squared or added.
- The model is left as it was found: no hooks, ``.grad``, mode and ``requires_grad`` untouched.

Shapes: B examples in the batch, U units, P parameters, L layers that own a trainable parameter.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wardround.common.errors import TaskError

Loss = Callable[[Tensor, Tensor], Tensor]
Context = Callable[[], AbstractContextManager[Any]]
"""Makes what forward and loss are computed in, such as ``torch.autocast``."""
Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]


class Unsupported(Exception):
    """This form can't do this model; the message says what and where. Another form may."""


@dataclass(frozen=True)
class Clipping:
    """How a unit's gradient is bounded.

    norm : the bound C on a unit's whole gradient. With ``per_layer`` every layer that owns a
        trainable parameter gets C / sqrt(L), so that the whole stays within C; or give one bound
        for each of them, in the order in which their first parameters stand.

    Raises ValueError for a bound that isn't positive and finite.
    """

    norm: float | Sequence[float]
    per_layer: bool = False

    def __post_init__(self) -> None:
        bounds = [self.norm] if isinstance(self.norm, int | float) else list(self.norm)
        if not bounds or not all(0 < bound < math.inf for bound in bounds):
            raise ValueError(f"clipping norm {self.norm}: it must be positive and finite")
        if not isinstance(self.norm, int | float) and not self.per_layer:
            raise ValueError("several clipping norms need per_layer=True")

    def bounds(self, layers: int) -> list[float]:
        """One bound if flat, else L of them. C / sqrt(L) each: their root of squares is C.

        >>> Clipping(1.0, per_layer=True).bounds(4)
        [0.5, 0.5, 0.5, 0.5]
        """
        if not isinstance(self.norm, int | float):
            if len(self.norm) != layers:
                raise ValueError(f"{len(self.norm)} clipping norms for {layers} layers")
            return [float(bound) for bound in self.norm]
        return [self.norm / math.sqrt(layers)] * layers if self.per_layer else [float(self.norm)]


@dataclass(frozen=True)
class ClippedSum:
    """What one batch gives.

    gradients : for each of ``UnitGradients.parameters``, the sum over units of the clipped gradient
    norms : U, each unit's norm before clipping; inf where it isn't finite, never NaN
    losses : B, of each example, detached
    dropped : units whose gradient wasn't finite; they add exactly zero
    """

    gradients: list[Tensor]
    norms: Tensor
    losses: Tensor
    dropped: int


@dataclass(frozen=True)
class Batch:
    """What is asked of a form.

    inputs : B x ..., or a tuple or dict of such, handed to the model as (keyword) arguments
    targets : B x ...
    units : B, int64, the unit of each example, in 0..count-1; None: each example is a unit
    count : U; units without examples have gradient zero
    only : U, bool: which units' gradients are summed; None: all. Norms and losses are of all
    """

    inputs: Inputs
    targets: Tensor
    units: Tensor | None
    count: int
    clipping: Clipping
    only: Tensor | None = None


class UnitGradients(ABC):
    """Sums of clipped gradients of one model.

    form : how: 'bookkeeping', 'functional', 'opacus' or 'loop'; may change at the first call,
        when a form turns out not to fit
    together : whether all examples pass the model together, so that one that mixes them is wrong
    parameters : name and parameter, of those with ``requires_grad``
    largest : no batch has more examples than this, as far as the caller knows
    """

    form: str
    together: bool = False
    largest: int | None = None

    def __init__(self, model: nn.Module, loss: Loss, context: Context = nullcontext) -> None:
        self.model, self.loss, self.context = model, loss, context
        self.parameters: list[tuple[str, nn.Parameter]] = [
            (name, p) for name, p in model.named_parameters() if p.requires_grad
        ]
        self.layer_of = layer_numbers([name for name, _ in self.parameters])
        """For each parameter, the number of its layer, in 0..L-1."""

    @property
    def layers(self) -> int:
        """L."""
        return 1 + max(self.layer_of)

    def clipped_sum(
        self,
        inputs: Inputs,
        targets: Tensor,
        units: Tensor | None,
        count: int,
        clipping: Clipping,
    ) -> ClippedSum:
        """The sum over units of their clipped gradients; the arguments are those of ``Batch``.

        Raises TaskError for a model or loss that can't be bounded per unit, ValueError for
        arguments that don't fit each other.
        """
        size = len(targets)
        check_units(units, size, count)
        clipping.bounds(self.layers)
        refuse_mixing(self.model)
        if size == 0:
            zeros = [torch.zeros_like(p, requires_grad=False) for _, p in self.parameters]
            like = zeros[0]
            return ClippedSum(zeros, like.new_zeros(count), like.new_zeros(0), 0)
        return self._clipped_sum(Batch(inputs, targets, units, count, clipping))

    def sum_of(self, batch: Batch) -> ClippedSum:
        """``clipped_sum`` of a batch that was checked, with B > 0; the sum is over ``only``."""
        return self._clipped_sum(batch)

    @abstractmethod
    def _clipped_sum(self, batch: Batch) -> ClippedSum:
        """``clipped_sum`` for a checked batch with B > 0."""


def layer_numbers(names: list[str]) -> list[int]:
    """For each parameter name, the number of the module that owns it, in order of appearance.

    >>> layer_numbers(["first.weight", "first.bias", "last.weight"])
    [0, 0, 1]
    """
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name.rpartition(".")[0], len(numbers)) for name in names]


def check_units(units: Tensor | None, size: int, count: int) -> None:
    """ValueError unless ``units`` fits B examples and U units."""
    if units is None:
        if count != size:
            raise ValueError(f"{size} examples as their own units, but count is {count}")
    elif units.shape != (size,) or units.dtype != torch.int64:
        raise ValueError(f"units: {units.dtype} of shape {tuple(units.shape)} for {size} examples")
    elif size and not 0 <= int(units.min()) <= int(units.max()) < count:
        raise ValueError(f"units: some are not in 0..{count - 1}")


def refuse_mixing(model: nn.Module) -> None:
    """TaskError for a layer in training mode by which examples of a batch change each other, or
    that changes weights or statistics by them without noise. A bound on one unit's gradient is then
    no bound on its influence, whatever the form."""
    for path, module in model.named_modules():
        where = f"{path or 'the model'} ({type(module).__name__})"
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise TaskError(
                f"{where}: batch normalisation mixes the examples of a batch, so no example's part "
                "can be bounded; use nn.GroupNorm or nn.LayerNorm instead"
            )
        if isinstance(module, nn.modules.instancenorm._InstanceNorm):
            if module.track_running_stats and module.training:
                raise TaskError(
                    f"{where}: its running statistics are released without noise; set "
                    "track_running_stats=False, or use nn.GroupNorm"
                )
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            if module.max_norm is not None or module.scale_grad_by_freq:
                raise TaskError(
                    f"{where}: max_norm and scale_grad_by_freq change weights by what the batch "
                    "holds, without noise; leave them out"
                )


def call_model(model: Callable[..., Any], inputs: Inputs) -> Any:
    """The model's outputs: a tuple gives arguments, a dict keyword arguments."""
    if isinstance(inputs, dict):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def losses_of(
    model: Callable[..., Any],
    loss: Loss,
    inputs: Inputs,
    targets: Tensor,
    context: Context = nullcontext,
) -> Tensor:
    """The loss of each example, with its graph; TaskError unless there is one per example."""
    with context():
        return check_losses(loss(call_model(model, inputs), targets), len(targets))


def select(inputs: Inputs, rows: Tensor | slice) -> Inputs:
    """The given examples of the inputs."""
    if isinstance(inputs, dict):
        return {name: value[rows] for name, value in inputs.items()}
    return tuple(value[rows] for value in inputs) if isinstance(inputs, tuple) else inputs[rows]


def check_losses(losses: Tensor, size: int) -> Tensor:
    """The losses; TaskError unless there is one per example."""
    if losses.shape != (size,):
        raise TaskError(
            f"the loss has shape {tuple(losses.shape)} for a batch of {size}; return one loss per "
            "example"
        )
    return losses


@dataclass(frozen=True)
class Factors:
    """What clipping makes of the norms.

    by_layer : one tensor of U factors if flat, else L of them; zero for dropped units
    norms : U, inf for dropped units
    finite : U, bool; None if all are
    """

    by_layer: list[Tensor]
    norms: Tensor
    finite: Tensor | None
    dropped: int


def clip_factors(squares: list[Tensor], clipping: Clipping, only: Tensor | None = None) -> Factors:
    """min(1, C / norm) from L tensors of U squared norms; 0 for units that aren't in ``only``.

    Flat clipping scales a unit's whole gradient by one factor and keeps its direction; per layer
    each layer is cut to its own share. A unit that isn't finite anywhere gets 0 everywhere.
    """
    total = sum(squares[1:], squares[0])
    finite = torch.isfinite(total)
    norms = total.sqrt()
    dropped = 0 if bool(finite.all()) else len(finite) - int(finite.sum())
    if dropped:
        norms = torch.where(finite, norms, torch.inf)
    found = torch.stack(squares).sqrt() if clipping.per_layer else [norms]
    factors = []
    for bound, norm in zip(clipping.bounds(len(squares)), found, strict=True):
        factor = (bound / norm.clamp_min(1e-30)).clamp_(max=1.0)  # a zero gradient gives 1
        factor = torch.where(finite, factor, 0.0) if dropped else factor
        factors.append(factor if only is None else factor * only)
    return Factors(factors, norms, finite if dropped else None, dropped)
