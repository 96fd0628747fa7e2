"""What every table of ``federation.toml`` has in common, and the types of its keys.

Each key is a ``Field`` with its range and ``description``: what it means, in the words of
``docs/configuration.md``, which is made from here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

DAY_S = 86_400.0
MANY = 1_000_000
"""More rounds, hospitals or attempts than any run has."""

Positive = Annotated[float, Field(gt=0, le=1e12)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0, le=DAY_S)]
PathText = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


class Table(BaseModel):
    """Frozen and strict: unknown keys and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def floats_of(value: object) -> object:
    """Lists of numbers by name, where whole numbers are numbers too."""
    if not isinstance(value, dict):
        return value
    return {
        name: [float(x) if isinstance(x, int) and not isinstance(x, bool) else x for x in one]
        if isinstance(one, list)
        else one
        for name, one in value.items()
    }
