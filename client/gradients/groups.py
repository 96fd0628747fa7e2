"""Which examples belong to which unit, in a form that batched arithmetic can use.

Layers see units as blocks: the examples of a unit become a further axis, filled up with zero rows,
so that a patient with R records of T positions is like one example with R T positions. Units of
very different sizes go into several blocks, by powers of two, so that filling at most doubles the
work.

Shapes: B examples, U units, V units of a block, R examples of a unit in a block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Block:
    """Some of the units.

    units : V, their numbers; None if it's all of them, in order
    rows : the examples of these units; None if it's all of them, in order
    slots : position in 0..V R - 1 of each of ``rows``; None if they fill it in order
    count, width : V and R
    """

    units: Tensor | None
    rows: Tensor | None
    slots: Tensor | None
    count: int
    width: int

    def pack(self, x: Tensor) -> Tensor:
        """B x ... to V x R x ...; places that no example fills are zero, and add nothing to a norm
        or a sum."""
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

    @cached_property
    def sizes(self) -> Tensor:
        """U, examples of each unit."""
        assert self.units is not None
        return torch.bincount(self.units, minlength=self.count)

    @cached_property
    def width(self) -> int:
        """Most examples of a unit."""
        return 1 if self.units is None else int(self.sizes.max())

    @cached_property
    def order(self) -> Tensor | None:
        """The examples, unit after unit; None if they stand so."""
        if self.units is None or bool((self.units[1:] >= self.units[:-1]).all()):
            return None
        return torch.argsort(self.units, stable=True)

    @cached_property
    def starts(self) -> list[int]:
        """Where each unit starts in ``order``, and the end."""
        if self.units is None:
            return list(range(self.size + 1))
        ends: list[int] = self.sizes.cumsum(0).tolist()
        return [0, *ends]

    @property
    def in_order(self) -> bool:
        """Whether the units follow each other, all with equally many examples."""
        return self.order is None and self.count * self.width == self.size

    @cached_property
    def same_unit(self) -> Tensor:
        """B x B, bool: which pairs of examples are of one unit."""
        assert self.units is not None
        return self.units[:, None] == self.units

    @cached_property
    def blocks(self) -> list[Block]:
        """All units that have examples, each in one block."""
        if self.in_order:
            return [Block(None, None, None, self.count, self.width)]
        return self._split()

    def sums(self, x: Tensor) -> Tensor:
        """B x ... to U x ...: sums over each unit's examples."""
        if self.units is None:
            return x
        if self.in_order:
            return x.reshape(self.count, self.width, *x.shape[1:]).sum(1)
        return x.new_zeros(self.count, *x.shape[1:]).index_add_(0, self.units, x)

    def spread(self, x: Tensor) -> Tensor:
        """U x ... to B x ...: each example gets its unit's value."""
        return x if self.units is None else x[self.units]

    def _split(self) -> list[Block]:
        """One block if filling at most doubles it, else a block for the units of 1, of 2 to 3, of 4
        to 7 examples, and so on: none is then wider than twice its narrowest unit."""
        assert self.units is not None
        order = self.order
        if order is None:
            order = torch.arange(self.size, device=self.units.device)
        sizes, widest = self.sizes, self.width
        starts = sizes.cumsum(0) - sizes
        # an example's rank among those of its unit, in the order in which they stand
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(self.size, device=order.device) - starts[self.units[order]]
        if self.count * widest <= 2 * self.size:
            return [Block(None, None, self.units * widest + ranks, self.count, widest)]
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
