"""Shapley values of groups of inputs, against rows of a background (interventional).

The value of a set S of groups is the mean output over the background's rows with the groups of S
taken from the row that is explained. Shapley values of it: Lundberg and Lee (NeurIPS 2017); by
drawn orders of the groups and their reverse where there are many: Strumbelj and Kononenko (2014).

Whatever is drawn, the parts of a row add up to its output less the mean output over the background,
up to rounding: each order walks from a background row to the row, and its steps telescope.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Model = Callable[[Floats], Floats]
"""Rows, N x D, to an output of each, N."""
Groups = Sequence[NDArray[np.int64]]
"""Columns of each group."""
MOST_EXACT = 10
_AT_A_TIME = 65_536


def shapley_values(
    model: Model,
    rows: Floats,
    background: Floats,
    groups: Groups,
    *,
    orders: int = 32,
    seed: int = 0,
) -> tuple[Floats, Floats, float]:
    """Parts of each row's output, N x G, their standard errors, N x G, and the mean output over
    the background.

    rows, background : N x D and B x D, B > 0
    orders : drawn for each row, half of them the reverse of the others, each from every row of the
        background; up to ``MOST_EXACT`` groups all sets are taken, and the errors are 0

    Raises ValueError for an empty background.
    """
    if not len(background):
        raise ValueError("a background needs rows")
    base = float(_outputs(model, background).mean())
    exact = len(groups) <= MOST_EXACT
    parts, errors = np.zeros((len(rows), len(groups))), np.zeros((len(rows), len(groups)))
    for number, row in enumerate(rows):
        if exact:
            parts[number] = _exact(model, row, background, groups)
        else:
            generator = np.random.default_rng((seed, number))
            parts[number], errors[number] = _drawn(
                model, row, background, groups, max(2, orders), generator
            )
    return parts, errors, base


def _exact(model: Model, row: Floats, background: Floats, groups: Groups) -> Floats:
    """Over all sets of groups, each by its weight |S|! (G - |S| - 1)! / G!."""
    count = len(groups)
    values = np.empty(1 << count)
    for code in range(1 << count):
        mixed = background.copy()
        for group in range(count):
            if code >> group & 1:
                mixed[:, groups[group]] = row[groups[group]]
        values[code] = _outputs(model, mixed).mean()
    sizes = np.array([code.bit_count() for code in range(1 << count)])
    weights = np.array([factorial(s) * factorial(count - s - 1) for s in range(count)], float)
    weights /= factorial(count)
    parts = np.empty(count)
    for group in range(count):
        without = np.array([code for code in range(1 << count) if not code >> group & 1])
        gains = values[without | (1 << group)] - values[without]
        parts[group] = (weights[sizes[without]] * gains).sum()
    return parts


def _drawn(
    model: Model,
    row: Floats,
    background: Floats,
    groups: Groups,
    orders: int,
    generator: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Means over pairs of an order and its reverse, and the standard errors of these means."""
    pairs = []
    for _ in range((orders + 1) // 2):
        order = generator.permutation(len(groups))
        gains = [_walk(model, row, background, groups, one) for one in (order, order[::-1])]
        pairs.append((gains[0] + gains[1]) / 2)
    found = np.array(pairs)
    errors = found.std(axis=0, ddof=1) / len(found) ** 0.5 if len(found) > 1 else found[0] * np.nan
    return found.mean(axis=0), errors


def _walk(
    model: Model, row: Floats, background: Floats, groups: Groups, order: NDArray[np.int64]
) -> Floats:
    """What each group adds when it is taken from the row next, mean over the background."""
    mixed = background.copy()
    before, gains = _outputs(model, mixed).mean(), np.empty(len(groups))
    for group in order:
        mixed[:, groups[group]] = row[groups[group]]
        after = _outputs(model, mixed).mean()
        gains[group], before = after - before, after
    return gains


def _outputs(model: Model, rows: Floats) -> Floats:
    found = [model(rows[at : at + _AT_A_TIME]) for at in range(0, len(rows), _AT_A_TIME)]
    return np.concatenate(found).astype(np.float64)
