"""Do the hospitals' tables fit together? Found out in the first step of the preparation.

Only the names of each hospital's sums are needed. With secure aggregation these come before any sum
is opened: a hospital left out afterwards would be the difference of two sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from wardround.common.errors import RoundFailed
from wardround.common.tasks.base import Fit
from wardround.server.observer import Observer


class Unfit(RoundFailed):
    """Some hospitals can't take part with the others.

    reasons : why, by name
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {why}" for name, why in sorted(reasons.items())))
        self.reasons = dict(sorted(reasons.items()))


class Fits(Protocol):
    """What knows how hospitals fit together by the names of their sums: a task, or a procedure."""

    def fit(self, keys: Mapping[str, frozenset[str]]) -> Fit:
        """As ``Task.fit``."""


def unused_sums(
    task: Fits, keys: Mapping[str, frozenset[str]], observer: Observer
) -> frozenset[str]:
    """The sums that nobody uses, of those that each hospital has, by name; what else was found is
    told. Raises Unfit for hospitals that have to be left out first."""
    fit = task.fit({name: own for name, own in keys.items() if own})
    if fit.unfit:
        raise Unfit(fit.unfit)
    if fit.notes:
        observer.warnings(list(fit.notes))
    return fit.unused
