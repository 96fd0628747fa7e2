"""Which examples belong to which unit, in a form that batched arithmetic can use.

Layers see units as blocks: the examples of a unit become a further axis, filled up with zero rows,
so that a patient with R records of T positions is like one example with R T positions. Units of
very different sizes go into several blocks, by powers of two, so that filling at most doubles the
work.

Shapes: B examples, U units, V units of a block, R examples of a unit in a block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Some of the units.

    units : V, their numbers; None if it's all of them, in order
    rows : the examples of these units; None if it's all of them, in order
    slots : position in 0..V R - 1 of each of ``rows``; None if they fill it in order
    """

    units: Tensor | None
    rows: Tensor | None
    slots: Tensor | None
    count: int
    width: int

    def pack(self, x: Tensor) -> Tensor:
        """B x ... to V x R x ..."""
        if self.rows is not None:
            x = x[self.rows]
        if self.slots is not None:
            filled = x.new_zeros(self.count * self.width, *x.shape[1:])
            x = filled.index_copy_(0, self.slots, x)
        return x.reshape(self.count, self.width, *x.shape[1:])


class Groups:
    """The units of one batch.

    Parameters
    ----------
    units : B, int64, in 0..count-1; None: each example is its own unit
    """

    def __init__(self, units: Tensor | None, size: int, count: int) -> None:
        self.units, self.size, self.count = units, size, count
        self._blocks: list[Block] | None = None

    @property
    def blocks(self) -> list[Block]:
        """All units that have examples, each in one block."""
        if self._blocks is None:
            self._blocks = self._split()
        return self._blocks

    @property
    def width(self) -> int:
        """Most examples of a unit."""
        return max(block.width for block in self.blocks)

    def sums(self, x: Tensor) -> Tensor:
        """B x ... to U x ...: sums over each unit's examples."""
        if self.units is None:
            return x
        (first, *others) = self.blocks
        if not others and first.units is None and first.slots is None and first.rows is None:
            return x.reshape(self.count, first.width, *x.shape[1:]).sum(1)
        return x.new_zeros(self.count, *x.shape[1:]).index_add_(0, self.units, x)

    def spread(self, x: Tensor) -> Tensor:
        """U x ... to B x ...: each example gets its unit's value."""
        return x if self.units is None else x[self.units]

    def _split(self) -> list[Block]:
        if self.units is None:
            return [Block(None, None, None, self.count, 1)]
        sizes = torch.bincount(self.units, minlength=self.count)
        widest = int(sizes.max())
        order = torch.argsort(self.units, stable=True)
        ranks = torch.empty_like(order)
        starts = sizes.cumsum(0) - sizes
        ranks[order] = torch.arange(self.size, device=order.device) - starts[self.units[order]]
        if self.count * widest <= 2 * self.size:
            slots = self.units * widest + ranks
            full = self.count * widest == self.size
            if full and torch.equal(slots, torch.arange(self.size, device=slots.device)):
                return [Block(None, None, None, self.count, widest)]
            return [Block(None, None, slots, self.count, widest)]
        blocks, low = [], 1
        while low <= widest:
            chosen = torch.nonzero((sizes >= low) & (sizes < 2 * low))[:, 0]
            if len(chosen):
                width = int(sizes[chosen].max())
                place = torch.full_like(sizes, -1)
                place[chosen] = torch.arange(len(chosen), device=place.device)
                rows = torch.nonzero(place[self.units] >= 0)[:, 0]
                slots = place[self.units[rows]] * width + ranks[rows]
                blocks.append(Block(chosen, rows, slots, len(chosen), width))
            low *= 2
        return blocks
