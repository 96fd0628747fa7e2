"""A procedure of one's own: the reference interval of a laboratory value, by bisection.

Each step asks all hospitals how many values lie below two places, and nothing else; the next places
follow from the totals, so that every hospital works them out itself. With k steps the interval's
ends are known to the range over 2^k.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from wardround.common.procedures import (
    Asked,
    Config,
    Earlier,
    FinishedModel,
    Parts,
    Procedure,
    Shapes,
    Words,
    fitting_bits,
)
from wardround.common.tasks import Sums, Task

SHARES = np.array([0.025, 0.975])
LEAST = 400
"""Fewest values: ten lie beyond each end then, and its place tells of none of them."""


class Interval(Procedure):
    """Where the middle 95 % of a column's values lie.

    Parameters
    ----------
    column : of numbers
    low, high : what they lie between
    steps : halvings of that, at most
    """

    name = "interval"

    def __init__(self, column: str, low: float, high: float, steps: int) -> None:
        self._column, self._low, self._high, self._steps = column, low, high, steps

    @classmethod
    def of(cls, config: Config, task: Task[Any], model: FinishedModel | None = None) -> Self:
        options = config.procedure.options
        if config.privacy.enabled:
            raise config.error("privacy.unit", "this procedure has no noise", "leave it out")
        try:
            column = str(options["column"])
            low, high = float(options["low"]), float(options["high"])
        except (KeyError, TypeError, ValueError):
            raise config.error(
                "procedure.name", "'interval' needs column, low and high", "name them"
            ) from None
        return cls(column, low, high, cls.planned_steps(config))

    @classmethod
    def planned_steps(cls, config: Config) -> int:
        return int(config.procedure.options.get("steps", 20))

    @property
    def most_steps(self) -> int:
        return self._steps

    def shapes(self, earlier: Earlier) -> Shapes | None:
        return {"values": (1,), "below": (2,)}

    def words(self, earlier: Earlier) -> Words | None:
        if not earlier:
            return None  # how many there are isn't known yet
        return Words(fitting_bits(float(earlier[0]["values"][0])), frozenset(["values", "below"]))

    def sums(self, parts: Parts, earlier: Earlier) -> Sums:
        values = np.concatenate([part.numbers(self._column) for part in parts.values()])
        values = values[~np.isnan(values)]
        middle = self._places(earlier).mean(0)
        below = (values[:, None] <= middle).sum(0)
        return {"values": np.array([float(len(values))]), "below": below.astype(np.float64)}

    def _places(self, earlier: Earlier) -> np.ndarray:
        """Lower and upper bounds of both ends, 2 x 2, after these totals."""
        low, high = np.full(2, self._low), np.full(2, self._high)
        for total in earlier:
            middle = (low + high) / 2
            beyond = total["below"] < SHARES * total["values"][0]
            low, high = np.where(beyond, middle, low), np.where(beyond, high, middle)
        return np.stack([low, high])

    def result(self, earlier: Earlier, asked: Asked) -> Mapping[str, str]:
        if earlier[0]["values"][0] < LEAST:
            found: dict[str, Any] = {"few": True}
        else:
            low, high = self._places(earlier)
            ends = ((low + high) / 2).tolist()
            found = {"from": ends[0], "to": ends[1], "error": float((high - low).max() / 2)}
        return {"interval.json": json.dumps({"column": self._column} | found, indent=1) + "\n"}
