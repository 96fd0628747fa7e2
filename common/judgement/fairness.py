"""Gaps between groups, as fairlearn names and works them out: the largest difference of a rate.

* demographic parity: selection rates;
* equal opportunity: sensitivities (true positive rates);
* equalised odds: sensitivities or false positive rates, whichever differ more.

None is a verdict: where outcomes are more frequent in one group, no model has all of them at zero
(Kleinberg, Mullainathan and Raghavan, ITCS 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wardround.common.figures.figure import is_number

_OF: dict[str, dict[str, tuple[str, ...]]] = {
    "binary": {
        "demographic_parity_difference": ("selection_rate",),
        "equal_opportunity_difference": ("sensitivity",),
        "equalized_odds_difference": ("sensitivity", "false_positive_rate"),
        "auc_difference": ("auc",),
    },
    "multiclass": {"accuracy_difference": ("accuracy",)},
    "regression": {"mae_difference": ("mae",)},
    "survival": {"c_index_difference": ("c_index",)},
}


def gaps(kind: str, blocks: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The gaps between blocks of groups, by name; none of a single block.

    blocks : figures of each

    >>> gaps("multiclass", [{"accuracy": 0.75}, {"accuracy": 0.5}])
    {'accuracy_difference': 0.25}
    """
    if len(blocks) < 2:
        return {}
    return {name: max(_spread(blocks, rate) for rate in rates) for name, rates in _OF[kind].items()}


def _spread(blocks: Sequence[Mapping[str, Any]], rate: str) -> float:
    known = [float(block[rate]) for block in blocks if is_number(block.get(rate))]
    return max(known) - min(known) if known else 0.0
