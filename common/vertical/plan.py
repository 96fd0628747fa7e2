"""What all parties of a vertical model know from the settings."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wardround.common.settings import VerticalOptions
from wardround.common.tasks.linked.options import LinkedOptions

_FINE = 13
"""Bits: 8 below a deviation, 2 above, 3 for what up to 64 rests tell together."""


@dataclass(frozen=True)
class Plan:
    """Parties, columns and limits.

    parties : those with columns, ordered
    holder : of them the one with the outcome
    columns : of each party its inputs, as ``LinkedRows.columns`` has them
    categories : of each input which category of its party it is a level of; -1 of numbers
    outcome : what is predicted
    """

    options: VerticalOptions
    parties: tuple[str, ...]
    holder: str
    columns: tuple[tuple[str, ...], ...]
    categories: tuple[tuple[int, ...], ...]
    outcome: str

    @classmethod
    def of(cls, options: VerticalOptions, task: LinkedOptions) -> Plan:
        """Of settings that ``check_joint`` has passed."""
        assert task.holder is not None
        parties = tuple(name for name in task.names if name != options.dealer)
        columns, categories = [], []
        for name in parties:
            own = task.parties[name]
            levels = [
                (f"{column}={text}", place)
                for place, (column, texts) in enumerate(own.categorical.items())
                for text in texts[1:]
            ]
            columns.append((*own.numeric, *(level for level, _ in levels)))
            categories.append((*(-1 for _ in own.numeric), *(place for _, place in levels)))
        holder = task.parties[task.holder]
        outcome = holder.outcome or f"{holder.time}, {holder.event}"
        return cls(options, parties, task.holder, tuple(columns), tuple(categories), outcome)

    @property
    def position(self) -> int:
        """Of the outcome's holder."""
        return self.parties.index(self.holder)

    @property
    def width(self) -> int:
        """Of all inputs."""
        return sum(map(len, self.columns))

    def bits(self, name: str, persons: int) -> float:
        """What linear sums say of each column of a party to who has the others, at most: one with
        numbers is told to 1/256 of its deviation, at several points with other rests (``_FINE``);
        counts spread as the root of the persons."""
        spread = 2 + math.log2(max(persons, 2)) / 2
        fine = coarse = 0
        for other, categories in zip(self.parties, self.categories, strict=True):
            if other != name:
                fine += categories.count(-1)
                coarse += len(categories) - categories.count(-1)
        if name != self.holder:
            fine += self.options.model == "linear"
            coarse += self.options.model != "linear"
        return fine * _FINE + coarse * spread

    def rows(self, persons: int) -> int:
        """Padded."""
        padded = self.options.padded
        return -(-persons // padded) * padded

    def points(self, persons: int, inputs: int) -> int:
        """The most gradients that may be opened: altogether no more numbers than persons.

        Beside them two symmetric matrices of inputs and 1 are opened, and sums with the outcome.
        """
        size = inputs + 1
        fixed = size * (size + 1) + size + 2
        return min(self.options.iterations, max(0, persons - fixed) // size)
