"""Inputs of examples: a tensor, or rows that lie in a file and are read when they are asked for.

Whoever needs all of them as one tensor must say what it does where there is none: mypy asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.int64]
SPAN_BYTES = 32 << 20
_FLOAT_BYTES = 4


class StoredInputs(Protocol):
    """N inputs of one shape that aren't in memory. What ``take`` gives has the bits that a tensor
    of the same inputs would have; it may be called by several threads."""

    @property
    def dtype(self) -> torch.dtype:
        """Of what ``take`` gives."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N, and the shape of an input."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> Tensor:
        """The inputs at these positions, in that order. Raises DataError if they can't be read."""

    def select(self, rows: Rows) -> StoredInputs:
        """These rows in that order, none of which is read."""


Inputs = Tensor | StoredInputs


def taken(inputs: Inputs, rows: Rows) -> Tensor:
    """The inputs at these positions, in that order, as copies."""
    if isinstance(inputs, Tensor):
        return inputs.index_select(0, torch.from_numpy(np.ascontiguousarray(rows, dtype=np.int64)))
    return inputs.take(rows)


def piece(inputs: Inputs, rows: slice) -> Tensor:
    """``inputs[rows]``, from a start to a stop within them."""
    if isinstance(inputs, Tensor):
        return inputs[rows]
    return inputs.take(np.arange(rows.start, rows.stop, dtype=np.int64))


def in_spans(
    inputs: Inputs, start: int = 0, stop: int | None = None, most: int | None = None
) -> Iterator[slice]:
    """All rows, or those from ``start`` to ``stop``, in order: large ones so few at a time that
    they take no more than ``SPAN_BYTES`` as float32, whether they are in memory or not.

    most : rows at a time
    """
    stop = len(inputs) if stop is None else stop
    few = max(1, SPAN_BYTES // (_FLOAT_BYTES * max(1, width(inputs))))
    few = few if most is None else min(most, few)
    for first in range(start, stop, few):
        yield slice(first, min(first + few, stop))


def selected(inputs: Inputs, rows: Rows) -> Inputs:
    """These rows: of a tensor copies, else none is read."""
    return taken(inputs, rows) if isinstance(inputs, Tensor) else inputs.select(rows)


def width(inputs: Inputs) -> int:
    """Numbers in an input."""
    return math.prod(inputs.shape[1:])


def joined(
    parts: Sequence[Inputs],
    dtype: torch.dtype,
    convert: Callable[[Tensor], Tensor] = lambda part: part,
) -> Inputs:
    """All parts' rows one after the other; a tensor where every part is one.

    convert : makes rows of any part ones of ``dtype``, row by row
    """
    if len(parts) == 1 and parts[0].dtype == dtype:
        return parts[0]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) == len(parts):
        return torch.cat([convert(part) for part in tensors])
    return _Joined(parts, dtype, convert)


class _Joined:
    """Several inputs as one; a part's rows are asked of it."""

    def __init__(
        self, parts: Sequence[Inputs], dtype: torch.dtype, convert: Callable[[Tensor], Tensor]
    ) -> None:
        self._parts, self._convert, self.dtype = parts, convert, dtype
        self._ends = np.cumsum([len(part) for part in parts])
        self._rows = np.arange(int(self._ends[-1]), dtype=np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self), *self._parts[0].shape[1:])

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Rows) -> Tensor:
        own = self._rows[rows]
        found = torch.empty((len(own), *self.shape[1:]), dtype=self.dtype)
        which = np.searchsorted(self._ends, own, side="right")
        for number in np.unique(which):
            places = np.flatnonzero(which == number)
            first = int(self._ends[number]) - len(self._parts[number])
            values = self._convert(taken(self._parts[number], own[places] - first))
            found[torch.from_numpy(places)] = values
        return found

    def select(self, rows: Rows) -> _Joined:
        part = _Joined(self._parts, self.dtype, self._convert)
        part._rows = self._rows[rows]
        return part
