"""The last step, in which coefficients get the units of their columns, and what is published.

A party tells the scale of each of its inputs and one sum over all of its centres: what anybody can
work out of the coefficients in both scales, which all parties know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from wardround.common.vertical.beginning import Known
from wardround.common.vertical.fitted import Fitted
from wardround.common.vertical.room import Bank, Seat
from wardround.common.vertical.rows import LEFT_OUT, Scaled

TOLD = "vertical.json"
_DIGITS = 6
_AT_HOME = "it is constant, or has a group of too few persons"
_TOGETHER = "a count with another column has too few persons"


def most_characters(width: int) -> int:
    """Of ``TOLD`` of a model with this many inputs, whose names are at most 500 characters long."""
    return 8000 + 4000 * width


def tell(
    seat: Seat,
    known: Known,
    fitted: Fitted,
    inputs: Scaled,
    outcome: tuple[float, float] = (0.0, 1.0),
) -> Any:
    """A party's last step. Gives the texts that are told.

    outcome : (centre, scale) of the outcome, at its holder; elsewhere it isn't looked at
    """
    counts, position = known.counts, seat.position
    start = sum(counts[:position])
    own = inputs.kinds != LEFT_OUT
    centre, scale = inputs.centre[own], inputs.scale[own]
    among = (fitted.kept >= start) & (fitted.kept < start + counts[position])
    mine = fitted.kept[among] - start
    shift = float(np.sum(fitted.coefficients[among] * centre[mine] / scale[mine]))
    holder = known.plan.position
    text = np.concatenate([scale, [shift], outcome if position == holder else []])
    sizes = [count + 1 + 2 * (place == holder) for place, count in enumerate(counts)]
    parts, _ = yield from seat.exchange(text, sizes=sizes)
    scales = np.concatenate([part[:count] for part, count in zip(parts, counts, strict=True)])
    shifts = sum(float(part[count]) for part, count in zip(parts, counts, strict=True))
    mean, unit = (float(value) for value in parts[holder][-2:])
    factor = unit / scales[fitted.kept]
    found = {
        "coefficients": fitted.coefficients * factor,
        "errors": fitted.errors * np.abs(factor),
        "intercept": None
        if fitted.intercept is None
        else mean + unit * (fitted.intercept - shifts),
    }
    return {TOLD: _text(known, fitted, found, seat.rows)}


def deal_tell(bank: Bank) -> Any:
    """The dealer's half."""
    yield from bank.give()


def _text(known: Known, fitted: Fitted, found: Mapping[str, Any], rows: int) -> str:
    plan = known.plan
    kept, errors = dict(zip(fitted.kept.tolist(), found["coefficients"], strict=True)), {}
    errors = dict(zip(fitted.kept.tolist(), found["errors"], strict=True))
    number, coefficients, left_out = 0, [], []
    for party, names, kinds in zip(plan.parties, plan.columns, known.kinds, strict=True):
        for name, kind in zip(names, kinds.tolist(), strict=True):
            here = {"party": party, "column": name}
            place, number = number, number + (kind != LEFT_OUT)
            if kind == LEFT_OUT:
                left_out.append(here | {"why": _AT_HOME})
            elif place in kept:
                told = {
                    "coefficient": _rounded(kept[place]),
                    "standard_error": _rounded(errors[place]),
                }
                coefficients.append(here | told)
            else:
                left_out.append(here | {"why": _TOGETHER})
    text = {
        "version": 1,
        "model": plan.options.model,
        "outcome": {"party": plan.holder, "column": plan.outcome},
        "parties": list(plan.parties),
        "dealer": plan.options.dealer,
        "persons_at_most": rows,
        "coefficients": coefficients,
        "left_out": left_out,
        "ridge": plan.options.ridge,
        "gradients_opened": fitted.points,
        "figures": {name: _rounded(value) for name, value in fitted.figures.items()},
    }
    if found["intercept"] is not None:
        text["intercept"] = _rounded(found["intercept"])
    return json.dumps(text, sort_keys=True)


def _rounded(value: float) -> float:
    """To digits that every machine agrees on."""
    return float(f"{float(value):.{_DIGITS}g}")
