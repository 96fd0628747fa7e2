"""What is to be predicted, as each model has it; looked at by the party that has it, alone."""

from __future__ import annotations

import numpy as np

from wardround.common.errors import JointRefused
from wardround.common.settings import VerticalOptions
from wardround.common.tasks.linked.rows import LinkedRows
from wardround.common.vertical.ring import Reals
from wardround.common.vertical.rows import LEFT_OUT, TWO_VALUED, scaled

_MOST = 2.0**20
"""Of a count."""


def outcome_of(rows: LinkedRows, options: VerticalOptions) -> Reals | None:
    """Of n linked rows: (n,); of counts (1, n), of time and event (2, n). None where the party has
    none. Raises DataError by place, JointRefused where the model can't be of it."""
    if rows.own.time is not None:
        return _survival(rows, options)
    if rows.own.outcome is None:
        return None
    outcome = rows.outcome
    if options.model == "logistic":
        if not np.isin(outcome, (0.0, 1.0)).all():
            raise JointRefused("the outcome isn't two-valued, as model = 'logistic' needs it")
        _check_few(min(float(outcome.sum()), float(len(outcome) - outcome.sum())), options)
    elif options.model == "linear":
        (kind,) = scaled([outcome], len(outcome), 1).kinds
        if kind == LEFT_OUT:
            raise JointRefused("the outcome is the same of all linked persons")
        if kind == TWO_VALUED:  # sums with it would be counts that nobody has tested
            raise JointRefused("the outcome is two-valued: take model = 'logistic'")
    elif options.model == "poisson":
        if not ((outcome >= 0) & (outcome <= _MOST) & (outcome % 1 == 0)).all():
            raise JointRefused("the outcome isn't a count, as model = 'poisson' needs it")
        _check_few(float((outcome > 0).sum()), options)
        return outcome[None]
    return outcome


def _survival(rows: LinkedRows, options: VerticalOptions) -> Reals:
    found: Reals = np.stack([rows.time, rows.event])
    if not np.isfinite(found).all():
        raise JointRefused("the outcome has a time that is no finite number")
    _check_few(float(found[1].sum()), options)
    return found


def _check_few(persons: float, options: VerticalOptions) -> None:
    if persons < options.smallest_cell:
        raise JointRefused("the outcome has a group of too few persons")
