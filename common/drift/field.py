"""One thing that is counted, and where its places lie, from a model's schema alone.

Of numbers the places are bins between ``cuts``; of categories the texts that the model knows. Two
more follow in each: what is odd (a category that the model never met, a cell that is no number) and
what is missing. So places don't depend on rows, and counts of any rows can be added and compared.

A number's cuts lie around its median (mean, where none was agreed), at +- std times powers of two
from 1/64 to 16: fine in the middle, for a column whose deviation a few far values make; wide
outside, where a wrong unit lands. Without a scale (``normalise`` isn't ``federated``) they are the
same for any column: 16 in each power of ten.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from wardround.common.tasks.schema import PAIRS, Input, Output, Schema

Role = Literal["input", "score", "outcome"]
Ints = NDArray[np.int64]
ODD, MISSING = -2, -1
"""The last two places of every field: what the model doesn't know, and what isn't there."""
TWO = ("0", "1")
_POWERS = range(-6, 5)
_LOGITS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
_RISKS = tuple(np.arange(-24, 25) / 4)
_SHARES = (1e-9, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75)
_LEVELS = (1e-9, 0.02, *(number / 20 for number in range(1, 20)), 0.98)
_DECADES, _PER_DECADE = (-6, 9), 16
_TINY = 1e-9


@dataclass(frozen=True)
class Field:
    """What is counted.

    name : of the input's column, of the output, or of the target; of texts and images with what of
        them is measured ('text: tokens')
    cuts : rising; a value at a cut lies above it. Empty for categories
    texts : the categories that are known. Empty for numbers
    """

    role: Role
    name: str
    cuts: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Its name among sums."""
        return f"{self.role}/{quote(self.name, safe='')}"

    @property
    def known(self) -> int:
        """How many places are of values that the model knows."""
        return len(self.texts) if self.texts else len(self.cuts) + 1

    @property
    def size(self) -> int:
        """How many places there are, with odd and missing ones."""
        return self.known + 2

    def of_numbers(self, values: NDArray[np.float64], odd: NDArray[np.bool_] | None = None) -> Ints:
        """N places of N values; NaN is missing.

        odd : cells that are something, and no number
        """
        places = np.searchsorted(np.array(self.cuts), values, side="right").astype(np.int64)
        places[np.isnan(values)] = self.size + MISSING
        if odd is not None:
            places[odd] = self.size + ODD
        return places

    def of_numbered(self, numbers: Ints) -> Ints:
        """N places of N positions in ``texts``; -1 is missing, -2 unknown."""
        unknown = np.where(numbers == -1, self.size + MISSING, self.size + ODD)
        return np.where(numbers >= 0, numbers, unknown).astype(np.int64)

    def counted(self, places: Ints) -> Ints:
        """How many rows are in each place."""
        return np.bincount(places, minlength=self.size).astype(np.int64)

    def place(self, number: int) -> str:
        """What a place holds, in words."""
        if number == self.size + MISSING:
            return "missing"
        if number == self.size + ODD:
            return "a category that the model doesn't know" if self.texts else "no number"
        if self.texts:
            return f"'{self.texts[number]}'"
        below = f"{self.cuts[number]:.4g}" if number < len(self.cuts) else ""
        above = f"{self.cuts[number - 1]:.4g}" if number else ""
        if not below or not above:
            return f"{above} or more" if above else f"under {below}" if below else "a number"
        return f"from {above} to {below}"


def fields_of(schema: Schema) -> tuple[Field, ...]:
    """Inputs, scores and outcomes of a model, in the schema's order.

    >>> from wardround.common.tasks.schema import Input, Schema
    >>> (age,) = fields_of(Schema(task="own", inputs=(Input(name="age", kind="number",
    ...     mean=60.0, std=8.0),)))
    >>> age.key, age.size, age.cuts[10:13]
    ('input/age', 26, (59.875, 60.0, 60.125))
    """
    inputs = [field for one in schema.inputs for field in _of_input(one, schema)]
    # one number of an embedding says nothing; of what a model writes nothing is counted
    counted = [] if schema.kind == PAIRS else [x for x in schema.outputs if x.kind != "text"]
    scores = [_of_output(one) for one in counted]
    return (*inputs, *scores, *_outcomes(schema))


def _of_input(one: Input, schema: Schema) -> Iterable[Field]:
    if one.kind == "number":
        centre = one.mean if one.median is None else one.median
        yield Field("input", one.name, _around(centre, one.std))
    elif one.kind == "binary":
        yield Field("input", one.name, texts=TWO)
    elif one.kind == "category":
        # of a column whose categories nobody agreed on every text is unknown
        yield Field("input", one.name, texts=one.categories or ("",))
    elif one.kind == "text":
        longest = schema.max_length or 512
        lengths = sorted({max(1, round(longest * share)) for share in _LENGTHS})
        yield Field("input", f"{one.name}: tokens", tuple(map(float, lengths)))
        yield Field("input", f"{one.name}: unknown tokens", _SHARES)
    else:
        for what in IMAGE:
            yield Field("input", f"{one.name}: {what}", _LEVELS)


IMAGE = ("brightness", "contrast", "black", "white")
"""What is measured of an image: mean and deviation of its pixels, and shares of the darkest and the
brightest."""
_LENGTHS = (1 / 64, 1 / 32, *(number / 16 for number in range(1, 17)))


def _of_output(one: Output) -> Field:
    if one.kind == "probability":
        return Field("score", one.name, _logits())
    if one.kind == "risk":
        return Field("score", one.name, _RISKS)
    if one.kind == "tags":
        return Field("score", f"{one.name}: tagged", _SHARES)
    return Field("score", one.name, _decades())


GROUPS = (0.0, 0.05, 0.15, 0.35, 0.65, 1.0)
"""Of the probability of a yes-or-no model: among the rows of each group the share of positives is
counted by itself, which is what calibration is."""


def outcome_name(schema: Schema) -> str:
    """What the outcome is called."""
    return "event" if schema.kind == "survival" else schema.target or "class"


def of_group(schema: Schema, group: int) -> Field:
    """Outcomes of the rows with a probability in a group."""
    low, high = GROUPS[group : group + 2]
    name = f"{outcome_name(schema)} at probabilities from {low:g} to {high:g}"
    return Field("outcome", name, texts=TWO)


def _outcomes(schema: Schema) -> Sequence[Field]:
    name = outcome_name(schema)
    if schema.kind == "binary":
        groups = [of_group(schema, group) for group in range(len(GROUPS) - 1)]
        return [Field("outcome", name, texts=TWO), *groups]
    if schema.kind == "multiclass":
        return [Field("outcome", name, texts=schema.classes)]
    if schema.kind == "regression":
        return [Field("outcome", name, _decades())]
    return [Field("outcome", name, texts=TWO)] if schema.kind == "survival" else []


def _around(centre: float | None, std: float | None) -> tuple[float, ...]:
    if centre is None or std is None or not math.isfinite(centre + std):
        return _decades()
    if std == 0:  # a constant: below it, it, above it
        off = _TINY * max(1.0, abs(centre))
        return (centre - off, centre + off)
    steps = [std * 2.0**power for power in _POWERS]
    below, above = [centre - step for step in reversed(steps)], [centre + step for step in steps]
    return tuple(sorted({*below, centre, *above}))


@lru_cache
def _decades() -> tuple[float, ...]:
    low, high = _DECADES
    steps = [
        10.0 ** (number / _PER_DECADE)
        for number in range(low * _PER_DECADE, high * _PER_DECADE + 1)
    ]
    return (*(-step for step in reversed(steps)), 0.0, *steps)


@lru_cache
def _logits() -> tuple[float, ...]:
    found = {sign * one for one in _LOGITS for sign in (-1.0, 1.0)}
    return tuple(1 / (1 + math.exp(-one)) for one in sorted(found))
