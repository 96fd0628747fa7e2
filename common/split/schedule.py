"""Which of the linked persons are held out, and which are in which batch.

Both follow from the plan's seed and the number of linked persons, which every party knows; how many
batches, of how many persons each, stands in the plan. So sizes and number of all letters tell the
server nothing of how many persons are linked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import JointRefused
from wardround.common.rng import numpy_generator

Rows = NDArray[np.int64]


class Schedule:
    """Positions among the linked persons, in the order that the parties agree on.

    persons : linked
    batches, size : so many batches, each of so many different persons
    held_out : persons that aren't trained on

    One order of all others after another is drawn, and batches are cut from these on end; where an
    order's rest is too short for a batch, it is left out. So nobody is in a batch twice.

    Raises JointRefused where fewer are left to train on than a batch takes.
    """

    def __init__(self, seed: int, persons: int, batches: int, size: int, held_out: int) -> None:
        if persons < size + held_out:
            raise JointRefused("too few persons are linked for a batch beside those held out")
        order = numpy_generator(seed, "split held out").permutation(persons).astype(np.int64)
        self.held_out: Rows = np.sort(order[:held_out])
        self.training: Rows = np.sort(order[held_out:])
        self.batches, self._seed, self._size = batches, seed, size
        self._in_one_order = len(self.training) // size

    def batch(self, number: int) -> Rows:
        """The persons of a batch, from 0, in the order in which they cross."""
        order, place = divmod(number, self._in_one_order)
        drawn = numpy_generator(self._seed, "split batches", order).permutation(self.training)
        found: Rows = drawn[place * self._size : (place + 1) * self._size]
        return found
