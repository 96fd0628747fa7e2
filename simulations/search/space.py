"""Where ``wardround tune`` searches: ranges of numbers and choices of anything, by dotted key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from wardround.common.config.overrides import override_value
from wardround.common.errors import ConfigError
from wardround.simulations.search.values import Settings, split_option, split_values

_RANGE = re.compile(r"([-+0-9.eE]+?)\.\.([-+0-9.eE]+)(:.*)?")
_FORM = "write LOW..HIGH, LOW..HIGH:log, or values with commas between them"


class Range(BaseModel):
    """From ``low`` to ``high``, both included; whole numbers if both are. ``log``: evenly spread
    over orders of magnitude.

    >>> from wardround.simulations import Range
    >>> Range(low=8, high=64).whole, Range(low=0.001, high=1.0, log=True).whole
    (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float
    high: int | float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Choice(BaseModel):
    """One of some values, which have no order.

    >>> from wardround.simulations import Choice
    >>> Choice(values=["sgd", "adam"]).values
    ['sgd', 'adam']
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: list[Any]


Space = Mapping[str, Range | Choice]


def read_param(option: str) -> tuple[str, Range | Choice]:
    """The key and the range or choice of ``--param KEY=...``. Raises ConfigError."""
    key, text = split_option("--param", option)
    found = _RANGE.fullmatch(text)
    if found is None:
        if ".." in text and "," not in text:
            raise ConfigError(f"--param {option}: neither a range nor a choice; {_FORM}")
        return key, Choice(values=split_values("--param", key, text))
    low, high = (override_value(found[index]) for index in (1, 2))
    if not all(isinstance(bound, int | float) for bound in (low, high)):
        raise ConfigError(f"--param {option}: a range is from number to number; {_FORM}")
    if found[3] not in (None, ":log"):
        raise ConfigError(f"--param {option}: '{found[3]}' is unknown; {_FORM}")
    return key, Range(low=low, high=high, log=found[3] is not None)


def check_space(space: Space) -> None:
    """Raise ConfigError for a space with nothing to search, by key and mend."""
    if not space:
        raise ConfigError("--param: give at least one, e.g. --param training.lr=0.001..1.0:log")
    for key, one in space.items():
        if isinstance(one, Choice):
            if len(one.values) < 2:
                raise ConfigError(f"--param {key}: one value is no choice; set it with --set")
        elif not one.low < one.high:
            raise ConfigError(f"--param {key}={one.low}..{one.high}: must be from low to high")
        elif one.log and one.low <= 0:
            raise ConfigError(f"--param {key}: a range with :log must begin above 0")


def corners(space: Space) -> list[Settings]:
    """Settings in which each end of each range, and each choice, comes up once or more: the first
    of all, then one key at a time. So a mistake is found before the first trial, by a number of
    checks that grows with the keys and not with their combinations."""
    ends = {
        key: list(one.values) if isinstance(one, Choice) else [one.low, one.high]
        for key, one in space.items()
    }
    first = {key: values[0] for key, values in ends.items()}
    return [first, *(first | {key: v} for key, values in ends.items() for v in values[1:])]
