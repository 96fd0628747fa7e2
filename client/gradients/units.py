"""What is clipped and what comes out: shared by all forms of computing per-unit gradients.

B examples in a batch, of n units (an example, or a patient with several). A unit's gradient is the
sum of its examples' gradients; the clipped gradients of all units are added up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_TINY = 1e-30


@dataclass(frozen=True)
class Clipping:
    """Each unit's gradient is scaled by min(1, C / its norm).

    norm : C, L2, over all trainable parameters
    per_layer : each module's part is clipped by itself, to C over the root of their number
    """

    norm: float
    per_layer: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.norm < math.inf:
            raise ValueError(f"a clipping norm is positive and finite, not {self.norm}")


@dataclass(frozen=True)
class ClippedSum:
    """The sum over units of their clipped gradients.

    gradients : one tensor per trainable parameter, in the engine's order
    norms : n, before clipping; infinite for a dropped unit
    losses : B, detached
    dropped : units whose gradient was not finite; they are in the sum with exactly zero
    """

    gradients: list[Tensor]
    norms: Tensor
    losses: Tensor
    dropped: int


@dataclass(frozen=True)
class Grouping:
    """Which unit each example belongs to.

    units : B, int64 in 0..count-1; None if every example is its own unit
    """

    units: Tensor | None
    count: int

    @cached_property
    def places(self) -> tuple[Tensor, int]:
        """Each example's position among its unit's (B), and the most that a unit has."""
        assert self.units is not None
        order = torch.argsort(self.units, stable=True)
        sizes = torch.bincount(self.units, minlength=self.count)
        first = torch.repeat_interleave(torch.cumsum(sizes, 0) - sizes, sizes)
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device) - first
        return places, int(sizes.max()) if len(order) else 0

    def stacked(self, values: Tensor) -> Tensor:
        """B x T x d to n x (m T) x d: a unit's examples one after the other, padded with zeros."""
        if self.units is None:
            return values
        places, most = self.places
        padded = values.new_zeros((self.count, most, *values.shape[1:]))
        padded[self.units, places] = values
        return padded.flatten(1, 2)

    def added(self, values: Tensor) -> Tensor:
        """B x ... to n x ...: sums over each unit's examples."""
        if self.units is None:
            return values
        total = values.new_zeros((self.count, *values.shape[1:]))
        return total.index_add_(0, self.units, values)

    def spread(self, values: Tensor) -> Tensor:
        """n to B: each example gets its unit's value."""
        return values if self.units is None else values[self.units]


def factors(norms: Tensor, bound: float) -> Tensor:
    """min(1, C / norm) per unit; 1 for a zero gradient, 0 for one that is not finite."""
    scale = (bound / norms.clamp_min(_TINY)).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), scale, torch.zeros_like(scale))
