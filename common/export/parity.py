"""Whether a graph predicts what its model predicts. One that doesn't is never written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wardround.common.errors import ModelRefused
from wardround.common.export.exporter import Arrays, Cases
from wardround.common.export.info import Parity

Run = Callable[[Arrays], Mapping[str, NDArray[Any]]]
_MEND = "keep to the model folder (wardround predict), and report it with the model's settings"


def parity_of(cases: Cases, run: Run, tolerance: float, who: str) -> Parity:
    """How the graph that ``run`` runs compares with the model.

    tolerance : of a probability as it is; of any other number relative to its size, or to the
        output's scale, whichever is larger

    Raises ModelRefused where two predictions differ by more, or one side alone gives none.
    """
    found = run(cases.columns)
    if set(found) != set(cases.predictions):
        raise ModelRefused("the graph has other outputs than the model", who=who, mend=_MEND)
    largest, rounding, rows = 0.0, 0.0, 0
    for name, wanted in cases.predictions.items():
        own = np.asarray(found[name], dtype=np.float64)
        rows = len(wanted)
        if own.shape != wanted.shape or (np.isnan(own) != np.isnan(wanted)).any():
            what = f"the graph predicts '{name}' for other rows than the model does"
            raise ModelRefused(what, who=who, mend=_MEND)
        gaps = differences(own, wanted, cases.scales.get(name))
        largest = max(largest, float(gaps[~np.isnan(wanted)].max(initial=0.0)))
        if name in cases.rounded:
            gaps = differences(own, cases.rounded[name], cases.scales.get(name))
            rounding = max(rounding, float(gaps.max(initial=0.0)))
    if not largest <= tolerance:
        what = f"the graph's predictions differ by {largest:.2g}, more than {tolerance:g}"
        raise ModelRefused(f"no parity: {what}", who=who, mend=_MEND)
    refused = _refused(cases, run, who)
    return Parity(
        rows=rows, refused=refused, largest=largest, tolerance=tolerance, rounding=rounding
    )


def differences(
    own: NDArray[Any], wanted: NDArray[Any], scale: float | None
) -> NDArray[np.float64]:
    """How far apart two predictions of each row are: as they are, or with a scale relative to that
    or to what is wanted, whichever is larger. Equal infinite ones aren't apart."""
    with np.errstate(invalid="ignore"):
        gap = np.where(own == wanted, 0.0, np.abs(own - wanted))
        found: NDArray[np.float64] = (
            gap if scale is None else gap / np.maximum(np.abs(wanted), scale)
        )
    return found


def _refused(cases: Cases, run: Run, who: str) -> int:
    """How many rows the graph gives no prediction for, as it must."""
    rows = max((len(column) for column in cases.refused.values()), default=0)
    if rows and not all(np.isnan(values).all() for values in run(cases.refused).values()):
        what = "the graph predicts for rows that the model refuses"
        raise ModelRefused(f"no parity: {what}", who=who, mend=_MEND)
    return rows
