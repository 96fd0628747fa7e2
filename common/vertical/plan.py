"""What all parties of a vertical model know from the settings."""

from __future__ import annotations

from dataclasses import dataclass

from wardround.common.settings import VerticalOptions
from wardround.common.tasks.linked.options import LinkedOptions


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
